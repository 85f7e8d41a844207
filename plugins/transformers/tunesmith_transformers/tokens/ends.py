"""What ends an answer: the tokens at which serving stops.

They are the tokenizer's own end token, and those that the model was published with (`eos_token_id` of its
generation_config.json, one or several). A tokenizer that is loaded without its model is told of them by
`note_ends`, so that previews and training see the same; everything else asks here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

NOTED = "served_ends"  # the attribute of a tokenizer that holds the ids of its model's generation settings


def note_ends(tokenizer: Any, ids: Iterable[int]) -> None:
    """Let a tokenizer know at which tokens, besides its own end token, its model's answers stop."""
    setattr(tokenizer, NOTED, tuple(sorted({*getattr(tokenizer, NOTED, ()), *ids})))


def published_ends(folder: Path) -> tuple[int, ...]:
    """The end tokens in a model folder's generation_config.json; empty where there are none, or none can be read."""
    try:
        content = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return listed(content.get("eos_token_id")) if isinstance(content, dict) else ()


def stop_at(model: Any, ids: tuple[int, ...]) -> None:
    """Let a model's own generation settings stop at these tokens, so that whoever serves it does."""
    settings = getattr(model, "generation_config", None)
    if settings is not None and not {*ids} <= {*listed(settings.eos_token_id)}:
        found = sorted({*ids, *listed(settings.eos_token_id)})
        settings.eos_token_id = found if len(found) > 1 else found[0]


def listed(value: Any) -> tuple[int, ...]:
    """`eos_token_id` of a configuration, which is a number, a list, or nothing."""
    found = value if isinstance(value, (list, tuple)) else [value]
    return tuple(token for token in found if isinstance(token, int) and not isinstance(token, bool) and token >= 0)


def end_ids(tokenizer: Any) -> tuple[int, ...]:
    """The ids at which an answer stops, in ascending order: the tokenizer's own, and those that it was told of."""
    own = tokenizer.eos_token_id
    return tuple(sorted({*getattr(tokenizer, NOTED, ()), *(() if own is None else (own,))}))


def end_texts(tokenizer: Any) -> tuple[str, ...]:
    """The same as texts."""
    return tuple(tokenizer.convert_ids_to_tokens(list(end_ids(tokenizer))))


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """A plain text as serving feeds it to a model that shall go on from it.

    What the tokenizer puts in front (a begin token) stays; an end token that it would put behind does not: nothing
    follows an end.
    """
    ids = list(tokenizer(text)["input_ids"])
    behind = _behind(tokenizer)
    return ids[: len(ids) - behind] if behind else ids


def ended(tokenizer: Any, ids: list[int]) -> list[int]:
    """Ids with the tokenizer's end token behind them, once."""
    return ids if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def _behind(tokenizer: Any) -> int:
    """How many tokens the tokenizer itself puts behind a text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    processor = getattr(backend, "post_processor", None)
    state = (getattr(tokenizer, "add_eos_token", None), str(processor) if processor is not None else "")
    known = _BEHIND.get(tokenizer)
    if known is None or known[0] != state:
        whole = list(tokenizer("a")["input_ids"])
        bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        starts = range(len(whole) - len(bare), -1, -1)
        start = next((place for place in starts if whole[place : place + len(bare)] == bare), len(whole) - len(bare))
        known = (state, len(whole) - len(bare) - start)
        _BEHIND[tokenizer] = known
    return known[1]


_BEHIND: WeakKeyDictionary[Any, tuple[Any, int]] = WeakKeyDictionary()
