"""What travels between the stages of a run: a loaded model, a quantized load, an adapted model.

Nothing here imports torch at module level; tensors and modules are handled through their own methods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.dense import refuse_packed
from tunesmith.errors import DataError, TunesmithError
from tunesmith.labels import Labels
from tunesmith.records import Dataset

WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value a row that a model takes in every batch besides its tokens.

    Trainers and evaluators compute it from the row and put it into the batch as a tensor (B,).

    Args:
        read: from a row's own columns to the value; raises a DataError that says what the row lacks.
        examples: some values it may have, for the conformance kit.
    """

    read: Callable[[Mapping[str, Any]], int]
    examples: Sequence[int]


@dataclass
class ModelHandle:
    """A loaded model with its tokenizer and its identity.

    Args:
        model: a torch module; for language models a Transformers model.
        tokenizer: its tokenizer, with a pad token.
        source: what the recipe named, resolved (a folder, `wheel:...`, a hub id with revision).
        digest: sha256 over the weights as stored; names the base in artifacts and checkpoints.
        files: digests of what decides the model besides its weights (configuration, tokenizer, templates), by file.
        head: the head it was loaded with (see `Role.head`).
        max_length: positions that the model takes, in tokens; None when it has no limit.
        quantized: the quantizer's name, or None for dense weights.
        notes: what was decided while loading and should be said (dtype, pad token, ...).
        columns: what the model takes in every batch besides tokens, by name.
        with_head: `with_head(handle, head, seed)` gives the same base model under another head, whose weights are
            drawn by the seed, with an output for each of `handle.labels` where the head has labels; None where the
            source cannot.
        labels: what a head for labels tells apart, in the order of its outputs; None for other heads.
        drawn: tensors or modules that the source lacks, such as a new head: they are random until something trains
            them.
        added: ids of the tokens that the recipe adds to the vocabulary; nothing has trained them. An adapter whose
            record says `trains_added` trains their rows of embedding and head, besides what it trains anyway.
    """

    model: Any
    tokenizer: Any
    source: str
    digest: str
    head: str = "causal-lm"
    max_length: int | None = None
    quantized: str | None = None
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    with_head: Callable[[ModelHandle, str, int], ModelHandle] | None = None
    labels: Labels | None = None
    drawn: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    added: tuple[int, ...] = ()

    def must_be_dense(self, what: str, names: Collection[str] | None = None) -> None:
        """Refuse what cannot be done to quantized weights.

        Args:
            what: what needs dense weights, as the subject of a sentence: "the adapter full".
            names: the parameters that it needs; None for the whole base.

        Raises:
            RecipeError: the base is quantized, and one of these parameters with it.
        """
        if self.quantized:
            refuse_packed(self.model, self.quantized, what, names)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What a quantizer returns.

    Args:
        name: how the handle is marked.
        load_options: keyword arguments for the model source's own loader.
        after_load: applied to the loaded handle; returns the handle to go on with.
    """

    name: str
    load_options: Mapping[str, Any] = field(default_factory=dict)
    after_load: Callable[[ModelHandle], ModelHandle] = lambda handle: handle


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter in a combination: the folder that `Adapted.save` wrote, and its weight in the sum."""

    folder: Path
    weight: float


