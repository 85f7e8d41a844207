"""How much a turn or a row counts in training: the many ways in which files say it, as one number.

of_message({"role": "assistant", "content": "4", "loss": False})    # 0.0
of_row({"weight": 2})                                               # 2.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable

#: Keys of a message that say whether or how much it is trained.
FLAGS = ("weight", "loss_weight", "loss", "train", "train_on_turn", "trainable", "loss_mask")
#: Keys of a message that say the opposite: true hides it from training.
MASKS = ("mask", "masked")
SAYS = frozenset((*FLAGS, *MASKS))
#: Columns that say how much a row counts.
ROW = ("weight", "loss_weight")
#: Weights that float32 can add up.
SMALLEST, LARGEST = 1e-6, 1e6


def of_message(message: Mapping[str, Any], role: str) -> float:
    """The weight of a turn; 1 where it says nothing.

    Raises:
        Unusable: it is no weight, two of its keys differ, or it asks to train on what is never trained.
    """
    if SAYS.isdisjoint(message):
        return 1.0
    found: dict[str, float] = {}
    for name in FLAGS:
        if message.get(name) is not None:
            found[name] = _number(message[name], f"{name!r} of a message")
    for name in MASKS:
        if message.get(name) is not None:
            if message[name] not in (True, False):
                raise Unusable(f"{name!r} of a message is {kind(message[name])}, not true or false")
            found[name] = 0.0 if message[name] else 1.0
    if len(set(found.values())) > 1:
        first, second = _two(found)
        raise Unusable(f"{first!r} and {second!r} of a message say different things")
    weight = next(iter(found.values()), 1.0)
    if found and weight and role != "assistant":
        raise Unusable(f"{next(iter(found))!r} asks to train on a message of the {role}; only answers are trained")
    return weight


def of_row(row: Mapping[str, Any]) -> float:
    """The weight of a whole row; 1 where it says nothing. CSV writes numbers as text.

    Raises:
        Unusable: it is no weight, two columns differ, or it is 0.
    """
    found = {name: _number(_parsed(row[name]), repr(name)) for name in ROW if row.get(name) not in (None, "")}
    if len(set(found.values())) > 1:
        raise Unusable(" and ".join(map(repr, found)) + " say different things")
    weight = next(iter(found.values()), 1.0)
    if not weight:
        raise Unusable("the row's weight is 0", expected=True)
    return weight


def _number(value: Any, what: str) -> float:
    if not isinstance(value, (bool, int, float)):
        raise Unusable(f"{what} is {kind(value)}, not a number, true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{what} is not a finite number")
    if value < 0:
        raise Unusable(f"{what} is negative")
    if value and not SMALLEST <= value <= LARGEST:
        raise Unusable(f"{what} is not between {SMALLEST:g} and {LARGEST:g}")
    return float(value)


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _two(found: Mapping[str, float]) -> tuple[str, str]:
    """Two keys whose weights differ."""
    first = next(iter(found))
    return first, next(name for name in found if found[name] != found[first])
