"""What full tuning trains and takes, from the sizes of a model alone."""

from __future__ import annotations

from tunesmith.estimate import Sizes, Trained
from tunesmith_full import FullSettings


def full(settings: FullSettings, sizes: Sizes) -> Trained:
    """Everything; the weights' own gradients need nothing kept that the blocks do not keep anyway."""
    modules = {"embedding": sizes.embedding}
    modules |= {name: sizes.layers * rows * columns for name, (rows, columns) in sizes.linear.items()}
    modules["norms and biases"] = sizes.other
    if sizes.head:
        modules["head"] = sizes.head
    copy = sizes.parameters if settings.keep_base else 0
    tensors = sizes.tensors + (1 if sizes.head else 0)
    return Trained(modules=modules, added=copy, base_weights=True, head=True, tensors=tensors)
