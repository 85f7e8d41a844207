"""What a factory is handed: where it is, how to report, when to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tunesmith.errors import DataError, Stopped
from tunesmith.labels import Labels
from tunesmith.ledger import Ledger
from tunesmith.places import cache_folder as cache_folder
from tunesmith.places import config_folder as config_folder
from tunesmith.secrets import redact

if TYPE_CHECKING:
    from tunesmith.held_out import HeldOut
    from tunesmith.records import Dataset
    from tunesmith.registry import Registry
    from tunesmith.steps import Row


class Reporter(Protocol):
    """Where progress goes. The console draws it; a library user may pass their own."""

    def phase(self, name: str) -> None:
        """A new part of the run begins ('load model', 'train', ...)."""

    def say(self, message: str) -> None:
        """Something worth knowing."""

    def warn(self, message: str) -> None:
        """Something that the person should look at."""

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """`step` of `total` is done; `metrics` may hold loss, learning_rate, tokens_per_second."""


class PlainReporter:
    """One plain line an event, on stderr."""

    def phase(self, name: str) -> None:
        print(f"== {name}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        print(redact(message), file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        print(f"warning: {redact(message)}", file=sys.stderr, flush=True)

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        figures = " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        print(f"{step}/{total} {figures}", file=sys.stderr, flush=True)


class SilentReporter:
    """Says nothing; for tests and for use as a library."""

    def phase(self, name: str) -> None: ...

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None: ...


@dataclass
class StopFlag:
    """Set by a signal; long loops look at it between steps."""

    signal_number: int | None = None

    def set(self, signal_number: int) -> None:
        self.signal_number = signal_number

    def __bool__(self) -> bool:
        return self.signal_number is not None


def no_rows() -> Dataset:
    """The default of `Context.rows`: no run's data are at hand.

    Raises:
        DataError: always.
    """
    raise DataError("no rows are at hand here", fix="Name the run whose rows shall be read.")


def no_plugins() -> Registry:
    """The default of `Context.registry`: a registry without any plugin."""
    from tunesmith.registry import Registry

    return Registry()


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything about the surroundings that a factory may need.

    Args:
        seed: seed of the run; derive your own generators from it.
        repetition: which of several repetitions this is, from 0; a loader's seed is the same in all of them.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto".
        folder: the recipe's folder; relative paths in settings start here.
        stage_folder: where this stage writes; checkpoints are in `checkpoints/` below it.
        cache: a folder for what may be computed again (converted models, tokenized data).
        reporter: progress and messages.
        stop: whether a signal asked to stop.
        ledger: what becomes of the rows.
        max_lost_rows: the largest share of rows, 0 to 1, that may be dropped (`check_rows`).
        resume: whether to go on from the newest checkpoint that verifies.
        fresh: whether the values that an adapter starts with matter. They do not when saved ones are loaded into it
            next, or when only names and shapes are asked for; what costs much may then be left out.
        facts: what a trainer adds for the run's manifest (share of supervised tokens, ...).
        identity: what a checkpoint must agree with before it is continued (fingerprint, base digest).
        sync: forces what was reported so far to the disk; called before a checkpoint is committed.
        registry: the plugins of the run; with it an artifact is loaded (`tunesmith.artifact.load_artifact`).
        trusted_code: models whose own code may be run, as `OWNER/NAME@COMMIT`; only the command line grants it.
        rows: the stage's rows, trained on and held out; raises a `DataError` where no run's data are at hand.
        held_out: for a trainer: measures the held-out rows between two steps; None outside of a run.
        schedule: for a trainer whose record names its `rate`: what all its learning rates are multiplied with at each
            optimizer step, counted from 0, in place of its own warm-up and schedule; None leaves it those.
        prepare: for a loader: takes rows as they were read, and gives those that the recipe's steps leave. A loader
            that does not call it has the rows prepared that it returns.
        sources: for a loader that combines others: loads each, by name; a `Source`, with its settings, in a run.
        labels: what the head of the model that is loaded shall tell apart; None for heads without labels.
        has_template: for a loader: whether the model that the stage begins with has a chat template, so that plain
            prompts and answers can be its turns; None where that cannot be told. Asked only when it matters: the answer
            may take a download.
    """

    seed: int = 42
    repetition: int = 0
    device: str = "auto"
    folder: Path = field(default_factory=Path.cwd)
    stage_folder: Path = field(default_factory=Path.cwd)
    cache: Path = field(default_factory=cache_folder)
    reporter: Reporter = field(default_factory=SilentReporter)
    stop: StopFlag = field(default_factory=StopFlag)
    ledger: Ledger = field(default_factory=Ledger)
    max_lost_rows: float = 0.05
    resume: bool = False
    fresh: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    sync: Callable[[], None] = lambda: None
    registry: Registry = field(default_factory=no_plugins)
    trusted_code: tuple[str, ...] = ()
    rows: Callable[[], Dataset] = no_rows
    held_out: HeldOut | None = None
    schedule: Callable[[int], float] | None = None
    prepare: Callable[[Iterable[Row]], Iterator[Row]] = iter
    sources: Mapping[str, Callable[[], Dataset]] = field(default_factory=dict)
    labels: Labels | None = None
    has_template: Callable[[], bool | None] = lambda: None

    def with_(self, **changes: Any) -> Context:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def check_stop(self, doing: str) -> None:
        """Stop here when a signal asked for it.

        Raises:
            Stopped: with what was being done; what is committed stays.
        """
        if self.stop.signal_number is not None:
            raise Stopped(
                self.stop.signal_number,
                f"stopped in {doing!r}; what is committed stays",
                fix="`tunesmith resume RUN` goes on.",
            )

    def check_rows(self) -> None:
        """Stop when more rows were dropped than the recipe allows; trainers call it after tokenization.

        Raises:
            DataError: with the reasons and the first rows.
        """
        self.ledger.check(self.max_lost_rows)

    def path(self, value: Path | str) -> Path:
        """A path from the recipe as an absolute one."""
        path = Path(value).expanduser()
        return path if path.is_absolute() else (self.folder / path)
