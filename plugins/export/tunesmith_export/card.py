"""What an export says about itself: a model card for people, and a file that programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tunesmith
from tunesmith.artifact import Line, read_card
from tunesmith.labels import Labels
from tunesmith_export.target import MARK


def public_source(source: str, line: Line) -> str:
    """A base model's name without the place of this machine where it lies."""
    path = Path(source).expanduser()
    local = path.is_absolute() or source.startswith((".", "~")) or (line.folder / path).exists()
    return path.name or "base" if local else source


def write_mark(folder: Path, exporter: str, artifact: Path, base: str) -> None:
    """Write `export.json`: what made the folder, from which run."""
    card = read_card(artifact)
    origin = {key: card[key] for key in ("run", "stage", "fingerprint", "created", "combined") if key in card}
    content = {
        "exporter": exporter,
        "tunesmith": tunesmith.__version__,
        "base": {"source": base, "digest": card["base"]["digest"], "quantized": card["base"].get("quantized")},
        "artifact": without_paths(origin),
    }
    (folder / MARK).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_paths(value: Any) -> Any:
    """Plain data with every absolute path cut to its last part."""
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def front(library: str, base: str, tags: Sequence[str], title: str) -> list[str]:
    """The head of a card, in the hub's form."""
    return [
        "---",
        f"library_name: {library}",
        f"base_model: {json.dumps(base)}",
        f"tags: [{', '.join(tags)}]",
        "---",
        f"# {title}",
        "",
    ]


def labelled(labels: Labels | None, mapping: Mapping[str, Any] | None) -> list[str]:
    """What the head tells apart, and whether another class than Transformers' own reads the text, as lines of a card.

    Args:
        mapping: `base_model_class` names the class of the model that was tuned, where that is known.
    """
    if labels is None:
        return []
    lines = ["", f"Labels, in the order of its outputs: {', '.join(f'`{name}`' for name in labels.names)}."]
    if str((mapping or {}).get("base_model_class", "")).startswith("Pooled"):
        lines += [
            "",
            "**Its head reads texts that are summed up in another way than Transformers' own class does it** "
            "(`pooling` of the model source, see `classifier_pooling`): load it with Tunesmith, or sum up the base "
            "model's last hidden states likewise before the head.",
        ]
    return lines


def measured(artifact: Path) -> list[str]:
    """The table of measures out of the artifact's own card."""
    path = artifact / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    table = [line for line in lines if line.startswith("|")]
    return ["", "Measured on held-out rows, before the export:", "", *table] if len(table) > 2 else []
