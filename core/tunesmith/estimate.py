"""What a stage will take, before anything is loaded: what components tell, and what follows from it.

A component that knows its part says it through its `estimate` reference; what nobody says is not known, and is said to
be not known. The records hold numbers only, so nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

ASSUMED_TOKENS = 512  # of a row, where no row has been looked at
#: What glibc holds back of freed blocks, as a share of the activations between which they lie (docs/decisions/0022).
HELD_BACK = 0.8


@dataclass(frozen=True, kw_only=True)
class Block:
    """What a block keeps and does in a training step.

    Args:
        kept: values a token that the backward pass needs.
        kept_pairs: values for each two tokens of a row that it needs: where attention's weights are kept.
        kept_trained: values a token that it needs besides where the block's own weights are trained.
        moved: values a token that pass through memory beside the products, forward and backward.
        moved_pairs: the same for each two tokens of a row.
        calls: operations with a gradient.
        calls_trained: further ones where the block's own weights are trained.
    """

    kept: float
    moved: float
    calls: float
    kept_pairs: float = 0.0
    kept_trained: float = 0.0
    moved_pairs: float = 0.0
    calls_trained: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model without its weights, as `Model.estimate(settings, context, head)` tells it.

    Args:
        layers: blocks.
        hidden, intermediate: width of a block and of its feed-forward.
        heads, key_heads, head_size: of the attention.
        vocabulary: tokens.
        outputs: of the head: the vocabulary, or 1 for a scalar.
        tied: whether the head is the embedding's own weight.
        linear: (in, out) of each linear layer of a block, by its name below the block.
        other: parameters outside of linear layers, embedding and head: norms and biases.
        tensors: how many all of these are, without the head.
        bytes_per_parameter: as the weights are held.
        block: what a block keeps and does.
        note: what is not known of the model, as a sentence.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    outputs: int
    tied: bool
    linear: Mapping[str, tuple[int, int]]
    other: int
    tensors: int
    bytes_per_parameter: float
    block: Block
    note: str = ""

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the head beside the embedding's."""
        return 0 if self.tied else self.outputs * self.hidden

    @property
    def in_blocks(self) -> int:
        """Parameters of the linear layers of all blocks."""
        return self.layers * sum(rows * columns for rows, columns in self.linear.values())

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.in_blocks + self.embedding + self.head + self.other


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What a quantizer makes of the linear layers, as `Quantizer.estimate(settings, sizes)` tells it.

    Args:
        bytes_per_parameter: with scales and tables.
        skipped: names of linear layers that stay as they are.
    """

    bytes_per_parameter: float
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What an adapter trains, as `Adapter.estimate(settings, sizes)` tells it.

    Args:
        modules: trained parameters by module, over all blocks.
        added: how many of them the base has not.
        base_weights: whether gradients of the base's own weights are computed.
        head: whether the output head or the tied embedding is trained.
        kept: values a token and block that the backward pass needs beside the base's own.
        moved: values a token and block that pass through memory beside the base's own, forward and backward.
        calls: operations with a gradient a block beside the base's own.
        tensors: trained tensors, over all blocks.
    """

    modules: Mapping[str, int]
    added: int
    base_weights: bool = False
    head: bool = False
    kept: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    tensors: int = 0

    @property
    def parameters(self) -> int:
        """All that are trained."""
        return sum(self.modules.values())


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Rows as training sees them: tokens of each, and how many of these are supervised.

    Args:
        held: bytes that the rows take while they are trained on; 0 where they were not read.
        assumed: whether no row was looked at.
    """

    tokens: Sequence[int]
    supervised: Sequence[int]
    held: int = 0
    assumed: bool = False

    @classmethod
    def of_nothing(cls, limit: int | None, rows: int = 1000) -> Lengths:
        """Rows of which nothing is known but how long they may be."""
        tokens = min(limit or ASSUMED_TOKENS, ASSUMED_TOKENS)
        return cls(tokens=[tokens] * rows, supervised=[tokens] * rows, assumed=True)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One forward pass: rows, tokens of the longest of them, supervised tokens of all."""

    rows: int
    tokens: int
    supervised: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a trainer does, as `Trainer.estimate(settings, sizes, trained, lengths)` tells it; bytes and seconds follow.

    Args:
        steps: optimizer steps in all.
        longest: the batch that needs most memory.
        typical: what a mean step computes, over all of its forward passes.
        optimizer: bytes of the optimizer's state a trained parameter.
        activations: bytes kept for the backward pass of the longest batch.
        logits: bytes of the head's outputs there, and of what their loss keeps.
        saving: bytes that a checkpoint takes while it is written.
        flops: of the products of a typical step, multiplications and additions apart.
        moved: bytes that pass through memory in a typical step beside the products.
        passes: how often the weights of the base are read in a typical step.
        narrow: operations of a typical step in products with a narrow matrix, as of a low-rank adapter.
        narrow_read: weights of narrow matrices that these read, each as often as it is.
        attention: operations of attention itself in a typical step, as if nothing were masked.
        read: weights that the products of a typical step read, each as often as it is.
        calls: operations of a typical step, each with its gradient.
    """

    steps: int
    longest: Batch
    typical: Batch
    optimizer: float
    activations: int
    logits: int
    saving: int
    flops: float
    moved: float
    passes: float
    narrow: float = 0.0
    narrow_read: float = 0.0
    attention: float = 0.0
    read: float = 0.0
    calls: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What this machine does, measured once and kept (`tunesmith.speed`).

    Args:
        flops: of products in the shapes of a block, a second, not counting what their weights take to be read.
        narrow: the same of products with a matrix 16 wide.
        attention: of scaled dot-product attention with its gradient.
        bandwidth: bytes a second through plain operations on more memory than caches hold.
        read: seconds that a product takes for each of its weights, whatever the number of rows.
        narrow_read: the same of a matrix 16 wide.
        call: seconds of an operation with its gradient on next to nothing.
        process: bytes of a process that has imported the libraries; 0 where memory is a GPU's.
        overlaps: whether operations are called while earlier ones still run, as those of a GPU are.
        unpack: seconds that a quantizer takes to unpack a weight; 0 where it was not measured.
    """

    flops: float
    narrow: float
    attention: float
    bandwidth: float
    read: float
    narrow_read: float
    call: float
    process: int
    overlaps: bool = False
    unpack: float = 0.0

    def seconds(self, work: Work) -> float:
        """Of a typical step."""
        computing = work.flops / self.flops + work.narrow / self.narrow + work.attention / self.attention
        computing += work.read * self.read + work.narrow_read * self.narrow_read + work.moved / self.bandwidth
        calling = work.calls * self.call
        return max(computing, calling) if self.overlaps else computing + calling


