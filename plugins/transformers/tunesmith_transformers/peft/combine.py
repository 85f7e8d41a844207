"""Adapters of PEFT as one: load each beside the others, let PEFT add them up, keep the sum in PEFT's layout."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
from safetensors.torch import load_file

from tunesmith import DataError, TunesmithError
from tunesmith.adapted import SavedAdapter
from tunesmith_transformers.peft.adapted import PeftAdapted

COMBINED = "combined"


def weighted(
    adapted: PeftAdapted,
    parts: Sequence[SavedAdapter],
    folder: Path,
    check: Callable[[Sequence[Any]], None],
    **arguments: Any,
) -> Any:
    """Write the weighted sum of saved adapters, and return its PEFT configuration.

    Only the adapters' own tensors are read, so the weights of `adapted`'s base do not matter.

    Args:
        check: called with the parts' configurations before they are added up; may refuse, or mend them.
        arguments: further arguments of PEFT's `add_weighted_adapter`.

    Raises:
        DataError: a part does not fit the model.
        TunesmithError: PEFT refuses, with its reason.
    """
    model = adapted.model
    names = [f"part{number}" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        _load(model, name, part.folder)
    configs = [model.peft_config[name] for name in names]
    _check_whole_modules(configs, parts)
    check(configs)
    weights = [part.weight for part in parts]
    try:
        model.base_model.add_weighted_adapter(names, weights, COMBINED, **arguments)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TunesmithError(
            f"PEFT cannot combine these adapters: {' '.join(str(error).split())}",
            fix="Combine them in another way: --how NAME.",
        ) from error
    config = model.peft_config[COMBINED]
    config.base_model_name_or_path = adapted.handle.source
    model.save_pretrained(str(folder), selected_adapters=[COMBINED], save_embedding_layers=False)
    for path in sorted((folder / COMBINED).iterdir()):
        path.rename(folder / path.name)
    shutil.rmtree(folder / COMBINED)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card
    return config


def only(options: Mapping[str, Any], *known: str) -> None:
    """Refuse options that nothing reads.

    Raises:
        UsageError: naming the first one.
    """
    from tunesmith import UsageError

    for name in options:
        if name not in known:
            raise UsageError(
                f"{name!r} is no option of this way to combine",
                fix=f"It takes: {', '.join(known)}." if known else "It takes none.",
            )


def _load(model: Any, name: str, folder: Path) -> None:
    """Load one adapter under a name; every tensor must be there, and no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\.")
        try:
            model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
        except (ValueError, KeyError, RuntimeError, OSError) as error:
            raise DataError(
                f"the adapter in {folder} does not fit: {' '.join(str(error).split())}"[:500], where=str(folder)
            ) from error
    saved = load_file(str(folder / "adapter_model.safetensors"))
    held = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    differing = sorted(set(saved) ^ set(held))
    if differing:
        raise DataError(
            f"the adapter in {folder} does not fit: {len(differing)} tensors differ in name",
            where=str(folder),
            details=differing[:5],
        )


def _check_whole_modules(configs: Sequence[Any], parts: Sequence[SavedAdapter]) -> None:
    for config, part in zip(configs, parts, strict=True):
        if config.modules_to_save:
            raise TunesmithError(
                f"the adapter in {part.folder} holds modules that were trained in full "
                f"({', '.join(sorted(config.modules_to_save))}), and PEFT does not add those up",
                fix="Combine adapters that were trained without modules_to_save.",
            )
