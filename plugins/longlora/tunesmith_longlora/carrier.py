"""Who attends in groups: the forward passes that train, and no others.

The decision is made once a forward pass, in front of the decoder, and travels to every layer as the attention mask.
Activation checkpointing computes layers again from the arguments that they were given, so it comes to the same.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from tunesmith import RecipeError

#: "The tokens of every row come first": a mask of four dimensions, which Transformers hands on as it is.
TOKENS_FIRST = (1, 1, 1, 0)


class Carrier:
    """A hook in front of a decoder of Transformers that turns the batch's mask into an order of tokens.

    It steps aside in evaluation mode, where a cache is given (generation, whatever the mode), and while `active` is
    false: these get full attention.

    Args:
        decoder: the module that makes the mask for its attention layers.
    """

    def __init__(self, decoder: Any) -> None:
        self.active = True
        self._names = tuple(inspect.signature(decoder.forward).parameters)
        self._handle = decoder.register_forward_pre_hook(self._carry, with_kwargs=True)

    def remove(self) -> None:
        """Take the hook away for good."""
        self._handle.remove()

    def _carry(self, decoder: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not (self.active and decoder.training):
            return None
        named = {**dict(zip(self._names, arguments, strict=False)), **named}
        if named.get("past_key_values") is not None:
            return None
        tokens = named.get("input_ids") if named.get("input_ids") is not None else named["inputs_embeds"]
        named["attention_mask"] = order_of(named.get("attention_mask"), named.get("position_ids"), tokens)
        return (), named


def order_of(mask: Any, positions: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
    """The order that puts each row's tokens in front of its padding.

    Args:
        mask: (B, N), true at tokens; None where there is no padding.
        positions: (B, N), or None.
        tokens: (B, N, ...), for the shape and the device.

    Returns:
        (B, 1, N, 1) int64, or no elements where padding is behind the tokens already.

    Raises:
        RecipeError: the mask says more than where padding is, or several rows are packed into one.
    """
    first = torch.empty(TOKENS_FIRST, dtype=torch.int64, device=tokens.device)
    if mask is None:
        if positions is not None and bool((positions.diff(dim=-1) != 1).any()):
            raise RecipeError(
                "longlora cannot train on rows that are packed into one: a group would reach over several of them",
                fix="Leave `packing` out of [trainer].",
            )
        return first
    if not isinstance(mask, torch.Tensor) or tuple(mask.shape) != tuple(tokens.shape[:2]):
        raise RecipeError(
            "longlora attends in groups of its own while training, so it takes a mask of padding (rows, tokens) only",
            fix="Use a trainer that leaves the attention mask to the model, such as sft.",
        )
    mask = mask.to(tokens.device, torch.bool)
    if not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return first
    return torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)[:, None, :, None]  # (B, 1, N, 1)
