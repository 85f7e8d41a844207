"""What a training step takes, from the sizes of a model and the lengths of rows alone. No torch here.

A frozen linear layer keeps nothing for itself; an adapter beside it keeps that layer's input, which the block counts,
and its own inner values (`Trained.kept`). With activation checkpointing a block keeps its input, and one block at a
time has the rest. The head keeps its outputs and their log-softmax, float32, on supervised positions only.
"""

from __future__ import annotations

import math
import random

from tunesmith.estimate import Batch, Lengths, Sizes, Trained, Work
from tunesmith_transformers.training.optimizers import PAGED
from tunesmith_transformers.training.settings import TrainingSettings

POOL = 50  # batches among which rows are sorted by length (`EpochSampler`)
#: Bytes of state a trained parameter, by a sign in the optimizer's name; two float32 moments where there is none.
STATE = (("8bit", 2.0), ("sgd", 0.0), ("adafactor", 0.1), ("lion", 4.0))
#: Values that pass through memory a trained parameter in one step of AdamW, gradient norm and scaling included.
UPDATED = 24
MOVED_LOGITS = 7  # of each logit: written, read, normalized, read, and its gradient
MOVED_TIED = 5  # of each weight of a tied embedding: a gradient of zeros, and the sum with that of the head
#: Operations of AdamW, gradient norm and scaling on a tensor, in operations that have a gradient besides.
CALLS_UPDATED = 5


def training(settings: TrainingSettings, sizes: Sizes, trained: Trained, lengths: Lengths) -> Work:
    """One row, one answer: what `sft` and its like compute."""
    return work(settings, sizes, trained, lengths)


def pairs(settings: TrainingSettings, sizes: Sizes, trained: Trained, lengths: Lengths) -> Work:
    """Two answers a row, a sequence each with the prompt: `lengths` are those of both together."""
    return work(settings, sizes, trained, _sides(lengths), sides=2)


def compared_pairs(settings: TrainingSettings, sizes: Sizes, trained: Trained, lengths: Lengths) -> Work:
    """`pairs`, and a reference model's pass over the same rows in each step, unless it was computed before."""
    forwards = 0 if getattr(settings, "precompute_reference", False) else 1
    return work(settings, sizes, trained, _sides(lengths), sides=2, forwards=forwards)


def _sides(lengths: Lengths) -> Lengths:
    """Half of each row; where no row was looked at, each side is as long as is assumed."""
    if lengths.assumed:
        return lengths
    tokens, supervised = ([-(-count // 2) for count in counts] for counts in (lengths.tokens, lengths.supervised))
    return Lengths(tokens=tokens, supervised=supervised)


def work(
    settings: TrainingSettings, sizes: Sizes, trained: Trained, lengths: Lengths, sides: int = 1, forwards: int = 0
) -> Work:
    """What a trainer on the durable base does.

    Args:
        sides: sequences of a row, each as long as the row.
        forwards: further passes over the same rows that need no gradient.
    """
    batch, accumulated = settings.batch_size, settings.gradient_accumulation_steps
    longest = longest_batch(lengths, batch, sides)
    passes, padded, supervised = typical_step(settings, lengths, sides)
    per = max(sizes.bytes_per_parameter, 2)
    attention = sizes.heads * sizes.head_size
    block = sizes.block.kept + sizes.block.kept_pairs * longest.tokens + trained.kept
    block += sizes.block.kept_trained if trained.base_weights else 0
    tokens = longest.rows * longest.tokens
    kept: float = sizes.layers * block if not settings.activation_checkpointing else sizes.layers * sizes.hidden + block
    outputs = longest.supervised if sizes.outputs > 1 else longest.rows
    logits: float = 2 * outputs * sizes.outputs * 4
    logits += sizes.outputs * sizes.hidden * per if trained.head else 0
    mean = padded / passes / batch / sides if passes else 0.0  # tokens of a padded row
    again = 2 if settings.activation_checkpointing else 1
    ahead = again + forwards  # forward passes
    products = ahead + 1 + (1 if trained.base_weights else 0)  # with each weight of a block
    with_head = forwards + (3 if trained.head else 2)
    head = sizes.outputs * sizes.hidden
    narrow = 0 if trained.base_weights else trained.added
    moved = (
        padded
        * sizes.layers
        * (sizes.block.moved + sizes.block.moved_pairs * mean + trained.moved)
        * (1 + 0.3 * (ahead - 1))
    )
    moved += supervised * sizes.outputs * MOVED_LOGITS + trained.parameters * UPDATED
    moved += MOVED_TIED * sizes.embedding if trained.head and sizes.tied else 0
    calls = sizes.block.calls + trained.calls + (sizes.block.calls_trained if trained.base_weights else 0)
    calls *= sizes.layers * passes * (1 + (ahead - 1) / 3)  # a forward pass alone takes a third
    return Work(
        steps=steps_of(settings, len(lengths.tokens)),
        longest=longest,
        typical=Batch(rows=batch * accumulated * sides, tokens=round(mean), supervised=round(supervised)),
        optimizer=optimizer_bytes(settings),
        activations=round(tokens * kept * per),
        logits=round(logits),
        saving=0,  # a checkpoint is written from the tensors themselves
        flops=2 * (padded * products * sizes.in_blocks + supervised * with_head * head),
        moved=moved * per,
        passes=(1 + ahead) * passes,
        narrow=2 * padded * (ahead + 2) * narrow,
        narrow_read=passes * (ahead + 2) * narrow,
        attention=padded * (4 * ahead + 10) * mean * attention * sizes.layers,
        read=passes * (products * sizes.in_blocks + with_head * head),
        calls=calls + CALLS_UPDATED * trained.tensors,
    )


def steps_of(settings: TrainingSettings, rows: int) -> int:
    """Optimizer steps, counted as Transformers does."""
    if settings.max_steps:
        return settings.max_steps
    an_epoch = math.ceil(math.ceil(rows / settings.batch_size) / settings.gradient_accumulation_steps)
    return max(1, math.ceil(settings.epochs * an_epoch))


def optimizer_bytes(settings: TrainingSettings) -> float:
    """Bytes of state a trained parameter."""
    name = settings.optim
    name = PAGED.get(name, name)
    return next((held for sign, held in STATE if sign in name), 8.0)


def longest_batch(lengths: Lengths, rows: int, sides: int) -> Batch:
    """The batch that needs most memory: the longest rows together."""
    order = sorted(range(len(lengths.tokens)), key=lambda index: -lengths.tokens[index])[:rows]
    supervised = sum(lengths.supervised[index] for index in order) * sides
    return Batch(rows=len(order) * sides, tokens=lengths.tokens[order[0]] if order else 0, supervised=supervised)


def typical_step(settings: TrainingSettings, lengths: Lengths, sides: int) -> tuple[int, float, float]:
    """A mean step: its forward passes, its tokens with padding, its supervised tokens."""
    batch, passes = settings.batch_size, settings.gradient_accumulation_steps
    order = list(range(len(lengths.tokens)))
    random.Random(0).shuffle(order)
    if settings.group_by_length:
        size = batch * passes * POOL
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        order = [index for pool in pools for index in sorted(pool, key=lambda index: -lengths.tokens[index])]
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    if not batches:
        return passes, 0.0, 0.0
    padded = sum(len(found) * max(lengths.tokens[index] for index in found) for found in batches) / len(batches)
    supervised = sum(lengths.supervised) / len(batches)
    return passes, padded * passes * sides, supervised * passes * sides
