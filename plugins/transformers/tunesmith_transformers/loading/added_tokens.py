"""Tokens that a recipe adds to a model's vocabulary: in the tokenizer, and as rows of embedding and head.

A new row is the mean of all rows that the tokenizer had: a token that nothing has trained is then as likely as an
average one, and disturbs no other (Hewitt 2021, "Initializing new word embeddings for pretrained language models").
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith_transformers.loading.named_templates import is_one

NEW = "added_here"  # the attribute of a tokenizer that holds the ids that were added to it


def extend(tokenizer: Any, tokens: Iterable[str]) -> list[str]:
    """Add tokens to a tokenizer; what has to be said of it.

    Those that the chat template writes mark turns, so they become special tokens.
    """
    from transformers import AddedToken

    wanted = list(dict.fromkeys(tokens))
    known = [token for token in wanted if is_one(tokenizer, token)]
    new = [token for token in wanted if token not in known]
    template = str(tokenizer.chat_template or "")
    for token in new:
        special = token in template
        tokenizer.add_tokens([AddedToken(token, special=special, normalized=False)], special_tokens=special)
    setattr(tokenizer, NEW, tuple(tokenizer.convert_tokens_to_ids(new)))
    notes = [f"the vocabulary has {', '.join(known)} already"] if known else []
    if new:
        notes.append(f"added to the vocabulary: {', '.join(new)}; new rows begin as the mean of the others")
    return notes


def new_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids that were added to a tokenizer here."""
    return tuple(getattr(tokenizer, NEW, ()))


def rows_needed(tokenizer: Any) -> int:
    """How many rows of the embedding a tokenizer with added tokens needs."""
    return max(len(tokenizer), *(token + 1 for token in new_ids(tokenizer)), 0)


def resize(model: Any, tokenizer: Any, folder: Path) -> None:
    """Make room for the added tokens in embedding and head, and fill their rows with the mean of the known ones.

    Raises:
        DataError: the embedding or the head is quantized.
    """
    import torch

    new = new_ids(tokenizer)
    if not new:
        return
    parts = [part for part in (model.get_input_embeddings(), _head(model)) if part is not None]
    if not all(part.weight.is_floating_point() for part in parts):
        raise DataError(
            "add_tokens needs the embedding and the head in full precision, and one of them is quantized",
            where=str(folder),
            fix="Take the base in full precision, and quantize it with [quantizer].",
        )
    known = min(len(tokenizer) - len(new), parts[0].weight.shape[0])
    if rows_needed(tokenizer) > parts[0].weight.shape[0]:
        model.resize_token_embeddings(rows_needed(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for part in (model.get_input_embeddings(), _head(model)):
            for weights in (getattr(part, "weight", None), getattr(part, "bias", None)):
                if weights is not None:
                    weights[list(new)] = weights[:known].float().mean(dim=0).to(weights.dtype)


def _head(model: Any) -> Any:
    return model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
