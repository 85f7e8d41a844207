"""Whether the names in an adapter's settings are in the model, by its stored tensors. No torch and no PEFT here.

What a file calls a tensor is what the model calls it, but for the base model's prefix, for heads that share weights or
are new, and for the kinds of models whose tensors Transformers renames or fuses while it loads them: of these nothing
is said here, and the run refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith import RecipeError

Config = Mapping[str, Any] | None
Shapes = Mapping[str, tuple[int, ...]] | None

#: Heads, which a file lacks where they share the embedding's weights or are new.
HEADS = ("lm_head", "embed_out", "score", "classifier", "pre_classifier", "dense", "out_proj", "head", "pooler")
EMBEDDING = re.compile(r"(^|\.)(wte|wpe|embed_tokens|embed_in|embed_positions|\w+_embeddings)$")
#: Matrices within blocks that may be no linear layers.
UNSURE = re.compile(r"embed|bias|gate$|router|conv")
#: Kinds of models whose linear layers are stored transposed.
TRANSPOSED = ("gpt2", "openai-gpt")
BLOCK = re.compile(r"\.\d+\.")


def known(config: Config, shapes: Shapes) -> Mapping[str, tuple[int, ...]]:
    """The stored tensors where their names are those of the model; else none."""
    told = shapes and config and "auto_map" not in config and _renamings() and not renames(config)
    return shapes if shapes and told else {}


def renames(config: Config) -> bool:
    """Whether Transformers renames or fuses a model's tensors while it loads them."""
    listed = (config or {}).get("architectures")
    kinds = [(config or {}).get("model_type"), *(listed if isinstance(listed, list) else ())]
    return any(f'"{kind}"' in _renamings() for kind in kinds)


def check_targets(config: Config, targets: str | Iterable[str], shapes: Shapes, setting: str) -> None:
    """Refuse names of linear layers that the model does not have.

    Raises:
        RecipeError: naming the first, and the layers that there are.
    """
    stored = known(config, shapes)
    if not stored or targets == "all-linear":
        return
    there = _linear(stored)
    for target in [targets] if isinstance(targets, str) else targets:
        if _head(target) or any(_means(target, name) for name in there):
            continue
        raise RecipeError(
            f"the model has no linear layer called {target!r}",
            details=[f"linear layers: {', '.join(_last(there))}"],
            fix=f"Mend {setting} in [adapter]."
            if setting != "target_modules"
            else 'Mend target_modules in [adapter], or write "all-linear".',
            setting=(setting,),
        )


def check_modules(config: Config, names: Iterable[str], shapes: Shapes) -> None:
    """Refuse names of modules to train in full that the model does not have.

    Raises:
        RecipeError: naming the first, and the modules that there are.
    """
    holders = {name.rpartition(".")[0] for name in known(config, shapes)}
    if not holders:
        return
    there = holders | {above for name in holders for above in _above(name)}
    for wanted in names:
        if not _head(wanted) and not any(_means(wanted, name) for name in there):
            raise RecipeError(
                f"the model has no module called {wanted!r}",
                details=[f"modules with weights: {', '.join(_last(holders))}"],
                fix="Mend modules_to_save in [adapter].",
                setting=("modules_to_save",),
            )


def check_fused(config: Config, targets: Iterable[str], shapes: Shapes) -> None:
    """Refuse names of fused weights that the model does not have.

    Raises:
        RecipeError: naming the first, and the fused weights that there are.
    """
    stored = known(config, shapes)
    there = [name for name, shape in stored.items() if len(shape) == 3 and "conv" not in name]
    for target in targets if stored else ():
        if not any(_means(target, name) for name in there):
            parts = sorted({".".join(name.split(".")[-2:]) for name in there})
            raise RecipeError(
                f"the model has no fused weights called {target!r}",
                details=[f"fused weights of experts: {', '.join(parts) or 'none'}"],
                fix="Mend target_parameters in [adapter].",
                setting=("target_parameters",),
            )


def sizes(config: Config, targets: str | Iterable[str], shapes: Shapes) -> dict[str, tuple[int, int]]:
    """(in, out) of the linear layers within blocks that `targets` means, by full name; those in doubt are left out."""
    turned = (config or {}).get("model_type") in TRANSPOSED
    wanted = [targets] if isinstance(targets, str) else list(targets)
    return {
        name: (sides if turned else (sides[1], sides[0]))
        for name, sides in _linear(known(config, shapes)).items()
        if BLOCK.search(f".{name}.")
        and not UNSURE.search(name.rpartition(".")[2])
        and (targets == "all-linear" or any(_means(target, name) for target in wanted))
    }


def _linear(stored: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """The sides of what may be a linear layer, as they are stored, by the layer's name."""
    found = {name.removesuffix(".weight"): shape for name, shape in stored.items() if name.endswith(".weight")}
    return {name: (s[0], s[1]) for name, s in found.items() if len(s) == 2 and not EMBEDDING.search(name)}


def _means(target: str, name: str) -> bool:
    """Whether a target of a recipe means a stored name, with or without the base model's prefix."""
    full = (name, f"{target.partition('.')[0]}.{name}")
    return any(f".{one}".endswith(f".{target}") or fnmatchcase(one, target) for one in full)


def _head(target: str) -> bool:
    return target.rpartition(".")[2] in HEADS


def _last(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


@cache
def _renamings() -> str:
    """The source of Transformers that says which kinds of models are renamed while they are loaded; empty for none."""
    spec = find_spec("transformers")
    try:
        return (Path(spec.origin).parent / "conversion_mapping.py").read_text("utf-8") if spec and spec.origin else ""
    except OSError:
        return ""
