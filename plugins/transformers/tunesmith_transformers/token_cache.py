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
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from tunesmith import Column, Context, Ledger, Records
from tunesmith.store import DIGESTS, damage, digests_of
from tunesmith_transformers import token_rows, tokens
from tunesmith_transformers.token_rows import TokenRows

ROWS, LEDGER = "rows.arrow", "ledger.json"
WORTH_KEEPING = 1000  # rows; fewer are tokenized in no time
KEPT = 8  # entries; those used longest ago go
LIBRARIES = ("tunesmith", "tunesmith-transformers", "transformers", "tokenizers")

Keep = Literal["auto", "always", "never"]


def encode(
    records: Records,
    record_type: str,
    tokenizer: Any,
    context: Context,
    *,
    max_length: int | None = None,
    overlong: str = "truncate",
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
    options = {"max_length": max_length, "overlong": overlong}
    ledger = Ledger()

    def build(folder: Path) -> None:
        ledger.entries.clear()
        rows = tokens.encoded(records, record_type, tokenizer, ledger=ledger, **options)  # type: ignore[arg-type]
        token_rows.write(folder / ROWS, rows)
        entries = [[entry.row, entry.fate, entry.reason] for entry in ledger.entries]
        (folder / LEDGER).write_text(json.dumps(entries), encoding="ascii")

    place = None
    if keep == "always" or (keep == "auto" and len(records) >= WORTH_KEEPING):
        place = context.cache / "tokens" / key(records, record_type, tokenizer, options)
        if _usable(place):
            context.reporter.say(f"tokens: those of {len(records)} rows are in the cache, unchanged")
        elif not _kept(place, build, context):
            place = None
    rows, entries = _opened(place) if place else _passing(build)
    for row, fate, reason in entries:
        (context.ledger.drop if fate == "dropped" else context.ledger.truncate)(row, reason)
    if columns:
        names = (item.row for item in rows)
        rows.columns = token_rows.values_of(records, names, lambda row: tokens.column_values(row, columns))
    return rows


def key(records: Records, record_type: str, tokenizer: Any, options: Mapping[str, Any]) -> str:
    """A digest of everything that decides the tokens, in hex."""
    digest = hashlib.sha256()
    about = {
        "type": record_type,
        "options": dict(options),
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
    staging = place.with_name(f".staging-{place.name[:16]}-{os.getpid()}")
    try:
        staging.mkdir(parents=True, exist_ok=True)
        build(staging)
        (staging / DIGESTS).write_text(json.dumps(digests_of(staging)), encoding="ascii")
        shutil.rmtree(place, ignore_errors=True)
        # no fsync: what a power loss leaves unwritten does not pass its digests
        os.rename(staging, place)
        _forget(place.parent)
    except OSError as error:
        context.reporter.warn(f"the tokens are not kept: {error.strerror or error} ({place.parent})")
        return False
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _forget(folder: Path) -> None:
    """Remove the entries that were used longest ago. A process that reads one keeps the file open."""
    entries = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in entries[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _passing(build: Callable[[Path], None]) -> tuple[TokenRows, list[Any]]:
    """The rows in a file that is gone with them."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-tokens-") as folder:
        build(Path(folder))
        return _opened(Path(folder))


def _opened(place: Path) -> tuple[TokenRows, list[Any]]:
    return TokenRows(place / ROWS), json.loads((place / LEDGER).read_text(encoding="ascii"))
