"""The adapted model: allocates ranks after each step, and is kept without the ranks that were cut.

PEFT's layers hold E (rank x 1), A (rank x in) and B (out x rank). Its allocator sets the E of the least important
triplets to zero. PEFT leaves it to the trainer to call the allocator; here the adapter does it itself.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tunesmith import Context, DataError, ModelHandle, RecipeError
from tunesmith_transformers.peft.adapted import PeftAdapted

ADAPTER = "default"  # PEFT's name of the only adapter
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of the allocator: importance, smoothed, its uncertainty
PREFIX = "allocator."
STARTING_DEVIATION = 0.02  # of A and B, as PEFT draws them


class AdaloraAdapted(PeftAdapted):
    """AdaLoRA on PEFT.

    Args:
        handle: the loaded base.
        config: a `peft.AdaLoraConfig`; its schedule is set by `begin`.
        tinit: steps, or a share of all steps below 1, before the budget falls.
        tfinal: the same for the end with final ranks.
        context: its `facts` get `ranks` (layer -> rank) and `budget` ([step, sum of all ranks] at each change).
    """

    def __init__(self, handle: ModelHandle, config: Any, tinit: float, tfinal: float, context: Context) -> None:
        super().__init__(handle, config)
        self._context = context
        self._tinit, self._tfinal = tinit, tfinal
        self._allocator = self.model.base_model.rankallocator
        # the term is added by `extra_loss`, which every trainer honours; PEFT would add it to some outputs again
        self._orthogonality = config.orth_reg_weight
        config.orth_reg_weight = 0.0
        self._layers = _layers(self.model.base_model.model)
        self._step = 0
        self._budget = [[0, self._allocator.init_bgt]]

    # --- during training ----------------------------------------------------------------------
    def begin(self, total_steps: int) -> None:
        """Set the schedule.

        Raises:
            RecipeError: the run has too few steps to allocate ranks.
        """
        tinit, tfinal = _steps(self._tinit, total_steps), _steps(self._tfinal, total_steps)
        if total_steps - tfinal < max(2, tinit + 1):
            raise RecipeError(
                f"{total_steps} steps leave no time to allocate ranks: tinit takes {tinit} of them, tfinal {tfinal}",
                fix="Train for more steps, or lower tinit and tfinal in [adapter].",
            )
        self._allocator.set_total_step(total_steps)
        self.config.total_step, self.config.tinit, self.config.tfinal = total_steps, tinit, tfinal
        if self._step == 0:
            self._revive()
        elif self._step == total_steps:  # resumed when all was done but to keep it
            self._report()

    def after_step(self, step: int, total_steps: int) -> None:
        """Weigh the triplets by their gradients, which are still there, and cut to the step's budget."""
        self.model.base_model.update_and_allocate(step)
        self._step = step
        budget = sum(self.ranks().values())
        if budget != self._budget[-1][1] or step == total_steps:
            self._budget.append([step, budget])
        if step == total_steps:
            self._cut()
            self._report()

    def extra_loss(self) -> Any | None:
        """The orthogonal term: weight x mean over all A and B of ||P P^T - I|| (Frobenius), a scalar tensor."""
        if not self._orthogonality:
            return None
        distances = []
        for layer in self._layers.values():
            a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
            for gram in (a @ a.T, b.T @ b):  # (rank, rank)
                distances.append(torch.norm(gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)))
        return self._orthogonality * torch.stack(distances).mean()

    def ranks(self) -> dict[str, int]:
        """The rank of each layer that the allocator has left to it."""
        pattern = self.config.rank_pattern or {}
        return {
            name: sum(pattern[key]) if (key := f"{name}.lora_E.{ADAPTER}") in pattern else self.config.init_r
            for name in self._layers
        }

    # --- keeping ------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """The trainable tensors and the allocator's averages."""
        averages = {
            f"{PREFIX}{kind}.{name}": tensor
            for kind in AVERAGES
            for name, tensor in getattr(self._allocator, kind).items()
        }
        return {**super().state(), **averages}

    def load_state(self, tensors: Mapping[str, Any]) -> None:
        super().load_state({name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)})
        parameters = dict(self.model.base_model.model.named_parameters())
        for kind in AVERAGES:
            start = f"{PREFIX}{kind}."
            kept = {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}
            for name, tensor in kept.items():
                if name not in parameters or parameters[name].shape != tensor.shape:
                    raise DataError(f"the checkpoint's {start}{name} does not fit this model")
            setattr(self._allocator, kind, {n: t.to(parameters[n].device, copy=True) for n, t in kept.items()})

    def extra_state(self) -> dict[str, Any]:
        return {"step": self._step, "budget": self._budget, "rank_pattern": self.config.rank_pattern}

    def load_extra_state(self, extra: Mapping[str, Any]) -> None:
        self._step = extra["step"]
        self._budget = [list(point) for point in extra["budget"]]
        self.config.rank_pattern = extra["rank_pattern"]

    def save(self, folder: Path) -> None:
        """Write PEFT's layout; triplets that are zero in E, A and B are left out and named in `rank_pattern`."""
        kept = {name: _alive(layer).tolist() for name, layer in self._layers.items()}
        pattern = None
        if not all(all(rows) for rows in kept.values()):
            pattern = {f"{name}.lora_E.{ADAPTER}": rows for name, rows in kept.items()}
        with self._config(rank_pattern=pattern, orth_reg_weight=self._orthogonality), warnings.catch_warnings():
            # a layer that lost all its ranks is saved with none, which PEFT reads but warns about
            warnings.filterwarnings("ignore", message=".*have invalid shape")
            super().save(folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; triplets that were left out come back as zeros.

        Raises:
            DataError: a file is missing or does not fit.
        """
        with self._config(rank_pattern=None):  # PEFT would make the layers smaller
            super().load(folder)
        pattern = _read_pattern(folder)
        self.config.rank_pattern = {f"{name}.{ADAPTER}": rows for name, rows in pattern.items()} or None

    def as_trained(self, tensors: dict[str, Any], folder: Path) -> dict[str, Any]:
        return _widened(tensors, _read_pattern(folder))

    # --- helpers ------------------------------------------------------------------------------
    def _cut(self) -> None:
        """Zero the whole of each triplet that was cut; its E is zero, so no output changes."""
        pattern = self.config.rank_pattern or {}
        with torch.no_grad():
            for name, layer in self._layers.items():
                gone = ~torch.tensor(pattern[f"{name}.lora_E.{ADAPTER}"])
                layer.lora_A[ADAPTER][gone] = 0.0
                layer.lora_B[ADAPTER][:, gone] = 0.0

    def _revive(self) -> None:
        """Draw A and B anew for triplets that an earlier stage cut: all zero, they could never be trained."""
        generator = torch.Generator().manual_seed(self._context.seed)
        with torch.no_grad():
            for layer in self._layers.values():
                gone = ~_alive(layer)
                for tensor in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER].T):  # (rank, in), (rank, out)
                    drawn = torch.randn(int(gone.sum()), tensor.shape[1], generator=generator) * STARTING_DEVIATION
                    tensor[gone] = drawn.to(tensor)
        self.config.rank_pattern = None

    def _report(self) -> None:
        ranks = self.ranks()
        self._context.facts["ranks"] = ranks
        self._context.facts["budget"] = self._budget
        told = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        self._context.reporter.say(
            f"adalora: the sum of ranks fell from {self._allocator.init_bgt} to {sum(ranks.values())}: {told}"
        )

    @contextmanager
    def _config(self, **changes: Any) -> Iterator[None]:
        """PEFT's config with other values inside the `with` block."""
        before = {name: getattr(self.config, name) for name in changes}
        self._set(changes)
        try:
            yield
        finally:
            self._set(before)

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.config, name, value)


