"""Errors that a person can act on, and the exit code of each kind.

A `TunesmithError` says what happened, where, and what to do. The console prints it without a
traceback and exits with its `exit_code`. Anything else that escapes is a defect of Tunesmith or of a
plugin and is reported as such.
"""

from __future__ import annotations

from collections.abc import Sequence


class TunesmithError(Exception):
    """An error that the person running Tunesmith can resolve.

    Args:
        what: one sentence, what happened.
        where: `file:line`, a row, a setting: the place to look at.
        fix: what to do about it.
        details: further lines (the first broken rows, the choices that exist, ...).
        setting: raised by a component's check: the key in its table that is meant, whose line is then the place.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        details: Sequence[str] = (),
        setting: Sequence[str] = (),
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.details = tuple(details)
        self.setting = tuple(setting)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        lines.extend(f"  {detail}" for detail in self.details)
        if self.fix:
            lines.append(f"  {self.fix}")
        return "\n".join(lines)


class UsageError(TunesmithError):
    """The command line is wrong."""

    exit_code = 2


class DataError(TunesmithError):
    """The data cannot be used: missing, broken, or nothing left to train on."""

    exit_code = 65


class MissingError(TunesmithError):
    """A plugin, a package or a service is not there, or a plugin is broken."""

    exit_code = 69


class PluginError(MissingError):
    """A plugin's own code failed or broke the contract."""


class NumericalError(TunesmithError):
    """A loss or a gradient is NaN or infinite."""

    exit_code = 70


class MemoryExhausted(TunesmithError):
    """The device or the machine ran out of memory."""

    exit_code = 71


class DiskError(TunesmithError):
    """A file cannot be written: disk full, read-only, quota, damaged device."""

    exit_code = 74


class LockedError(TunesmithError):
    """Another process holds the run folder."""

    exit_code = 75


class RecipeError(TunesmithError):
    """The recipe is wrong: a key, a value, a name or a combination."""

    exit_code = 78


class Stopped(TunesmithError):
    """A signal stopped the run after it had committed its state.

    Args:
        signal_number: the signal received; the exit code is 128 plus it.
    """

    def __init__(self, signal_number: int, what: str, *, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.exit_code = 128 + signal_number
        self.signal_number = signal_number


def nearest(name: str, choices: Sequence[str]) -> str | None:
    """The choice most like `name`, or None when none is near enough to be a slip of the finger."""
    import difflib

    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def message_of(error: BaseException) -> str:
    """What an exception says; a stranger's exception may fail even at that."""
    try:
        return str(error)
    except Exception as second:
        return f"(its message cannot be shown: {type(second).__name__})"
