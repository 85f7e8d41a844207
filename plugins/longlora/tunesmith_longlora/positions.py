"""More positions for a model with rotary embeddings (RoPE), and its own ones back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith import RecipeError


def rotary(model: Any) -> list[tuple[Any, str, Any]]:
    """The modules that make rotary positions: each one's parent, its name there, and itself."""
    return [
        (parent, name, module)
        for parent in model.modules()
        for name, module in parent.named_children()
        if hasattr(module, "inv_freq") and hasattr(module, "rope_type") and hasattr(module, "config")
    ]


class Positions:
    """A model's positions, scaled.

    The rotary module is replaced by one for the changed configuration; the old one and its values are kept.

    - `linear`: position interpolation (Chen et al. 2023, arXiv 2306.15595, eq. 4), positions divided by `scale`.
    - `ntk`: the base b becomes b scale^(d / (d - 2)) over d rotated dimensions, so that the lowest frequency is
      divided by `scale` and the highest one stays.
    - `yarn`: Peng et al. 2023, arXiv 2309.00071, as Transformers computes it.

    Args:
        model: an unadapted model of Transformers with rotary positions.
        scale: how many times more positions it shall take; over 1.
        rope: the way.

    Raises:
        RecipeError: the positions are scaled otherwise already.
    """

    def __init__(self, model: Any, scale: float, rope: str) -> None:
        self._places = rotary(model)
        self.config = self._places[0][2].config
        before = dict(self.config.rope_parameters)
        kind = before.get("rope_type")
        if kind != "default" and not (kind == rope == "linear"):
            found = f"{kind} already" if isinstance(kind, str) else "set for each kind of layer apart"
            raise RecipeError(
                f"rope = {rope!r} cannot scale the rotary positions of {type(model).__name__}: they are {found}",
                fix="Set scale = 1 in [adapter], or use a model whose positions are not scaled.",
            )
        own = self.config.max_position_embeddings
        self._own = {"rope_parameters": before, "max_position_embeddings": own}
        self._scaled = {
            "rope_parameters": self._parameters(before, scale, rope, own),
            "max_position_embeddings": round(own * scale),
        }
        self._set(self._scaled)
        self._new = [
            (parent, name, type(module)(module.config).to(module.inv_freq.device))
            for parent, name, module in self._places
        ]
        self._put(self._new)

    def describe(self) -> dict[str, Any]:
        """What the configuration says of the scaled positions."""
        return dict(self._scaled)

    @contextmanager
    def own(self) -> Iterator[None]:
        """The model's own positions, inside the `with` block."""
        self._set(self._own)
        self._put(self._places)
        try:
            yield
        finally:
            self._set(self._scaled)
            self._put(self._new)

    # --- helpers ------------------------------------------------------------------------------
    def _parameters(self, before: dict[str, Any], scale: float, rope: str, own: int) -> dict[str, Any]:
        if rope == "linear":
            return {**before, "rope_type": "linear", "factor": before.get("factor", 1.0) * scale}
        if rope == "yarn":
            return {**before, "rope_type": "yarn", "factor": scale, "original_max_position_embeddings": own}
        rotated = 2 * self._places[0][2].inv_freq.numel()
        return {**before, "rope_theta": before["rope_theta"] * scale ** (rotated / (rotated - 2))}

    def _set(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.config, name, dict(value) if isinstance(value, dict) else value)

    @staticmethod
    def _put(places: list[tuple[Any, str, Any]]) -> None:
        for parent, name, module in places:
            setattr(parent, name, module)
