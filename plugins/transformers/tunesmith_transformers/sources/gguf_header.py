"""The metadata at the head of a GGUF file, read without its weights and without the gguf package."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

PLAIN = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
LARGEST = 1 << 26  # bytes of a string, or items of an array: more is no header


def read_header(path: Path) -> dict[str, Any]:
    """Metadata by key, arrays as their length, and `tensors`: the names in the file.

    The format is described in ggml's docs/gguf.md.

    Raises:
        ValueError, OSError, struct.error: it is no GGUF file, or is cut.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path.name} is no GGUF file")
        _one(file, "<I")  # version
        tensors, entries = _one(file, "<Q"), _one(file, "<Q")
        if max(tensors, entries) > LARGEST:
            raise ValueError(f"{path.name} has a damaged header")
        found = {}
        for _ in range(entries):
            key = _string(file)
            found[key] = _value(file, _one(file, "<I"))
        names = []
        for _ in range(tensors):
            names.append(_string(file))
            file.seek(8 * _one(file, "<I") + 4 + 8, 1)  # shape, type, offset
        return {**found, "tensors": names}


def config_of(header: dict[str, Any]) -> dict[str, Any] | None:
    """What a `config.json` of the same model would tell; None where the header does not tell enough."""
    kind = header.get("general.architecture")
    read = {
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "max_position_embeddings": "context_length",
        "vocab_size": "vocab_size",
    }
    found = {name: header.get(f"{kind}.{key}") for name, key in read.items()}
    found["vocab_size"] = found["vocab_size"] or header.get("tokenizer.ggml.tokens")
    if not all(found[name] for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")):
        return None
    return {"model_type": kind, **found, "tie_word_embeddings": "output.weight" not in header["tensors"]}


def _one(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _string(file: BinaryIO) -> str:
    length = _one(file, "<Q")
    if length > LARGEST:
        raise ValueError("a string of the header is longer than a header")
    return file.read(length).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in PLAIN:
        return _one(file, PLAIN[kind])
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        raise ValueError(f"the header has a value of unknown type {kind}")
    inner, length = _one(file, "<I"), _one(file, "<Q")
    if length > LARGEST:
        raise ValueError("an array of the header is longer than a header")
    if inner in PLAIN:
        file.seek(length * struct.calcsize(PLAIN[inner]), 1)
    else:
        for _ in range(length):
            _value(file, inner)
    return length
