"""Apply IA3: which layers hold keys, values and the feed-forward, and the number of parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import IA3Config

from tunesmith import Context, ModelHandle, RecipeError, TunesmithError, UsageError
from tunesmith.adapted import SavedAdapter
from tunesmith_ia3 import Ia3Settings
from tunesmith_transformers.peft.adapted import PeftAdapted, linear_names, target_layers, task_type
from tunesmith_transformers.peft.combine import only, weighted
from tunesmith_transformers.peft.layers import sides

#: How families of models name these layers; searched for at the end of a layer's full name.
KEYS_AND_VALUES = re.compile(r"(^|\.)(k_proj|v_proj|key|value|k|v|key_proj|value_proj)$")
FUSED = re.compile(r"(^|\.)(query_key_value|qkv_proj|c_attn|Wqkv|in_proj)$")
#: Its input is the inner activation of the feed-forward. BERT calls the attention's output `output.dense` too.
FEED_FORWARD = re.compile(r"(^|\.)(down_proj|fc2|dense_4h_to_h|w2|wo|fc_out|mlp\.c_proj|\d+\.output\.dense)$")


class Ia3Adapted(PeftAdapted):
    """IA3 on PEFT."""

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Write the weighted mean of the factors; see `Adapted.combine`.

        Raises:
            UsageError: another way than `linear`, any option, or weights that do not add up to 1.
            TunesmithError: the parts multiply different layers.
        """
        if how not in (None, "linear"):
            raise UsageError(f"factors are not combined by {how!r}", fix="--how linear is the only way.")
        only(options)
        total = sum(part.weight for part in parts)
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise UsageError(
                f"the weights add up to {total:g}: factors lie around 1, and so must their sum",
                fix="Give weights that add up to 1.",
            )
        weighted(self, parts, folder, _check_layers)
        return {}


def _check_layers(configs: Sequence[Any]) -> None:
    chosen = [(sorted(config.target_modules), sorted(config.feedforward_modules)) for config in configs]
    if any(other != chosen[0] for other in chosen):
        raise TunesmithError(
            "these adapters multiply different layers, and a layer that one of them leaves alone would be lost",
            fix="Combine adapters with the same target_modules and feedforward_modules.",
        )


def apply(handle: ModelHandle, settings: Ia3Settings, context: Context) -> Ia3Adapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, or the model's layers have other names than those known here.
    """
    outputs, inputs = chosen(handle.model, settings)
    config = IA3Config(
        target_modules=sorted([*outputs, *inputs]),
        feedforward_modules=sorted(inputs),
        task_type=task_type(handle),
    )
    context.reporter.say(f"ia3: factors on the outputs of {len(outputs)} and the inputs of {len(inputs)} linear layers")
    fused = sorted({name.rpartition(".")[2] for name in outputs if FUSED.search(name)})
    if fused:
        context.reporter.say(f"ia3: {', '.join(fused)} holds the queries too, and they are multiplied as well")
    return Ia3Adapted(handle, config)


def parameters(model: Any, settings: Ia3Settings) -> int:
    """One factor for each output of keys and values, and for each input of the feed-forward's output layer."""
    outputs, inputs = chosen(model, settings)
    return sum(sides(layer)[1] for layer in outputs.values()) + sum(sides(layer)[0] for layer in inputs.values())


def chosen(model: Any, settings: Ia3Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers whose output, and those whose input is multiplied, by full name.

    Raises:
        RecipeError: a target is not in the model, or none could be recognised.
    """
    if settings.target_modules is not None:
        layers = target_layers(model, settings.target_modules)
    else:
        every = target_layers(model, "all-linear")
        attention = {n: m for n, m in every.items() if KEYS_AND_VALUES.search(n)}
        attention = attention or {n: m for n, m in every.items() if FUSED.search(n)}
        forward = {n: m for n, m in every.items() if FEED_FORWARD.search(n)}
        if not attention or not forward:
            missing = "keys and values" if not attention else "feed-forward"
            raise RecipeError(
                f"the {missing} cannot be recognised among the model's linear layers",
                details=[f"linear layers: {', '.join(linear_names(model))}"],
                fix="Name them in target_modules, and the feed-forward's output layer in feedforward_modules.",
            )
        layers = {**attention, **forward}
    if settings.feedforward_modules is None:
        inputs = {name: layer for name, layer in layers.items() if FEED_FORWARD.search(name)}
    else:
        inputs = target_layers(model, settings.feedforward_modules)
        stray = sorted(set(inputs) - set(layers))
        if stray:
            raise RecipeError(
                f"feedforward_modules names {stray[0]}, which is not among the targets",
                fix="Add it to target_modules in [adapter].",
            )
    return {name: layer for name, layer in layers.items() if name not in inputs}, inputs
