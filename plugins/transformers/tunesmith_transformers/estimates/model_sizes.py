"""The sizes of models, from a `config.json` alone. No torch here.

What a block keeps for its backward pass and what passes through memory is derived by asking of each operation what it
reads and writes and what its gradients need (h: hidden, a: heads x head size, i: intermediate).

Llama's block keeps a token:

    4 h  the residual stream before each of two norms, and the output of each norm (what the layers after it read)
    4 a  queries, keys and values as attention reads them (keys and values repeated for every head), and its output
    4 i  gate, its activation, up, and their product (the input of the last layer)
    2 h  the normalized stream of each norm, where the norms' own weights are trained

and moves 89 h (two norms, rotation, repeated keys and values, residual sums and their gradients) and 14 i (activation
and product of the feed-forward).

BERT's block keeps a token:

    4 h  what each of two norms reads, and what it gives to the layers after it
    4 a  queries, keys and values as attention reads them, and its output
    2 i  what the activation reads and gives
    2 h  the noise of two dropouts (on the CPU a value each, on a GPU a byte, which is not told apart)

and moves 37 h (norms, dropout, residual sums, the three gradients of the block's input), 8 a (heads apart and
together again) and 5 i. With dropout on attention's weights these are kept, before and after it, and the noise: 3
values for each two tokens of a row and head, and 13 pass through memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.estimate import Block, Sizes

#: Model types whose blocks are Llama's: what each has besides (biases of q, k, v; norms of queries and keys).
BLOCKS = {"llama": "", "mistral": "", "smollm3": "", "qwen2": "biases", "qwen3": "norms"}
#: Model types whose blocks are BERT's.
ENCODERS = ("bert", "roberta", "xlm-roberta")
LABELS = ("sequence-labels", "token-labels")
OF_LABELS = "the head is counted for one label: how many there are is in the data"


def sizes_of(config: Mapping[str, Any], head: str, bytes_per_parameter: float) -> Sizes | None:
    """The sizes that a `config.json` tells; None for blocks of another kind."""
    kind = config.get("model_type")
    if kind in ENCODERS:
        return _encoder(config, head, bytes_per_parameter)
    return _decoder(config, head, bytes_per_parameter) if kind in BLOCKS else None


def _decoder(config: Mapping[str, Any], head: str, bytes_per_parameter: float) -> Sizes:
    """Llama's kind."""
    kind = config["model_type"]
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
    tensors = len(linear) + 2 + len(biased) + (2 if BLOCKS[kind] == "norms" else 0)
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
        tensors=layers * tensors + 2,
        bytes_per_parameter=bytes_per_parameter,
        block=Block(
            kept=4 * hidden + 4 * heads * size + 4 * wide,
            kept_trained=2 * hidden,
            moved=89 * hidden + 14 * wide,
            calls=63,
            calls_trained=2 * len(linear) + 2,  # each weight's transposition and gradient, the gradients of two norms
        ),
        note=OF_LABELS if head in LABELS else "",
    )


def _encoder(config: Mapping[str, Any], head: str, bytes_per_parameter: float) -> Sizes:
    """BERT's kind, without the pooler, which a head on mean-pooled tokens has not."""
    hidden, heads, wide = config["hidden_size"], config["num_attention_heads"], config["intermediate_size"]
    layers, size = config["num_hidden_layers"], config["hidden_size"] // config["num_attention_heads"]
    linear = {
        **{f"attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")},
        "attention.output.dense": (hidden, hidden),
        "intermediate.dense": (hidden, wide),
        "output.dense": (wide, hidden),
    }
    a_block = sum(out for _, out in linear.values()) + 4 * hidden  # biases, and two norms of weight and bias
    embedded = config["max_position_embeddings"] + config["type_vocab_size"] + 2
    dropped, unheeded = config.get("hidden_dropout_prob", 0.1), config.get("attention_probs_dropout_prob", 0.1)
    return Sizes(
        layers=layers,
        hidden=hidden,
        intermediate=wide,
        heads=heads,
        key_heads=heads,
        head_size=size,
        vocabulary=config["vocab_size"],
        outputs=1,
        tied=False,
        linear=linear,
        other=layers * a_block + embedded * hidden,
        tensors=layers * (2 * len(linear) + 4) + 5,
        bytes_per_parameter=bytes_per_parameter,
        block=Block(
            kept=8 * hidden + 2 * wide + (2 * hidden if dropped else 0),
            kept_pairs=3 * heads if unheeded else 0,
            moved=45 * hidden + 5 * wide,
            moved_pairs=13 * heads if unheeded else 0,
            calls=55,
            calls_trained=22,  # each weight's transposition and gradient, the gradients of biases and norms
        ),
        note=OF_LABELS if head in LABELS else "",
    )


def read_config(path: Path) -> dict[str, Any] | None:
    """A `config.json`; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("text_config", found) if isinstance(found, dict) else None


def names_of(linear: Iterable[str], targets: str | Sequence[str]) -> list[str]:
    """Those of a block's linear layers that an adapter's `target_modules` mean, by the last part of their names."""
    if targets == "all-linear":
        return list(linear)
    wanted = {target.rpartition(".")[2] for target in ([targets] if isinstance(targets, str) else targets)}
    return [name for name in linear if name.rpartition(".")[2] in wanted]
