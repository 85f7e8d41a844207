"""What the battery counts: the faults by their numbers, what was injected, what survived, what was lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Amount = TypeVar("Amount")

#: Every fault, and in short what it is.
FAULTS = {
    "R1": "SIGKILL at a random time",
    "R2": "SIGKILL at every system call of a save",
    "R3": "power loss",
    "R4": "disk full",
    "R5": "ENOSPC, EIO, EDQUOT at a write or a flush",
    "R6": "a folder that is read-only, missing, or a file",
    "R7": "a file of a checkpoint cut short",
    "R8": "one bit of a checkpoint flipped",
    "R9": "a file of a checkpoint missing or swapped; another base; another rank",
    "R10": "attacks through checkpoints, configs, templates and archives",
    "R11": "bad data",
    "R12": "tokenizers that do not fit",
    "R13": "NaN and infinity in losses and gradients",
    "R14": "plugins that fail at a hook",
    "R15": "plugins that cannot be imported or used",
    "R16": "two runs in one folder",
    "R17": "signals in every phase",
    "R18": "clocks that jump",
    "R19": "rotation of checkpoints",
    "R20": "resuming with other settings or versions",
    "R21": "out of memory",
    "R22": "the same plan twice",
    "R23": "processes that share a list, a cache or a folder",
    "R24": "SIGKILL of a command that has processes of its own",
    "R25": "plugins that misbehave when they are imported",
    "R26": "files that never end, or are no files",
    "R27": "secrets with quotes and backslashes",
    "R28": "standard streams that are full, closed or not read",
    "R29": "a damaged run folder among others",
    "R30": "what killed commands leave",
}
ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "build" / "faults.json"  # what `make faults` found, by test
EVERYTHING = os.environ.get("FAULTS") == "all"  # `make faults`; otherwise the part that `make test` has time for
RECORDED = "FAULTS" in os.environ  # `FAULTS=part` records that part


def amount(full: Amount, quick: Amount) -> Amount:
    """`full` in `make faults`, `quick` in `make test`."""
    return full if EVERYTHING else quick


@dataclass
class Tally:
    """What one kind of injection came to.

    Args:
        fault: its number, as `R2`.
        what: what was injected, as "at every system call of a save, LoRA".
        lost: what went wrong, a line for each injection that was not survived.
    """

    fault: str
    what: str
    injected: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def trial(self, how: str) -> Iterator[None]:
        """One injection; an assertion that fails inside makes it a loss, and the next one is tried."""
        try:
            yield
        except AssertionError as error:
            self.lost.append(f"{how}: {error}")
        else:
            self.survived += 1
        self.injected += 1


class Recorder:
    """The fixture `fault`: starts a tally, or takes over counts."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = allowed
        self.tallies: list[Tally] = []

    def __call__(self, fault: str, what: str, *, injected: int = 0, survived: int = 0, lost: int = 0) -> Tally:
        """A tally of a fault.

        Args:
            injected: how often it was injected already; with it `survived` and `lost` add up to it.
        """
        assert fault in self.allowed, f"mark this test with @pytest.mark.fault({fault!r})"
        assert injected == survived + lost
        tally = Tally(fault, what, injected, survived, [what] * lost)
        self.tallies.append(tally)
        return tally


@dataclass
class Row:
    """A fault in the summary."""

    fault: str
    tallies: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def injected(self) -> int:
        return sum(tally["injected"] for tally in self.tallies)

    @property
    def survived(self) -> int:
        return sum(tally["survived"] for tally in self.tallies)

    @property
    def lost(self) -> int:
        """Injections that were not survived; a test that failed before it counted is one, too."""
        return self.injected - self.survived + len(self.failed)

    @property
    def whats(self) -> dict[str, int]:
        """How often each kind was injected."""
        counts: dict[str, int] = {}
        for tally in self.tallies:
            counts[tally["what"]] = counts.get(tally["what"], 0) + tally["injected"]
        return counts

    def line(self) -> str:
        """The fault in one line."""
        counts = f"injected {self.injected:5}   survived {self.survived:5}   lost {self.lost:3}"
        reasons = "".join(f"   skipped: {reason}" for reason in dict.fromkeys(self.skipped))
        return f"{self.fault:4} {FAULTS[self.fault]:70} {counts}{reasons}"


def rows(records: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The summary of what tests recorded, by fault; a fault that no test spoke of is left out."""
    found = {fault: Row(fault) for fault in FAULTS}
    for test, record in sorted(records.items()):
        for tally in record["tallies"]:
            found[tally["fault"]].tallies.append(tally)
        for fault in record["faults"]:
            if record["skipped"]:
                found[fault].skipped.append(record["skipped"])
            elif record["failed"] and not any(tally["lost"] for tally in record["tallies"]):
                found[fault].failed.append(test)
    return [row for row in found.values() if row.tallies or row.skipped or row.failed]


def plain(tallies: Sequence[Tally]) -> list[dict[str, Any]]:
    return [asdict(tally) for tally in tallies]


def read_records() -> dict[str, Any]:
    """What earlier parts of the battery recorded."""
    return json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else {}


def write_records(records: Mapping[str, Any]) -> None:
    """Add to the records; a test that ran again replaces what it said before."""
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.write_text(json.dumps({**read_records(), **records}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
