"""The exporter `adapter`: the adapter alone, in PEFT's layout, without anything of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tunesmith import Context, DataError, RecipeError, TunesmithError
from tunesmith.artifact import CARD, PARENT, Line, read_card, read_line
from tunesmith.store import DIGESTS, commit_folder, verify
from tunesmith_export.base import further_files, only_quantized, trained_over
from tunesmith_export.card import front, labelled, measured, public_source, write_mark
from tunesmith_export.settings import AdapterSettings
from tunesmith_export.target import target_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Transformers' class for a head, and how many outputs it has where they are no labels.
HEADS = {
    "scalar": ("SequenceClassification", 1),
    "sequence-labels": ("SequenceClassification", 0),
    "token-labels": ("TokenClassification", 0),
}


def export(artifact: Path, settings: AdapterSettings, context: Context) -> Path:
    """Copy out every file that the adapter saved, and write a model card.

    Raises:
        RecipeError: the folder is taken, or the adapter stands on a merged earlier stage and no base is named.
        TunesmithError: the artifact is damaged, or of a method that has a layout of its own.
        DiskError: the disk is full; what was there before is still there.
    """
    target = target_of("adapter", artifact, settings, context)
    verify(artifact)
    line = read_line(artifact, context.registry)
    method = line.adapter.component.name if line.adapter else "none"
    if not ((artifact / CONFIG).is_file() and (artifact / WEIGHTS).is_file()):
        raise TunesmithError(
            f"the adapter {method!r} is kept in a layout of its own, which other tools do not read",
            where=str(artifact),
            fix="Copy the artifact's folder for use with Tunesmith; methods that merge: --use merge.",
        )
    if line.parent is not None and settings.base is None:
        raise RecipeError(
            "this adapter stands on an earlier stage that was merged into the base; on the base alone it is another "
            "model",
            fix="Export the earlier stage with `merge`, and name that model: --set base=NAME.",
        )
    base = settings.base or public_source(read_card(artifact)["base"]["source"], line)
    config = _config(artifact / CONFIG, base)
    held = only_quantized(line, context)
    if held:
        context.reporter.warn(
            f"this adapter holds over the base in {read_card(artifact)['base']['quantized']} only ({held}); the card "
            "says so"
        )

    def build(folder: Path) -> None:
        for name in (WEIGHTS, *_further(artifact)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / name, folder / name)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_mark(folder, "adapter", artifact, base)
        (folder / "README.md").write_text(_card(artifact, line, method, base, held), encoding="utf-8")

    return commit_folder(target, build)


def _config(path: Path, base: str) -> dict[str, Any]:
    """PEFT's configuration with the public name of the base wherever it names a model or a tokenizer.

    Raises:
        DataError: the file is no JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        named = {key: base for key, value in config.items() if key.endswith("_name_or_path") and value is not None}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{CONFIG} cannot be read: {error}", where=str(path)) from error
    return {**config, **named}


def _further(artifact: Path) -> list[str]:
    """The files that the adapter saved besides those that PEFT reads."""
    own = {CONFIG, WEIGHTS, CARD, DIGESTS, "README.md"}
    names = [path.relative_to(artifact) for path in sorted(artifact.rglob("*")) if path.is_file()]
    return [name.as_posix() for name in names if name.as_posix() not in own and name.parts[0] != PARENT]


def _card(artifact: Path, line: Line, method: str, base: str, held: str) -> str:
    lines = front("peft", base, [method], f"{method} for {base}")
    kind, outputs = HEADS.get(line.head, ("CausalLM", 0))
    outputs = len(line.labels) if line.labels else outputs
    options = f", num_labels={outputs}" if outputs else ""
    lines += [
        f"An adapter in PEFT's layout for `{base}`.",
        *trained_over(line, read_card(artifact)["base"].get("quantized"), held),
        *labelled(line.labels, _config(artifact / CONFIG, base).get("auto_mapping")),
        *further_files(artifact, _further(artifact)),
        "",
        "```python",
        "from peft import PeftModel",
        f"from transformers import AutoModelFor{kind}",
        "",
        f"base = AutoModelFor{kind}.from_pretrained({json.dumps(base)}{options}{', ...' * bool(held)})"
        + "  # quantized as above, or the answers are wrong" * bool(held),
        'model = PeftModel.from_pretrained(base, "this/folder")',
        "```",
    ]
    return "\n".join([*lines, *measured(artifact)]) + "\n"
