"""What LoRA trains and takes, from the sizes of a model alone."""

from __future__ import annotations

from tunesmith.estimate import Sizes, Trained
from tunesmith_lora import LoraSettings
from tunesmith_transformers.estimates.model_sizes import names_of

CALLS = 12  # operations with a gradient a target


def trained(settings: LoraSettings, sizes: Sizes) -> Trained | None:
    """A (rank x in) and B (out x rank) of every target; None where ranks differ by name, or whole modules or
    experts are trained.

    Beside the base, B's input (rank values) of every target is kept. An update of `out` values passes through memory
    seven times (made, scaled, added; its gradient scaled and read), the gradient of the input three times. Two linear
    layers of four operations each, scaling, sum and the gradients of A and B are twelve operations a target.
    """
    if settings.rank_pattern or settings.modules_to_save or settings.target_parameters:
        return None
    rank = settings.rank
    targets = names_of(sizes.linear, settings.target_modules)
    modules, kept, moved = {}, 0.0, 0.0
    for name in targets:
        rows, columns = sizes.linear[name]
        magnitude = columns if settings.use_dora else 0
        modules[name] = sizes.layers * (rank * (rows + columns) + magnitude)
        kept += rank + (rows if settings.dropout else 0)  # dropout keeps its own copy of the input
        moved += 7 * columns + 3 * rows
    return Trained(
        modules=modules,
        added=sum(modules.values()),
        kept=kept,
        moved=moved,
        calls=CALLS * len(targets),
        tensors=(3 if settings.use_dora else 2) * len(targets) * sizes.layers,
    )
