"""The handle of a soft prompt: a PEFT model whose virtual tokens take part of the context."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith import Column, DataError, ModelHandle, RecipeError
from tunesmith_soft_prompts.check import check_head, no_room
from tunesmith_transformers.peft.adapted import PeftAdapted

ENCODER = "prompt_encoder.safetensors"
NAME = "default"  # what PEFT calls the only adapter

# PEFT drops the positions that `generate` gives, and says so at every step; `_positions` puts them back
warnings.filterwarnings("ignore", message="Position ids are not supported for parameter efficient tuning")


class SoftPrompt(PeftAdapted):
    """A frozen model with virtual tokens in front.

    Args:
        handle: the loaded base.
        config: a PEFT configuration with `num_virtual_tokens`.
        columns: what the model takes in every batch besides tokens.

    Raises:
        RecipeError: the model is no language model, or has no room for the virtual tokens.
    """

    def __init__(self, handle: ModelHandle, config: Any, columns: Mapping[str, Column] | None = None) -> None:
        limit = room(handle, config.num_virtual_tokens)
        super().__init__(replace(handle, max_length=limit, columns=columns or {}), config)
        # PEFT looks for a weight as long as the vocabulary, which may be another one
        self.model.word_embeddings = handle.model.get_input_embeddings()
        if "position_ids" in inspect.signature(handle.model.forward).parameters:
            handle.model.register_forward_pre_hook(_positions, with_kwargs=True)

    @property
    def encoder(self) -> Any:
        """The module that gives the virtual tokens."""
        return self.model.prompt_encoder[NAME]

    @property
    def computed(self) -> bool:
        """Whether the virtual tokens are computed by a network, of which PEFT keeps the results only."""
        return any(not name.startswith("embedding.") for name, _ in self.encoder.named_parameters())

    def start_from(self, weight: torch.Tensor) -> None:
        """Set the trained vectors.

        Raises:
            RecipeError: they have another shape.
        """
        own = self.encoder.embedding.weight
        if own.shape != weight.shape:
            raise RecipeError(
                f"the initial virtual tokens are {tuple(weight.shape)}, but the method trains {tuple(own.shape)}",
                fix="Choose another init in [adapter].",
            )
        own.data.copy_(weight)

    def save(self, folder: Path) -> None:
        """Write PEFT's own layout; and the network that computes the virtual tokens, where there is one."""
        training = self.encoder.training
        self.encoder.eval()  # dropout must not reach the vectors that are kept
        try:
            super().save(folder)
        finally:
            self.encoder.train(training)
        if self.computed:
            own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state().items()}
            save_file(own, str(folder / ENCODER))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing, damaged, or does not fit.
        """
        if not self.computed:
            super().load(folder)
            return
        path = folder / ENCODER
        if not path.is_file():
            raise DataError(
                f"{folder} has no {ENCODER}: it may hold final virtual tokens, but not the network that computes them",
                fix="Give the artifact folder of a finished run of Tunesmith.",
            )
        try:
            tensors = load_file(str(path))
        except SafetensorError as error:
            raise DataError(f"{path} is damaged: {error}", fix="Restore the file from a copy.") from error
        self.load_state(tensors)


class Prefix(SoftPrompt):
    """A prefix of keys and values, which lives in the model's cache."""

    def begin(self, total_steps: int) -> None:
        """Refuse activation checkpointing.

        Raises:
            RecipeError: it is on.
        """
        if any(getattr(module, "gradient_checkpointing", False) for module in self.handle.model.modules()):
            raise RecipeError(
                "prefix cannot be trained with activation checkpointing, which works without the cache that "
                "holds the prefix",
                fix="Set activation_checkpointing = false in [trainer], or choose the adapter prompt.",
            )


def room(handle: ModelHandle, tokens: int) -> int | None:
    """Tokens that a row may have beside `tokens` virtual ones; None when the model has no limit.

    Raises:
        RecipeError: there are none, or the model is no language model.
    """
    check_head(handle.head)
    if handle.max_length is None:
        return None
    if tokens >= handle.max_length:
        raise no_room(tokens, handle.max_length)
    return handle.max_length - tokens


def _positions(model: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Count positions over the tokens that are there.

    Padding on the left stands between the virtual tokens and the row, and must not take positions: the answer
    would depend on what else is in the batch.
    """
    mask = options.get("attention_mask")
    if options.get("position_ids") is not None or not isinstance(mask, torch.Tensor) or mask.dim() != 2:
        return None
    inputs = next(t for t in (options.get("inputs_embeds"), options.get("input_ids"), *arguments) if t is not None)
    places = mask.long().cumsum(dim=1).sub(1).clamp(min=0)  # (B, virtual and cached tokens + T)
    return arguments, {**options, "position_ids": places[:, -inputs.shape[1] :]}  # (B, T)
