"""Examples longer than may be: cut at the end, refused, or cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith_transformers.tokens.example import Tokens, Unusable


def all_fitted(examples: Sequence[Tokens], max_length: int | None, overlong: str) -> list[Tokens]:
    """The examples of a row that fit, cut where they may be; those of which nothing supervised would be left are not
    among them.

    Raises:
        Unusable: there are none, or one is too long and may not be cut.
    """
    kept: list[Tokens] = []
    for place, tokens in enumerate(examples, 1):
        try:
            kept.append(fitted(tokens, max_length, overlong))
        except Unusable:
            if overlong == "drop" or (place == len(examples) and not kept):
                raise
    return kept


def fitted(tokens: Tokens, max_length: int | None, overlong: str) -> Tokens:
    """One example, no longer than `max_length`.

    Args:
        overlong: `truncate` cuts at the end, `drop` refuses the row.

    Raises:
        Unusable: the row is too long, or nothing supervised is left of it.
    """
    if max_length is None or len(tokens.ids) <= max_length:
        return tokens
    if overlong == "drop":
        raise Unusable(f"longer than max_length = {max_length}")
    if not any(tokens.weights[:max_length]):
        raise Unusable(f"the prompt alone fills max_length = {max_length}")
    return Tokens(tokens.ids[:max_length], tokens.weights[:max_length])


def chunks(tokens: Tokens, max_length: int | None) -> list[Tokens]:
    """One example in pieces no longer than `max_length`, each supervised token in exactly one of them.

    A piece begins with the last token of the one before it, from which its own first token is predicted. Pieces in
    which nothing is supervised are left out.

    Raises:
        Unusable: a piece of one token predicts nothing.
    """
    if max_length is None or len(tokens.ids) <= max_length:
        return [tokens]
    if max_length < 2:
        raise Unusable("a chunk of max_length = 1 predicts nothing")
    found = []
    for start in range(0, len(tokens.ids) - 1, max_length - 1):
        place = slice(start, start + max_length)
        found.append(Tokens(tokens.ids[place], [0.0, *tokens.weights[place][1:]]))
    return [piece for piece in found if any(piece.weights)]