@dataclass(frozen=True)
class Estimate:
    """What one stage will take.

    Args:
        parts: bytes by part.
        peak: bytes at the peak.
        phase: when the peak is.
        floor: bytes that are needed whatever the rows are.
        modules: trained parameters by module.
        seconds: of the whole training; None where this machine was not measured.
        step_seconds: of a typical step.
        assumed: whether the lengths of the rows are.
        notes: what is not known, in sentences.
    """

    parts: Mapping[str, int]
    peak: int
    phase: str
    floor: int
    modules: Mapping[str, int]
    parameters: int
    steps: int
    longest: Batch
    typical: Batch
    seconds: float | None
    step_seconds: float | None
    assumed: bool = False
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> dict[str, Any]:
        """The estimate as JSON-ready data."""
        return {**asdict(self), "trainable": sum(self.modules.values())}


def combined(
    sizes: Sizes,
    packed: Packed | None,
    trained: Trained,
    work: Work,
    speed: Speed | None,
    notes: Sequence[str] = (),
    assumed: bool = False,
    held_back: float = 0.0,
    data: int = 0,
) -> Estimate:
    """Put together what the components told.

    In a training step the activations are largest before the backward pass and the gradients after it, so that the
    larger of the two counts, and not their sum. A checkpoint is written when both are gone.

    Args:
        held_back: share of the activations that the C library holds on top of them where an adapter stands beside
            layers; where the layers themselves are trained it is the freed gradients, unless this is 0.
        data: bytes that the rows take in the same memory.
    """
    per = sizes.bytes_per_parameter
    kept = [
        shape for name, shape in sizes.linear.items() if packed is None or name.split(".")[-1] not in packed.skipped
    ]
    in_packed = sizes.layers * sum(rows * columns for rows, columns in kept) if packed else 0
    weights = (sizes.parameters - in_packed) * per + in_packed * (packed.bytes_per_parameter if packed else per)
    process = speed.process if speed else 0
    gradients = trained.parameters * max(per, 2)
    parts = {
        "process": process,
        "data": data,
        "weights": round(weights),
        "adapter": round(trained.added * per),
        "gradients": round(gradients),
        "optimizer": round(trained.parameters * work.optimizer),
        "activations": work.activations,
        "logits": work.logits,
        "held back": _held_back(work, trained, gradients, held_back),
        "checkpoint": work.saving,
    }
    held = sum(parts[name] for name in ("process", "data", "weights", "adapter", "optimizer"))
    in_step = sum(parts[name] for name in ("activations", "logits", "held back"))
    phases = {
        "training step": held + max(in_step, parts["gradients"]),
        "checkpoint": held + parts["checkpoint"],
    }
    phase = max(phases, key=lambda name: phases[name])
    seconds = None
    if speed:
        seconds = speed.seconds(work)
        if packed:  # for every product: where it was not measured, read, written out in full, and read again
            moved = in_packed * (packed.bytes_per_parameter + 2 * per)
            seconds += work.passes * (in_packed * speed.unpack if speed.unpack else moved / speed.bandwidth)
    return Estimate(
        parts=parts,
        peak=phases[phase],
        phase=phase,
        floor=held + parts["gradients"],
        modules=dict(trained.modules),
        parameters=sizes.parameters + trained.added,
        steps=work.steps,
        longest=work.longest,
        typical=work.typical,
        seconds=seconds * work.steps if seconds is not None else None,
        step_seconds=seconds,
        assumed=assumed,
        notes=tuple(notes),
    )


def _held_back(work: Work, trained: Trained, gradients: float, share: float) -> int:
    """What lies free in pieces: what an adapter adds to outputs of layers that are kept no longer, or old gradients."""
    if trained.base_weights:
        return round(gradients) if share else 0
    return round(work.activations * share)