class Adapted:
    """A model prepared for training: which parameters move, and how they are kept.

    Subclass it and override what the method needs; every hook has a default that does nothing or does
    the obvious. `model` is the module that trainers call; it is the handle's model unless the
    adapter wrapped it. An adapter that changes frozen weights gives them new storage first: other
    adapters may stand on the same base (`tunesmith.Adapters`).
    """

    def __init__(self, handle: ModelHandle, model: Any = None) -> None:
        self.handle = handle
        self.model = handle.model if model is None else model

    # --- what moves ---------------------------------------------------------------------------
    def trainable(self) -> dict[str, Any]:
        """The parameters that training may change, by name: those that require gradients."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    # --- keeping ------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """The tensors that a checkpoint must hold to go on exactly; default: the trainable ones."""
        return {name: p.detach() for name, p in self.trainable().items()}

    def load_state(self, tensors: Mapping[str, Any]) -> None:
        """Put back what `state` gave.

        Raises:
            DataError: a tensor is missing, unknown, or of another shape.
        """
        _copy_into(self.trainable(), tensors)

    def extra_state(self) -> dict[str, Any]:
        """What `state` cannot hold as tensors, as plain JSON data."""
        return {}

    def load_extra_state(self, extra: Mapping[str, Any]) -> None:
        """Put back what `extra_state` gave."""

    def save(self, folder: Path) -> None:
        """Write the adapter into the existing folder `folder`; default: `adapter.safetensors`."""
        from safetensors.torch import save_file

        tensors = {name: tensor.contiguous().cpu() for name, tensor in self.state().items()}
        save_file(tensors, str(folder / WEIGHTS), metadata={"extra": json.dumps(self.extra_state())})

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            DataError: the folder does not hold this adapter.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / WEIGHTS
        if not path.is_file():
            raise DataError(f"no adapter weights at {path}", fix="Give the artifact folder of a finished run.")
        try:
            with safe_open(str(path), framework="pt") as file:
                extra = json.loads((file.metadata() or {}).get("extra", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise DataError(
                f"the adapter weights at {path} are damaged: {error}", fix="Restore the file from a copy."
            ) from error
        self.load_state(tensors)
        self.load_extra_state(extra)

    def merge(self) -> Any:
        """Fold the adapter into the base weights and return the plain model.

        Raises:
            TunesmithError: the method cannot be merged.
        """
        raise TunesmithError(
            f"{type(self).__name__} cannot be merged into the base weights",
            fix="Keep the adapter beside its base.",
        )

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Write into the existing folder `folder` the weighted sum of saved adapters of this kind on this base.

        Called on a handle of the first part's settings. The files are those that `save` writes, for the settings
        that are returned.

        Args:
            parts: the saved adapters and their weights, two or more.
            how: the method's own name of a way to combine; None for its default.
            options: further settings of that way, by name.

        Returns:
            the settings of the first part that the result has otherwise.

        Raises:
            TunesmithError: the method has no such sum, these parts have none, or an option is unknown.
        """
        raise TunesmithError(
            f"{type(self).__name__} cannot be combined: it does not say what a weighted sum of its adapters would be",
            fix="Keep the adapters apart: each can be loaded on the base by itself.",
        )

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The model as if the adapter were not there, inside the `with` block."""
        raise TunesmithError(f"{type(self).__name__} cannot be disabled: it has no copy of the base weights")
        yield

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The model as this role means it; a role that shares another's model gives it disabled."""
        yield self.model

    # --- during training ----------------------------------------------------------------------
    def check_data(self, data: Dataset) -> None:
        """Called with the stage's rows before they are trained on.

        Raises:
            DataError: the adapter cannot be trained on them.
        """

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]] | None:
        """Parameters that an optimizer must treat otherwise than the rest, or None.

        Each group holds `params` and what differs (`lr`, `weight_decay`), as torch optimizers take it.

        Args:
            learning_rate: the run's rate, before its schedule.
        """
        return None

    def begin(self, total_steps: int) -> None:
        """Called once before the first step, when the number of optimizer steps is known."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Called after each optimizer step, from 1; gradients are still present."""

    def extra_loss(self) -> Any | None:
        """A scalar tensor to add to every micro-batch's loss, or None."""
        return None


class ModuleAdapted(Adapted):
    """The default for an adapter that returns a plain module.

    Its parameters that require gradients are the adapter. Disabling puts their initial values back
    for the time of the block, which is the base model for a method that starts as the identity.
    """

    def __init__(self, handle: ModelHandle, model: Any = None) -> None:
        super().__init__(handle, model)
        self._initial = {name: p.detach().clone() for name, p in self.trainable().items()}

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        trained = {name: p.detach().clone() for name, p in self.trainable().items()}
        _copy_into(self.trainable(), self._initial)
        try:
            yield self.model
        finally:
            _copy_into(self.trainable(), trained)


class DisabledView(Adapted):
    """A role that is another role's model with its adapter disabled; it holds no weights of its own."""

    def __init__(self, of: Adapted) -> None:
        super().__init__(of.handle, of.model)
        self._of = of

    def trainable(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def use(self) -> Iterator[Any]:
        with self._of.disabled() as model:
            yield model


def handles_of(models: Mapping[str, Adapted]) -> dict[str, ModelHandle]:
    """The handle of each role's model."""
    return {name: adapted.handle for name, adapted in models.items()}


def _copy_into(parameters: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Copy `tensors` into `parameters`; names and shapes must agree exactly."""
    missing = sorted(set(parameters) - set(tensors))
    unknown = sorted(set(tensors) - set(parameters))
    if missing or unknown:
        raise DataError(
            "the saved adapter does not fit this model",
            details=[f"missing: {name}" for name in missing[:5]] + [f"unknown: {name}" for name in unknown[:5]],
            fix="Use the base model and the adapter settings that it was made with.",
        )
    for name, parameter in parameters.items():
        if tuple(parameter.shape) != tuple(tensors[name].shape):
            raise DataError(
                f"the saved adapter does not fit this model: {name} is {tuple(tensors[name].shape)}, "
                f"expected {tuple(parameter.shape)}",
                fix="Use the base model and the adapter settings that it was made with.",
            )
    for name, parameter in parameters.items():  # all of them fit: none is changed otherwise
        parameter.data.copy_(tensors[name])
