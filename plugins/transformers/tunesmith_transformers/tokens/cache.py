"""Tokenized training rows, kept by their content: the same rows are tokenized once.

An entry is a folder of the cache, named by a sha256 over everything that decides its tokens: the rows, their record
type, the tokenizer with its chat template, the limits, and the versions of the core, of this plugin, of Transformers
and of Tokenizers. It holds the rows as Arrow and what the ledger is to be told as JSON, with digests that are verified
before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from tunesmith import Column, Context, Ledger, Records
from tunesmith.staging import scratch, staging_folder, sweep
from tunesmith.store import DIGESTS, damage, digests_of
from tunesmith_transformers.tokens import encoding as tokens
from tunesmith_transformers.tokens import pairs
from tunesmith_transformers.tokens import rows_file as token_rows
from tunesmith_transformers.tokens.ends import end_ids
from tunesmith_transformers.tokens.example import WEIGHTLESS, weight_of
from tunesmith_transformers.tokens.pairs import Pair
from tunesmith_transformers.tokens.rows_file import TokenRows

ROWS, LEDGER = "rows.arrow", "ledger.json"
WORTH_KEEPING = 1000  # rows; fewer are tokenized in no time
FORM = 3  # of an entry; another one is made where it changes
KEPT = 8  # entries; those used longest ago go
LIBRARIES = ("tunesmith", "tunesmith-transformers", "transformers", "tokenizers")

Keep = Literal["auto", "always", "never"]


Read = TypeVar("Read")


def encode(
    records: Records,
    record_type: str,
    tokenizer: Any,
    context: Context,
    *,
    max_length: int | None = None,
    overlong: str = "auto",
    supervise: str = "answers",
    turns: str = "all",
    columns: Mapping[str, Column] | None = None,
    keep: Keep = "auto",
) -> TokenRows:
    """Encode rows as `tokens.encode` does, into a file; out of the cache where they are there.

    Args:
        keep: whether to keep them in the cache; `auto` does from 1,000 rows on.

    Raises:
        DataError: as `tokens.encode`.
        DiskError: the tokens can be written nowhere.
    """
    options: dict[str, Any] = {"max_length": max_length, "overlong": overlong, "supervise": supervise, "turns": turns}

    def write(path: Path, ledger: Ledger) -> None:
        token_rows.write(path, tokens.encoded(records, record_type, tokenizer, ledger=ledger, **options))

    about = {"type": record_type, "options": options}
    rows = remembered(records, tokenizer, context, about, write=write, read=TokenRows, keep=keep)
    if columns:
        names = (item.row for item in rows)
        rows.columns = token_rows.values_of(records, names, lambda row: tokens.column_values(row, columns))
    return rows


def encode_pairs(
    records: Records,
    tokenizer: Any,
    context: Context,
    *,
    max_length: int | None = None,
    overlong: str = "truncate",
    turns: str = "all",
    columns: Mapping[str, Column] | None = None,
    keep: Keep = "auto",
) -> list[Pair]:
    """Encode pairs as `pairs.encode_pairs` does; out of the cache where they are there.

    Raises:
        DataError: as `pairs.encode_pairs`.
        DiskError: the tokens can be written nowhere.
    """
    options: dict[str, Any] = {"max_length": max_length, "overlong": overlong, "turns": turns}

    def write(path: Path, ledger: Ledger) -> None:
        found = pairs.encode_pairs(records, tokenizer, ledger=ledger, **options)
        token_rows.write(path, (side for pair in found for side in (pair.chosen, pair.rejected)))

    about = {"type": "preference", "options": options}
    sides = iter(remembered(records, tokenizer, context, about, write=write, read=TokenRows, keep=keep))
    kept = list(zip(sides, sides, strict=True))
    names = (chosen.row for chosen, _ in kept)
    values = token_rows.values_of(
        records, names, lambda row: (tokens.column_values(row, columns or {}), pairs.margin_of(row), weight_of(row))
    )
    return [
        Pair(chosen.row, replace(chosen, columns=own), replace(rejected, columns=own), margin, weight)
        for (chosen, rejected), (own, margin, weight) in zip(kept, values, strict=True)
    ]


def remembered(
    records: Records,
    tokenizer: Any,
    context: Context,
    about: Mapping[str, Any],
    *,
    write: Callable[[Path, Ledger], None],
    read: Callable[[Path], Read],
    keep: Keep = "auto",
) -> Read:
    """What `read` makes of the file that `write` made of some rows, now or when the same were tokenized before.

    What was written to the ledger then is written to it again.

    Args:
        about: whatever decides the tokens beside rows, tokenizer and the libraries of this plugin.
        write: makes the file, and notes in a ledger what became of rows that it dropped or cut.
        read: opens the file, which may be gone afterwards.
        keep: whether to keep it in the cache; `auto` does from 1,000 rows on.

    Raises:
        DiskError: the tokens can be written nowhere.
    """
    ledger = Ledger()

    def build(folder: Path) -> None:
        ledger.entries.clear()
        write(folder / ROWS, ledger)
        entries = [[entry.row, entry.fate, entry.reason, entry.detail, entry.tokens] for entry in ledger.entries]
        (folder / LEDGER).write_text(json.dumps(entries), encoding="ascii")

    def opened(folder: Path) -> tuple[Read, list[Any]]:
        return read(folder / ROWS), json.loads((folder / LEDGER).read_text(encoding="ascii"))

    place = None
    if keep == "always" or (keep == "auto" and len(records) >= WORTH_KEEPING):
        place = context.cache / "tokens" / key(records, tokenizer, about)
        if _usable(place):
            context.reporter.say(f"tokens: those of {len(records)} rows are in the cache, unchanged")
        elif not _kept(place, build, context):
            place = None
    if place:
        found, entries = opened(place)
    else:  # in a file that is gone when it is open
        with scratch() as folder:
            build(folder)
            found, entries = opened(folder)
    for row, fate, reason, detail, cut in entries:
        if fate == "dropped":
            context.ledger.drop(row, reason, detail, expected=reason == WEIGHTLESS)
        else:
            context.ledger.truncate(row, reason, detail, tokens=cut)
    return found


def key(records: Records, tokenizer: Any, about: Mapping[str, Any]) -> str:
    """A digest of everything that decides the tokens, in hex."""
    digest = hashlib.sha256()
    about = {
        **about,
        "form": FORM,
        "libraries": {name: version(name) for name in LIBRARIES},
        "tokenizer": _tokenizer(tokenizer),
    }
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, row in records:
        digest.update(json.dumps([name, row], sort_keys=True, default=repr).encode("ascii"))
    return digest.hexdigest()


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What a tokenizer does, as far as it can be told: its class, its backend, its template and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return {
        "class": type(tokenizer).__qualname__,
        "backend": backend.to_str() if backend is not None else tokenizer.get_vocab(),
        "template": tokenizer.chat_template,
        "ends": end_ids(tokenizer),
        "special": tokenizer.special_tokens_map,
        "options": {name: str(value) for name, value in sorted(tokenizer.init_kwargs.items())},
    }


def _usable(place: Path) -> bool:
    """Whether the entry is there and whole; it counts as used now."""
    if not (place / DIGESTS).is_file() or damage(place):
        return False
    try:
        os.utime(place)
    except OSError:
        return False
    return True


def _kept(place: Path, build: Callable[[Path], None], context: Context) -> bool:
    """Make an entry of the cache; false where it cannot be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep(place.parent)
        with staging_folder(place) as staging:
            build(staging)
            (staging / DIGESTS).write_text(json.dumps(digests_of(staging)), encoding="ascii")
            shutil.rmtree(place, ignore_errors=True)
            # no fsync: what a power loss leaves unwritten does not pass its digests
            os.rename(staging, place)
        _forget(place.parent)
    except OSError as error:
        context.reporter.warn(f"the tokens are not kept: {error.strerror or error} ({place.parent})")
        return False
    return True


def _forget(folder: Path) -> None:
    """Remove the entries that were used longest ago. A process that reads one keeps the file open."""
    entries = sorted(
        (path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."),
        key=lambda path: path.stat().st_mtime,
    )
    for path in entries[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
