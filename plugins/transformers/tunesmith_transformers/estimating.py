"""What a model holds and what a training step takes, from configuration and lengths alone. No torch here.

Values that the backward pass keeps, a token and block, for blocks as Llama's (h: hidden, a: heads x head size,
i: intermediate; derived by asking of each operation what its gradients need):

    4 h  the residual stream before each of two norms, and the output of each norm (what the layers after it read)
    4 a  queries, keys and values as attention reads them (keys and values repeated for every head), and its output
    4 i  gate, its activation, up, and their product (the input of the last layer)
    2 h  the normalized stream of each norm, where the norms' own weights are trained

A frozen linear layer keeps nothing for itself; an adapter beside it keeps that layer's input, which is counted here,
and its own inner values (`Trained.kept`). With activation checkpointing a block keeps its input (h), and one block at a
time has the rest. The head keeps its outputs and their log-softmax, float32, on supervised positions only.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.estimate import Batch, Lengths, Sizes, Trained, Work
from tunesmith_transformers.optimizers import PAGED, wanted
from tunesmith_transformers.settings import TrainingSettings

POOL = 50  # batches among which rows are sorted by length (`EpochSampler`)
#: Bytes of state a trained parameter, by a sign in the optimizer's name; two float32 moments where there is none.
STATE = (("8bit", 2.0), ("sgd", 0.0), ("adafactor", 0.1), ("lion", 4.0))
#: Values that pass through memory a trained parameter in one step of AdamW, gradient norm and scaling included.
UPDATED = 24
#: Values that pass through memory a token and block, forward and backward: two norms, rotation, repeated keys and
#: values, residual sums and their gradients (of the width), activation and product of the feed-forward (of its width).
MOVED_HIDDEN, MOVED_INTERMEDIATE = 89, 14
MOVED_LOGITS = 7  # of each logit: written, read, normalized, read, and its gradient
#: Operations with a gradient of a block as Llama's with frozen weights; trained, each linear layer adds its weight's
#: transposition and gradient, each of two norms its gradient.
CALLS, CALLS_LINEAR, CALLS_NORMS = 63, 2, 2
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
    block: float = 4 * sizes.hidden + 4 * attention + 4 * sizes.intermediate + trained.kept
    block += 2 * sizes.hidden if trained.base_weights else 0
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
    moved = (
        padded
        * sizes.layers
        * (MOVED_HIDDEN * sizes.hidden + MOVED_INTERMEDIATE * sizes.intermediate + trained.moved)
        * (1 + 0.3 * (ahead - 1))
    )
    moved += supervised * sizes.outputs * MOVED_LOGITS + trained.parameters * UPDATED
    calls = CALLS + trained.calls + (CALLS_LINEAR * len(sizes.linear) + CALLS_NORMS if trained.base_weights else 0)
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
        narrow=padded * (2 * ahead + 4) * (0 if trained.base_weights else trained.added),
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
    name = wanted(settings)
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


# --- sizes ----------------------------------------------------------------------------------------
#: Model types whose blocks are Llama's: what each has besides (biases of q, k, v; norms of queries and keys).
BLOCKS = {"llama": "", "mistral": "", "smollm3": "", "qwen2": "biases", "qwen3": "norms"}


def sizes_of(config: Mapping[str, Any], head: str, bytes_per_parameter: float) -> Sizes | None:
    """The sizes that a `config.json` tells; None for blocks of another kind."""
    kind = config.get("model_type")
    if kind not in BLOCKS:
        return None
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    keys = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or hidden // heads
    wide, layers = config["intermediate_size"], config["num_hidden_layers"]
    linear = {
        "self_attn.q_proj": (hidden, heads * size),
        "self_attn.k_proj": (hidden, keys * size),
        "self_attn.v_proj": (hidden, keys * size),
        "self_attn.o_proj": (heads * size, hidden),
        "mlp.gate_proj": (hidden, wide),
        "mlp.up_proj": (hidden, wide),
        "mlp.down_proj": (wide, hidden),
    }
    biased = [name for name in linear if name[-6:-5] in "qkv"] if BLOCKS[kind] == "biases" else []
    if config.get("attention_bias"):
        biased = [name for name in linear if name.startswith("self_attn")]
    biased += [name for name in linear if name.startswith("mlp")] if config.get("mlp_bias") else []
    other = layers * (2 * hidden + sum(linear[name][1] for name in biased)) + hidden
    other += layers * 2 * size if BLOCKS[kind] == "norms" else 0
    return Sizes(
        layers=layers,
        hidden=hidden,
        intermediate=wide,
        heads=heads,
        key_heads=keys,
        head_size=size,
        vocabulary=config["vocab_size"],
        outputs=config["vocab_size"] if head == "causal-lm" else 1,
        tied=bool(config.get("tie_word_embeddings", False)) and head == "causal-lm",
        linear=linear,
        other=other,
        bytes_per_parameter=bytes_per_parameter,
    )


def read_config(path: Path) -> dict[str, Any] | None:
    """A `config.json`; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("text_config", found) if isinstance(found, dict) else None


def names_of(sizes: Sizes, targets: str | Sequence[str]) -> list[str]:
    """The linear layers of a block that an adapter's `target_modules` mean, by the last part of their names."""
    if targets == "all-linear":
        return list(sizes.linear)
    wanted = {target.rpartition(".")[2] for target in ([targets] if isinstance(targets, str) else targets)}
    return [name for name in sizes.linear if name.rpartition(".")[2] in wanted]
