"""What an adapter needs of its base besides the name: how it was quantized, what the method's own files say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith import Context, RecipeError
from tunesmith.artifact import Line, adapt
from tunesmith.context import SilentReporter
from tunesmith.errors import PluginError
from tunesmith.guard import guarded
from tunesmith.recipe import plain
from tunesmith.spec import Model
from tunesmith_export.card import without_paths

#: Files up to this size, in bytes, are shown in the card.
SHOWN = 4096


def only_quantized(line: Line, context: Context) -> str:
    """Why an adapter cannot stand on the dense base, in the method's words; empty where it can.

    The method is asked on a model without weights, so that the dense base need not fit into memory. Where the source
    makes none, or the method needs weights to answer, nothing is known and the answer is empty.
    """
    use = line.model
    if not (line.quantizer and line.adapter and use and isinstance(use.component, Model) and use.component.skeleton):
        return ""
    context = context.with_(folder=line.folder, reporter=SilentReporter(), fresh=False, labels=line.labels)
    with guarded(use):
        handle = use.component.resolve("skeleton")(use.settings, context, line.head)
    try:
        adapt(replace(handle, quantized=None), line.adapter, context)
    except RecipeError as error:
        return error.what
    except PluginError:
        return ""
    return ""


def trained_over(line: Line, quantized: str | None, held: str) -> list[str]:
    """How the base was quantized while the adapter was trained, as lines of a card.

    Args:
        held: why the adapter cannot stand on the dense base, if it cannot.
    """
    if not quantized:
        return []
    if line.quantizer is None:
        return [f"It was trained over the base in `{quantized}`, as the base's own files hold it."]
    settings = without_paths(plain(line.quantizer.settings))
    told = ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in settings.items())
    name = line.quantizer.component.name
    lines = [
        f"It was trained over the base in `{quantized}`: quantized while loading by `{name}` of "
        f"{line.quantizer.distribution} {line.quantizer.version}{f', with {told}' if told else ''}."
    ]
    if held:
        return [*lines, f"**It holds over that base only, not over the dense one:** {held}."]
    return [*lines, "The code below loads the dense base, on which its answers differ; quantize the base likewise."]


def further_files(artifact: Path, names: Sequence[str]) -> list[str]:
    """What the method's own files are and say, as lines of a card."""
    if not names:
        return []
    listed = ", ".join(f"`{name}`" for name in names)
    lines = [
        "",
        f"The method keeps more than PEFT reads: {listed}. What these files say of the model (its positions, say) "
        "is not done by the code below; without it the model may be another one.",
    ]
    for name in names:
        path = artifact / name
        if path.suffix == ".json" and path.stat().st_size <= SHOWN:
            lines += ["", f"`{name}`:", "", "```json", path.read_text(encoding="utf-8").strip(), "```"]
    return lines
