"""Choosing rows: a sample, duplicates, and the split into training and held-out rows.

Every choice is made by the seed and nothing else, so that it repeats on any machine.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from tunesmith import Ledger


class Named(Protocol):
    """A row that the ledger can name."""

    @property
    def name(self) -> str: ...


#: Why a row is left out that another repeats; no loss, since what it says is used.
DUPLICATE = "duplicate"
OVERLAP = "overlap with the training rows"

#: Length of the digest that stands for a row's content.
KEY_BYTES = 16

T = TypeVar("T")
N = TypeVar("N", bound=Named)


def sample(items: Iterable[T], limit: int | None, seed: int) -> list[T]:
    """`limit` items at random in their first order, or all. Never holds more than `limit`."""
    if limit is None:
        return list(items)
    chance = random.Random(f"{seed}:sample")
    numbered = ((chance.random(), index, item) for index, item in enumerate(items))
    chosen = heapq.nsmallest(limit, numbered, key=lambda entry: entry[:2])
    return [item for _, _, item in sorted(chosen, key=lambda entry: entry[1])]


def content_key(row: Mapping[str, Any]) -> bytes:
    """A digest of a row's content: equal for equal rows, whatever the order of their columns."""
    plain = json.dumps(row, sort_keys=True, ensure_ascii=True, default=repr)
    return hashlib.blake2b(plain.encode("ascii"), digest_size=KEY_BYTES).digest()


def distinct(items: Sequence[N], key: Callable[[N], str], ledger: Ledger) -> list[N]:
    """The first item of each key; the ledger is told of the others."""
    first: dict[str, str] = {}
    found = []
    for item in items:
        if key(item) in first:
            ledger.drop(item.name, DUPLICATE, f"of {first[key(item)]}", expected=True)
        else:
            first[key(item)] = item.name
            found.append(item)
    return found


def held_out(groups: Sequence[Hashable], share: float, seed: int, *, distinct: bool = False) -> list[bool]:
    """Which rows to hold out, so that rows of one group stay together.

    The groups are ranked by a digest of the seed and their key, and taken from the top until the share is reached;
    one that would exceed it is passed over. So the choice depends on no row's place, and new rows move few others.

    Args:
        groups: the group of each row.
        share: the part to hold out, 0 to below 1.
        seed: the run's seed.
        distinct: whether every row is known to be a group of its own; that takes less memory.

    Returns:
        True for each row held out. With a share above 0 and two groups or more, both sides have a row.
    """
    if share <= 0 or not groups:
        return [False] * len(groups)
    if distinct and len(groups) > 1:
        count = max(1, min(round(share * len(groups)), len(groups) - 1))
        out = set(heapq.nsmallest(count, range(len(groups)), key=lambda index: _rank(groups[index], seed)))
        return [index in out for index in range(len(groups))]
    sizes: dict[Hashable, int] = defaultdict(int)
    for group in groups:
        sizes[group] += 1
    target = max(1, min(round(share * len(groups)), len(groups) - 1))
    ranked = sorted(sizes, key=lambda group: _rank(group, seed))
    chosen: set[Hashable] = set()
    taken = 0
    for group in ranked:
        if taken + sizes[group] <= target:
            chosen.add(group)
            taken += sizes[group]
    if not chosen and len(sizes) > 1:
        chosen.add(min(ranked, key=lambda group: sizes[group]))
    if len(chosen) == len(sizes):
        chosen.clear()
    return [group in chosen for group in groups]


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """The items in an order chosen by the seed."""
    found = list(items)
    random.Random(f"{seed}:shuffle").shuffle(found)
    return found


def _rank(group: Hashable, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{group}".encode("utf-8", "backslashreplace"), digest_size=16).digest()
