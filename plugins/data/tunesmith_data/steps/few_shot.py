"""The step `few-shot`: a few training rows of each class, to see what a method does with little."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from tunesmith import Context, Row, Spool
from tunesmith_data.steps.balance import class_of
from tunesmith_data.steps.settings import FewShotSettings


class FewShot:
    """Draws `shots` rows of each class; which ones depends on the seed and on the rows, not on their order."""

    def __init__(self, settings: FewShotSettings, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.classes, self.left, self.small = 0, 0, 0

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Raises DataError when a training row has no class."""
        waiting, held = Spool(self.context.cache), []
        members: dict[str, list[tuple[str, int]]] = {}
        for row in rows:
            if row.part == "validation":
                held.append(row)
            else:
                label = class_of(row, self.settings.column, "few-shot")
                number = waiting.add(row.name, row.values, row.history)
                members.setdefault(label, []).append((row.name, number))
        seed = self.context.seed if self.settings.seed is None else self.settings.seed
        kept: set[int] = set()
        for label, found in members.items():
            draw = random.Random(f"{seed}:{self.context.repetition}:few-shot:{label}")
            kept |= {number for _, number in draw.sample(sorted(found), min(self.settings.shots, len(found)))}
            self.small += len(found) < self.settings.shots
        self.classes, self.left = len(members), len(kept)
        for number in range(len(waiting)):
            name, values, history = waiting.get(number)
            row = Row(name, values, "train", history)
            yield row if number in kept else row.drop(f"beyond {self.settings.shots} of its class")
        yield from held

    def report(self) -> Iterator[str]:
        """How many rows of how many classes are left."""
        yield f"{self.left} rows of {self.classes} classes are left"
        if self.small:
            yield f"{self.small} classes have fewer than {self.settings.shots} rows"


def few_shot(settings: FewShotSettings, context: Context) -> FewShot:
    """The step `few-shot`."""
    return FewShot(settings, context)
