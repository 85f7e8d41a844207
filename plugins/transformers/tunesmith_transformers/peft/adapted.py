"""One handle for every method of PEFT: kept in PEFT's own layout, so that other tools read it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tunesmith import Adapted, DataError, ModelHandle, RecipeError, TunesmithError
from tunesmith.adapted import SavedAdapter
from tunesmith_transformers.peft.layers import is_linear, is_transposed, sides
from tunesmith_transformers.peft.probe import Probe
from tunesmith_transformers.peft.ties import open_ties, say_untied


class PeftAdapted(Adapted):
    """A model wrapped by PEFT.

    Args:
        handle: the loaded base.
        config: a `peft.PeftConfig`.

    Raises:
        RecipeError: PEFT refuses the configuration for this model.
    """

    def __init__(self, handle: ModelHandle, config: Any) -> None:
        import peft

        from tunesmith_transformers.loading.heads import head_modules

        new = head_modules(handle.model)  # a head that the role has put on the model is trained with any adapter
        if new:
            config.modules_to_save = sorted({*(config.modules_to_save or ()), *new})
        try:
            with warnings.catch_warnings():
                # PEFT says of each transposed layer (Conv1D) that it treats it as one
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
                # a tie that the adapter opens is opened when it is merged
                warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True` and a tied layer")
                model = peft.get_peft_model(handle.model, config)
        except ValueError as error:
            raise RecipeError(
                f"{type(config).__name__} does not fit the model: {str(error).splitlines()[0]}",
                details=[f"linear layers: {', '.join(linear_names(handle.model)) or 'none'}"],
                fix="Mend [adapter] in the recipe.",
            ) from error
        super().__init__(handle, model)
        self.config = config

    def save(self, folder: Path) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors`."""
        self.config.base_model_name_or_path = self.handle.source
        # PEFT asks the hub about tied embeddings; there is nothing to learn there for a loaded model
        logging.getLogger("peft").setLevel(logging.ERROR)
        self.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; every tensor must be there, and no other.

        Raises:
            DataError: the file is missing or does not fit.
        """
        import peft
        from safetensors.torch import load_file

        path = folder / "adapter_model.safetensors"
        if not path.is_file():
            raise DataError(f"no adapter weights at {path}", fix="Give the artifact folder of a finished run.")
        tensors = self.as_trained(load_file(str(path)), folder)
        expected = peft.get_peft_model_state_dict(self.model, save_embedding_layers=False)
        differing = sorted(set(expected) ^ set(tensors))
        differing += [name for name in expected if name in tensors and expected[name].shape != tensors[name].shape]
        if differing:
            raise DataError(
                f"the adapter in {folder} does not fit: {len(differing)} tensors differ in name or shape",
                details=differing[:5],
                fix="Use the base model and the adapter settings that it was made with.",
            )
        peft.set_peft_model_state_dict(self.model, tensors)

    def as_trained(self, tensors: dict[str, Any], folder: Path) -> dict[str, Any]:
        """The tensors of a file as this model holds them; a method that saves another shape turns it back here."""
        return tensors

    def merge(self) -> Any:
        """The base with the adapter folded into its weights; the adapter is gone from this handle's model.

        A head that shares its weights with the embedding, and is adapted alone, is given weights of its own. Merged, a
        dense model must answer some made-up tokens as it did before: so do exports, and stages on earlier ones.

        Raises:
            TunesmithError: PEFT cannot merge this method, or not into weights that are quantized this way; or what it
                made is another model.
        """
        if not hasattr(self.model.base_model, "merge_and_unload"):  # virtual tokens stand before the text
            raise TunesmithError(
                f"{_method(self.config)} cannot be merged: it adds no weights to those of the base",
                fix="Keep the adapter beside its base, or train lora where one plain model is needed.",
            )
        probe = Probe(self.handle, self.model)
        open_ties(self.model.get_base_model())
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Model with `tie_word_embeddings=True`")
                warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
                merged = self.model.merge_and_unload()
        except (NotImplementedError, ValueError) as error:
            if not self.handle.quantized:
                raise
            raise TunesmithError(
                f"{_method(self.config)} cannot be merged into a base that is quantized ({self.handle.quantized}): "
                "PEFT cannot add to such weights",
                fix="Merge it into the base in full precision: `tunesmith export RUN --use merge`.",
            ) from error
        say_untied(merged)
        probe.check(merged)
        return merged

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Refused; a method that PEFT can combine overrides it with `peft_combine.weighted`.

        Raises:
            TunesmithError: always.
        """
        raise TunesmithError(
            f"{_method(self.config)} adapters cannot be combined: PEFT has no weighted sum of them",
            fix="Keep the adapters apart: each can be loaded on the base by itself.",
        )

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The base model, as PEFT's `disable_adapter` gives it."""
        with self.model.disable_adapter():
            yield self.model


