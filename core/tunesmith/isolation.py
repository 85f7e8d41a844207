"""What a plugin may do to this process while it is imported: nothing (docs/decisions/0030)."""

import io
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress

from tunesmith.errors import TunesmithError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SECONDS = 30.0  # that a plugin may take to be imported; `$TUNESMITH_IMPORT_SECONDS`
#: Functions of `os` that end or replace the process without a word.
ENDINGS = ("_exit", "abort", "execv", "execve")


class Ended(BaseException):
    """Raised in the plugin instead of ending the process; nothing that catches exceptions catches it by chance."""


class TooSlow(BaseException):
    """Raised in the plugin when its time is over."""


@contextmanager
def isolated(told: "Callable[[str], None]") -> "Iterator[None]":
    """Import or ask a plugin; afterwards stdout, the working folder and the process are what they were.

    Args:
        told: hears what the plugin printed to stdout, which goes to stderr.

    Raises:
        TunesmithError: it ended the process, took too long, closed stdout or changed the folder.
    """
    folder = _folder()
    with _no_endings(), _in_time(), _no_stdout(told):
        try:
            yield
        except Ended as error:
            raise TunesmithError(f"it ends the process when it is imported ({error})") from None
        except TooSlow:
            raise TunesmithError(
                f"it was not imported within {_seconds():g} seconds (TUNESMITH_IMPORT_SECONDS sets another limit)"
            ) from None
    if folder is not None and _folder() != folder:
        os.chdir(folder)
        raise TunesmithError("it changes the working folder when it is imported")


def _folder() -> "str | None":
    try:
        return os.getcwd()
    except OSError:
        return None  # removed meanwhile


@contextmanager
def _no_endings() -> "Iterator[None]":
    owner, before = os.getpid(), {name: getattr(os, name) for name in ENDINGS}

    def instead(name: str) -> "Callable[..., object]":
        def ending(*arguments: object) -> object:
            if os.getpid() != owner:  # a process that the plugin made ends as it likes
                return before[name](*arguments)
            raise Ended(f"os.{name}")

        return ending

    try:
        for name in ENDINGS:
            setattr(os, name, instead(name))
        yield
    finally:
        for name, function in before.items():
            setattr(os, name, function)


def _seconds() -> float:
    try:
        return max(0.01, float(os.environ.get("TUNESMITH_IMPORT_SECONDS") or SECONDS))
    except ValueError:
        return SECONDS


@contextmanager
def _in_time() -> "Iterator[None]":
    """Interrupt what takes too long, where this process does not use the alarm itself."""

    def over(number: int, frame: "FrameType | None") -> None:
        raise TooSlow

    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer") or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, _seconds())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@contextmanager
def _no_stdout(told: "Callable[[str], None]") -> "Iterator[None]":
    """Lead stdout elsewhere: the stream, and beneath it the descriptor, for what libraries in C print."""
    before, caught = sys.stdout, _Caught()
    kept = None
    with suppress(OSError):  # it was closed before
        kept = os.dup(1)
        os.dup2(2, 1)
    sys.stdout = caught
    try:
        yield
    finally:
        sys.stdout = before
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
        if said := caught.text.strip():
            told(said.splitlines()[0][:200])
    if getattr(before, "closed", False):
        raw = io.FileIO(1, "wb", closefd=False)
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace")  # type: ignore[misc]
        raise TunesmithError("it closes stdout when it is imported")
    if caught.ended:
        raise TunesmithError("it closes stdout when it is imported")


class _Caught(io.StringIO):
    """Keeps what was printed, also when it is closed."""

    text, ended = "", False

    def write(self, text: str, /) -> int:
        self.text = (self.text + text)[:10_000]
        return len(text)

    def close(self) -> None:
        self.ended = True
