"""What a range test came to, as data, as Markdown, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import findings
from tunesmith.findings import row
from tunesmith.rates.curve import Reading, rounded
from tunesmith.rates.plot import draw

NAME = "find-lr"
TENTH = "a tenth of the rate at the lowest loss"


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """A whole test.

    Args:
        setting: the key of the recipe that holds the rate, such as `trainer.learning_rate`, and `current` its value.
        steps: how many were to be taken, at rates from `low` to `high`.
        losses: of those that were taken, without the one that was not finite; `rates` are theirs.
        diverged: the rate at which the losses diverged; None when they did not.
    """

    recipe: str
    folder: Path
    stage: str
    trainer: str
    setting: str
    current: float
    low: float
    high: float
    steps: int
    rates: Sequence[float]
    losses: Sequence[float]
    diverged: float | None
    reading: Reading

    def describe(self) -> dict[str, Any]:
        """The test as JSON-ready data."""
        found = self.reading
        points = zip(self.rates, self.losses, found.course, strict=True)
        return {
            "folder": str(self.folder),
            "recipe": self.recipe,
            "stage": self.stage,
            "trainer": self.trainer,
            "setting": self.setting,
            "current": self.current,
            "low": self.low,
            "high": self.high,
            "steps": self.steps,
            "rate": found.rate,
            "range": [found.rate, found.high] if found.rate else None,
            "reason": found.reason or None,
            "steepest": found.steepest,
            "lowest": found.lowest,
            "lowest_loss": found.lowest_loss,
            "fall": found.fall,
            "error": found.error,
            "rose": found.rose,
            "diverged": self.diverged,
            "points": [
                {"step": step, "learning_rate": rate, "loss": loss, "smoothed": mean}
                for step, (rate, loss, mean) in enumerate(points, 1)
            ],
        }

    def told(self) -> list[tuple[str, str]]:
        """What was found, as a person reads it: a name and what to know about it."""
        found = self.reading
        lines = []
        if found.rate and found.high:
            where = "the loss falls fastest there" if found.rate == rounded(found.steepest or 0) else TENTH
            lines.append(("suggested", f"{found.rate:g}: {where}"))
            lines.append(("range", f"from {found.rate:g} to {found.high:g}; the recipe has {self.current:g}"))
        else:
            lines.append(("suggested", f"none: {found.reason}"))
        if found.lowest is not None:
            lines.append(("lowest loss", f"{found.lowest_loss:.4g} at {found.lowest:.2g}"))
        if found.rose is not None:
            lines.append(("above its start", f"from {found.rose:.2g} on"))
        ended = (
            f"at {self.diverged:.2g}, after {len(self.losses)} steps" if self.diverged else f"not up to {self.high:g}"
        )
        return [*lines, ("diverged", ended)]


def write(test: RangeTest) -> None:
    """Write find-lr.json, find-lr.md and find-lr.svg into the test's folder.

    Raises:
        DiskError: they cannot be written.
    """
    findings.write(test.folder, NAME, test.describe(), markdown(test), draw(test))


def markdown(test: RangeTest) -> str:
    """What was found, the setting to write, and the picture."""
    head = (
        f"Trainer {test.trainer}, {len(test.losses)} of {test.steps} steps at rates from {test.low:g} to {test.high:g}."
    )
    lines = [head, "", row(["", "learning rate"]), "| --- | --- |", *(row(list(line)) for line in test.told())]
    if test.reading.rate:
        lines += ["", "```toml", f"{test.setting} = {test.reading.rate:g}", "```"]
    return "\n".join([*lines, "", f"![loss over learning rate]({NAME}.svg)", ""])
