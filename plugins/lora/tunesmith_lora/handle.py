"""What LoRA adds to a PEFT model: two learning rates, and starts that are taken out of the base weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper

from tunesmith import DataError, ModelHandle
from tunesmith.adapted import SavedAdapter
from tunesmith_lora.combine import combine
from tunesmith_transformers.peft.adapted import PeftAdapted

ADAPTER = "default"  # PEFT's name of the only adapter


class LoraAdapted(PeftAdapted):
    """LoRA on PEFT.

    Args:
        ratio: learning rate of B over that of A (LoRA+).
    """

    def __init__(self, handle: ModelHandle, config: Any, ratio: float) -> None:
        super().__init__(handle, config)
        self._ratio = ratio

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]] | None:
        """B with `ratio` times the rate of everything else."""
        if self._ratio == 1:
            return None
        raised = [parameter for name, parameter in self.trainable().items() if ".lora_B." in name]
        return [{"params": raised, "lr": learning_rate * self._ratio}]

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        """The weighted sum as plain LoRA; `cat`, the default, is exact and has the sum of the ranks."""
        return combine(self, parts, how, options, folder)


class ResidualAdapted(LoraAdapted):
    """LoRA whose A and B start as a part of the base weights, which are lessened by it (PiSSA, OLoRA).

    The artifact is a plain LoRA of twice the rank on the untouched base: [A; A0] and [B, -B0], with A0 and B0 as they
    started. Everyone can read it, and nothing is lost: A, B and the residual weights come back from it exactly.
    """

    def __init__(self, handle: ModelHandle, config: Any, ratio: float) -> None:
        super().__init__(handle, config, ratio)
        self._initial = {name: p.detach().clone() for name, p in self._low_rank().items()}

    def save(self, folder: Path) -> None:
        """Write PEFT's layout of the plain LoRA."""
        from safetensors.torch import load_file, save_file

        before = dict(vars(self.config))
        stretch = math.sqrt(2) if self.config.use_rslora else 2.0  # keeps the scale at twice the rank
        self.config.r = 2 * before["r"]
        self.config.rank_pattern = {name: 2 * rank for name, rank in before["rank_pattern"].items()}
        self.config.lora_alpha = before["lora_alpha"] * stretch
        self.config.alpha_pattern = {name: alpha * stretch for name, alpha in before["alpha_pattern"].items()}
        self.config.init_lora_weights = True
        try:
            super().save(folder)
        finally:
            for field, value in before.items():
                setattr(self.config, field, value)
        path = folder / "adapter_model.safetensors"
        tensors = load_file(str(path))
        for name, initial in self._initial.items():
            key = name.replace(f".{ADAPTER}.", ".")
            is_b = ".lora_B." in name
            own = initial.to(tensors[key])
            tensors[key] = torch.cat([tensors[key], -own if is_b else own], dim=1 if is_b else 0).contiguous()
        save_file(tensors, str(path), metadata={"format": "pt"})

    def as_trained(self, tensors: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Part the plain LoRA into what was trained and how it started, and put the base right for the latter.

        Raises:
            DataError: the tensors are not of twice the rank.
        """
        found = dict(tensors)
        started = {}
        for name, initial in self._initial.items():
            key, axis = name.replace(f".{ADAPTER}.", "."), 1 if ".lora_B." in name else 0
            if key not in tensors or tensors[key].shape[axis] != 2 * initial.shape[axis]:
                raise DataError(
                    f"the adapter in {folder} does not fit: tensors differ in name or rank, {key} first",
                    fix="Use the base model and the adapter settings that it was made with.",
                )
            trained, start = tensors[key].chunk(2, dim=axis)
            found[key] = trained.contiguous()
            started[name] = (-start if axis else start).contiguous().to(initial)
        for name in started:
            if ".lora_A." in name:
                self._put_right(name, started)
        self._initial = started
        return found

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The base model: the residual weights with A and B as they started, which is their sum."""
        parameters = self._low_rank()
        trained = {name: parameter.data for name, parameter in parameters.items()}
        copies = [module for module in self.model.modules() if isinstance(module, ModulesToSaveWrapper)]
        for name, parameter in parameters.items():
            parameter.data = self._initial[name]
        for module in copies:
            module.enable_adapters(False)
        try:
            yield self.model
        finally:
            for name, parameter in parameters.items():
                parameter.data = trained[name]
            for module in copies:
                module.enable_adapters(True)

    # --- helpers ------------------------------------------------------------------------------
    def _low_rank(self) -> dict[str, Any]:
        return {n: p for n, p in self.model.named_parameters() if ".lora_A." in n or ".lora_B." in n}

    def _put_right(self, name: str, started: dict[str, Any]) -> None:
        """On another machine the decomposition may come out otherwise; the base then moves by the difference."""
        other = name.replace(".lora_A.", ".lora_B.")
        if torch.equal(self._initial[name], started[name]) and torch.equal(self._initial[other], started[other]):
            return
        layer = self.model.get_submodule(name.partition(".lora_A.")[0])
        taken, wanted = self._initial[other] @ self._initial[name], started[other] @ started[name]  # (out, in)
        weight = layer.get_base_layer().weight
        missing = layer.scaling[ADAPTER] * (taken - wanted)
        weight.data += (missing.T if layer.fan_in_fan_out else missing).to(weight.dtype)
