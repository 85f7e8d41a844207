"""Progress of a run: a live display on a terminal, one plain line an interval elsewhere."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from typing import Any, TextIO

from tunesmith.console.out import number, seconds, size
from tunesmith.console.paint import clean
from tunesmith.context import Reporter
from tunesmith.memory import resident

BLOCKS = "▁▂▃▄▅▆▇█"
INTERVAL = 10.0  # seconds between plain lines


@contextmanager
def reporter(stream: TextIO | None = None, interval: float = INTERVAL) -> Iterator[Reporter]:
    """The reporter that fits the stream: live on a terminal, plain lines elsewhere.

    Meanwhile what plugins print goes to the stream too, since stdout is for data, and libraries' notes to their
    own developers are left out (python -W default shows them).
    """
    stream = stream or sys.stderr
    with redirect_stdout(stream), warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.showwarning = partial(_warned, stream)
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
        yield from _fitting(stream, interval)


def _warned(stream: TextIO, message: Warning | str, category: type[Warning], *about: Any, **more: Any) -> None:
    """Say what a library warns of as every other warning: one line, without its source."""
    with suppress(OSError):
        print(clean(f"warning: {' '.join(str(message).split())}"), file=stream, flush=True)


def _fitting(stream: TextIO, interval: float) -> Iterator[Reporter]:
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        from tunesmith.console.live import LiveReporter

        with LiveReporter(stream) as live:
            yield live
    else:
        lines = LineReporter(stream, interval)
        try:
            yield lines
        finally:
            lines.finish()


class Track:
    """What is known about the running phase: steps, recent losses, speed, time left."""

    def __init__(self, name: str, recent: int = 24) -> None:
        self.name = name
        self.begun = time.monotonic()
        self.step = 0
        self.total = 0
        self.metrics: dict[str, float] = {}
        self.losses: deque[float] = deque(maxlen=recent)
        self._first: tuple[int, float] | None = None
        self._last = self.begun

    def update(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Take in one report."""
        self._last = time.monotonic()
        if self._first is None or step <= self.step:  # a second evaluator counts from 1 again
            self._first = (step, self._last)
        self.step, self.total = step, total
        self.metrics.update(metrics)
        if "loss" in metrics:
            self.losses.append(metrics["loss"])

    @property
    def elapsed(self) -> float:
        """Seconds since the phase began."""
        return time.monotonic() - self.begun

    @property
    def remaining(self) -> float | None:
        """Seconds left at the pace so far; None before there is one. A resumed run counts its own steps only."""
        if self._first is None or self.step <= self._first[0] or self.total <= self.step:
            return None
        step, begun = self._first
        left = (self._last - begun) / (self.step - step) * (self.total - self.step)
        return max(0.0, left - (time.monotonic() - self._last))

    def figures(self) -> list[str]:
        """Loss, reward, learning rate, speed and memory, as far as they are known."""
        shown = []
        if "loss" in self.metrics:
            shown.append(f"loss {number(self.metrics['loss'])}")
        if "reward" in self.metrics:
            shown.append(f"reward {number(self.metrics['reward'])}")
        if "learning_rate" in self.metrics:
            shown.append(f"lr {self.metrics['learning_rate']:.2e}")
        if "tokens_per_second" in self.metrics:
            shown.append(f"{number(self.metrics['tokens_per_second'], 3)} tokens/s")
        return [*shown, *memory()]


def sparkline(values: list[float]) -> str:
    """Recent values as blocks, the lowest the flattest; a gap where a value is not finite."""
    known = [value for value in values if abs(value) != float("inf") and value == value]
    if not known:
        return " " * len(values)
    low, span = min(known), max(known) - min(known)
    return "".join(
        BLOCKS[int((value - low) / span * (len(BLOCKS) - 1)) if span else 0] if value in known else " "
        for value in values
    )


def memory() -> list[str]:
    """Memory of this process, and of the GPU where torch uses one."""
    shown = [f"memory {size(resident())}"]
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_available() and cuda.is_initialized():
        shown.append(f"GPU {size(cuda.memory_reserved())}")
    return shown


class LineReporter:
    """One plain line at the first step, at the last, and every `interval` seconds between."""

    def __init__(self, stream: TextIO, interval: float = INTERVAL) -> None:
        self.stream = stream
        self.interval = interval
        self.track = Track("")
        self._printed: float | None = None
        self._pending = False

    def phase(self, name: str) -> None:
        self.finish()
        self.track = Track(name)
        self._printed = None
        self._print(f"== {name}")

    def say(self, message: str) -> None:
        self._print(message)

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}")

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self.track.update(step, total, metrics)
        due = self._printed is None or time.monotonic() - self._printed >= self.interval or step == total
        self._pending = not due
        if due:
            self._line()

    def finish(self) -> None:
        """Print what was held back: the last step of a phase that ended early."""
        if self._pending:
            self._line()

    def _line(self) -> None:
        track = self.track
        left = f" · {seconds(track.remaining)} left" if track.remaining is not None else ""
        figures = " · ".join(track.figures())
        self._print(f"{track.name} {track.step}/{track.total or '?'} · {figures}{left}")
        self._printed = time.monotonic()
        self._pending = False

    def _print(self, text: str) -> None:
        # A log on a full disk or a pipe that nobody reads ends no run: events.jsonl has what is said, too.
        with suppress(OSError):
            print(clean(text), file=self.stream, flush=True)