def _method(config: Any) -> str:
    """What PEFT calls the method of a configuration."""
    return str(getattr(config.peft_type, "value", config.peft_type))


def check_rank(layers: Mapping[str, Any], rank: int, setting: str = "rank") -> None:
    """Refuse a rank over the smaller side of a layer, where a low-rank update would not be low-rank.

    Args:
        layers: linear layers by name, as `target_layers` gives them.
        setting: the name of the rank's setting in [adapter].

    Raises:
        RecipeError: naming the first layer that is too small.
    """
    for name, layer in layers.items():
        check_size(name, *sides(layer), rank, setting)


def check_size(name: str, inputs: int, outputs: int, rank: int, setting: str = "rank") -> None:
    """Refuse a rank over the smaller side of one weight; see `check_rank`."""
    smallest = min(inputs, outputs)
    if rank > smallest:
        raise RecipeError(
            f"{setting} = {rank} is over the size of {name} ({inputs} x {outputs})",
            fix=f"Set {setting} = {smallest} or less in [adapter], or leave that layer out of target_modules.",
        )


def task_type(handle: ModelHandle) -> str | None:
    """PEFT's name of what a model with this head does."""
    return "CAUSAL_LM" if handle.head == "causal-lm" else None


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of the linear layers, which is what targets are written as."""
    return sorted({name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module)})


def target_layers(model: Any, targets: str | tuple[str, ...], *, upright: str = "") -> dict[str, Any]:
    """The linear layers of an unadapted model that `targets` means, by full name.

    Args:
        targets: "all-linear" (all but the head), or the last parts of names, or full names with `*` and `?`.
        upright: the name of a method that cannot work on transposed layers (`Conv1D`).

    Raises:
        RecipeError: a target is not in the model (the message lists those that are), or is transposed.
    """
    found = _target_layers(model, targets)
    transposed = [name for name, layer in found.items() if is_transposed(layer)] if upright else []
    if transposed:
        raise RecipeError(
            f"{upright} cannot adapt {transposed[0]}: it is a Conv1D layer, which holds its weights transposed",
            details=[f"{len(transposed)} of {len(found)} target layers are"],
            fix="Choose lora, adalora or ia3 in [adapter], which can.",
        )
    return found


def _target_layers(model: Any, targets: str | tuple[str, ...]) -> dict[str, Any]:
    from tunesmith_transformers.loading.heads import head_modules

    heads = [model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None]
    heads += [part for module in head_modules(model).values() for part in module.modules()]
    linear = {name: module for name, module in model.named_modules() if is_linear(module)}
    if targets == "all-linear":
        found = {name: module for name, module in linear.items() if not any(module is head for head in heads)}
        if not found:
            raise RecipeError("the model has no linear layers to adapt", fix="Choose another adapter.")
        return found
    wanted = (targets,) if isinstance(targets, str) else targets
    found = {}
    for target in wanted:
        matching = {n: m for n, m in linear.items() if f".{n}".endswith(f".{target}") or fnmatchcase(n, target)}
        if not matching:
            raise RecipeError(
                f"the model has no linear layer called {target!r}",
                details=[f"linear layers: {', '.join(linear_names(model))}"],
                fix='Mend target_modules in [adapter], or write "all-linear".',
            )
        found.update(matching)
    return found