def _widened(tensors: dict[str, Any], pattern: Mapping[str, list[bool]]) -> dict[str, Any]:
    """Tensors of full rank, with zeros where `pattern` is false."""
    wide = dict(tensors)
    for name, rows in pattern.items():
        kept = torch.tensor(rows)
        for letter in "EAB":
            key = f"base_model.model.{name.replace('lora_E', f'lora_{letter}')}"
            narrow = tensors.get(key)
            columns = letter == "B"
            if narrow is None or narrow.shape[1 if columns else 0] != int(kept.sum()):
                continue  # the comparison of names and shapes says so
            full = narrow.new_zeros((len(narrow), len(rows)) if columns else (len(rows), narrow.shape[1]))
            (full.T if columns else full)[kept] = narrow.T if columns else narrow
            wide[key] = full
    return wide


def _layers(model: Any) -> dict[str, Any]:
    """The layers that PEFT has adapted, by their name in the base model."""
    from peft.tuners.adalora.layer import AdaLoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, AdaLoraLayer)}


def _alive(layer: Any) -> torch.Tensor:
    """Which triplets of a layer hold anything: (rank,) of bool."""
    e, a, b = (getattr(layer, f"lora_{letter}")[ADAPTER] for letter in "EAB")
    return (e != 0).any(1) | (a != 0).any(1) | (b != 0).any(0)


def _steps(value: float, total: int) -> int:
    return int(value * total) if value < 1 else int(value)


def _read_pattern(folder: Path) -> dict[str, list[bool]]:
    path = folder / "adapter_config.json"
    try:
        pattern = json.loads(path.read_text(encoding="utf-8")).get("rank_pattern") or {}
        return {name: [bool(row) for row in rows] for name, rows in pattern.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"no adapter weights at {folder}: adapter_config.json cannot be read: {error}",
            fix="Give the artifact folder of a finished run.",
        ) from error
