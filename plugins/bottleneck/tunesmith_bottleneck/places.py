"""Where bottlenecks go: the last linear layer of the self-attention and of the feed-forward, in every block.

Blocks are the elements of the model's outermost lists of modules that hold attention. In a block the parts are
known by the names on the way to a linear layer, and by widths: what leaves a sub-layer is added to what entered
it, so both output projections have the hidden size. What is not certain is refused, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from tunesmith import RecipeError

ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)
#: Attention to another sequence; neither paper puts a bottleneck there.
CROSS = re.compile(r"cross|enc(oder)?_?(dec|attn)", re.IGNORECASE)
FEED_FORWARD = re.compile(
    r"mlp|ffn|feed_?forward|^ff(_|$)|^fc_?\d?$|^Dense(Relu|Gated|Act)|^(intermediate|output)$", re.IGNORECASE
)
EXPERTS = re.compile(r"experts|sparse_?moe", re.IGNORECASE)
#: Names of an attention's output projection. Needed since some families make it before the others (Phi-3).
OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "Wo", "wo", "o")
#: torch's own attention multiplies by this layer's weight without calling it, so that nothing can stand behind it.
NEVER_CALLED = "NonDynamicallyQuantizableLinear"


@dataclass(frozen=True)
class Place:
    """A linear layer behind which a bottleneck goes.

    Args:
        name: the layer's full name in the model.
        width: what it puts out, in units: the hidden size.
    """

    name: str
    layer: nn.Module
    width: int
    part: Literal["attention", "feed-forward"]


def find_places(model: Any) -> list[Place]:
    """Both places of every block, in the model's order.

    Args:
        model: an unadapted decoder or encoder.

    Raises:
        RecipeError: the model has no such blocks, or one of them has no certain place.
    """
    found: list[Place] = []
    for name, block in _blocks(model):
        linear = {
            rest: module
            for rest, module in block.named_modules()
            if _width(module) is not None and "adapter" not in rest  # X-MOD has adapters of its own behind its layers
        }
        attention = _attention_output(model, name, linear)
        feed_forward = _feed_forward_output(model, name, block, linear, _width(linear[attention]))
        for part, rest in (("attention", attention), ("feed-forward", feed_forward)):
            width = _width(linear[rest])
            assert width is not None
            found.append(Place(f"{name}.{rest}", linear[rest], width, part))  # type: ignore[arg-type]
    return found


def find_norms(model: Any, places: list[Place]) -> dict[str, Any]:
    """The layer norms over the hidden size with parameters, by full name; those of the output head stay out.

    Norms of another width are no layer norms of the block (Qwen 3 norms each head's queries and keys).
    """
    widths = {place.width for place in places}
    body = getattr(model, "base_model", model)  # of Transformers: the model without its head
    inside = {id(module) for module in body.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if id(module) in inside
        and type(module).__name__.lower().endswith("norm")
        and isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.ndim == 1
        and module.weight.numel() in widths
    }


def find_heads(model: Any) -> dict[str, nn.Module]:
    """Classification heads by name; they are new for the task, so they are trained whatever the adapter."""
    return {name: module for name, module in model.named_children() if name in ("score", "classifier")}


# --- the parts of a block -----------------------------------------------------------------------
def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    stacks: list[str] = []
    found: list[tuple[str, nn.Module]] = []
    for name, stack in model.named_modules():
        if not isinstance(stack, nn.ModuleList) or any(name.startswith(f"{outer}.") for outer in stacks):
            continue
        if any(ATTENTION.search(inner) for inner, module in stack.named_modules() if _width(module) is not None):
            stacks.append(name)
            found += [(f"{name}.{index}", block) for index, block in enumerate(stack)]
    if not found:
        raise _refusal(
            model, "the model has no list of blocks with linear layers below a module called attn or attention"
        )
    return found


def _attention_output(model: Any, block: str, linear: dict[str, nn.Module]) -> str:
    own = [name for name in linear if ATTENTION.search(name) and not CROSS.search(name)]
    named = [name for name in own if name.rpartition(".")[2] in OUTPUTS]
    if len(named) > 1:
        raise _refusal(model, f"{block} has several output projections of attention: {', '.join(named)}")
    if not own:
        raise _refusal(model, f"{block} has no linear layer below a module called attn or attention", list(linear))
    return named[0] if named else own[-1]


def _feed_forward_output(
    model: Any, block_name: str, block: nn.Module, linear: dict[str, nn.Module], width: int | None
) -> str:
    mixed = [name for name, module in block.named_modules() if EXPERTS.search(f"{name} {type(module).__name__}")]
    if mixed:
        raise _refusal(model, f"{block_name}.{mixed[0]} is a mixture of experts: it has no single output projection")
    own = [
        name
        for name, module in linear.items()
        if not ATTENTION.search(name)
        and any(FEED_FORWARD.search(part) for part in name.split("."))
        and _width(module) == width
    ]
    if not own:
        looked = "called mlp, ffn, feed_forward, fc1, fc2, intermediate or output"
        raise _refusal(
            model, f"{block_name} has no linear layer of {width} outputs in or as a module {looked}", list(linear)
        )
    return own[-1]


def _width(module: nn.Module) -> int | None:
    """Outputs of a linear layer (dense, quantized, or the Conv1D of GPT-2); None for every other module."""
    if type(module).__name__ == NEVER_CALLED:
        return None
    width = getattr(module, "out_features", getattr(module, "nf", None))
    return width if isinstance(width, int) else None


def _refusal(model: Any, why: str, linear: list[str] | None = None) -> RecipeError:
    details = [
        "looked for: in each block the output projection of self-attention (by name "
        f"{', '.join(OUTPUTS)}, or the last linear layer of attention) and the last linear layer of the feed-forward"
    ]
    if linear is not None:
        details.append(f"linear layers of the block: {', '.join(linear) or 'none'}")
    return RecipeError(
        f"no place for bottlenecks in {type(model).__name__}: {why}",
        details=details,
        fix="Use an adapter that names its layers, such as lora, or another model.",
    )
