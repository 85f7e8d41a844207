"""The standard streams: what stdout does not take ends a command by its code, what stderr does not take ends none."""

import errno
import io
import os
import sys

from tunesmith.errors import TunesmithError

SIGPIPE = 13


class Undelivered(TunesmithError):
    """What a command was asked for cannot be written to stdout: 74, or 141 where nobody reads it any more."""

    exit_code = 74

    def __init__(self, error: OSError) -> None:
        closed = error.errno == errno.EBADF
        reason = "it is closed" if closed else os.strerror(error.errno or errno.EIO)
        super().__init__(
            f"what was asked for cannot be written to stdout: {reason}",
            fix="Send it to a file on a disk with room, or leave the stream open.",
        )
        if error.errno == errno.EPIPE:
            self.exit_code = 128 + SIGPIPE


class Out(io.FileIO):
    """Stdout: the first failure is an `Undelivered`, and what comes after it goes nowhere."""

    failed = False

    def write(self, data: "bytes", /) -> int:  # type: ignore[override]
        try:
            return len(data) if self.failed else super().write(data)
        except OSError as error:
            self.failed = True
            raise Undelivered(error) from error


class Talk(io.FileIO):
    """Stderr: what cannot be written is done without, whatever becomes of the command stays what it is."""

    def write(self, data: "bytes", /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare() -> None:
    """Give this process streams that fail as they should; a closed one stays so, and no file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # for reading, so that writing to it fails; the lowest free number is this one
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is sys.__stdout__ and not isinstance(_raw(sys.stdout), Out):
        sys.stdout = sys.__stdout__ = _wrapped(Out(1, "wb", closefd=False), sys.stdout)  # type: ignore[misc]
    if sys.stderr is sys.__stderr__ and not isinstance(_raw(sys.stderr), Talk):
        sys.stderr = sys.__stderr__ = _wrapped(Talk(2, "wb", closefd=False), sys.stderr, True)  # type: ignore[misc]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that knows ASCII only must not end a run
            stream.reconfigure(errors="replace")


def _raw(stream: "object") -> "object":
    return getattr(getattr(stream, "buffer", None), "raw", None)


def _wrapped(raw: io.FileIO, before: "object", at_once: bool = False) -> io.TextIOWrapper:
    lines = at_once or os.isatty(raw.fileno())
    encoding = getattr(before, "encoding", None) or "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "replace", line_buffering=lines)
