"""Calling strangers' code: what it raises is named, and the machine's limits become clear errors."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tunesmith.blame import failure
from tunesmith.errors import DiskError, MemoryExhausted, PluginError, TunesmithError, message_of
from tunesmith.spec import Component
from tunesmith.store import DISK_ERRORS, errno_of

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class Used(Protocol):
    """A component and where it comes from: a plan's `Use`, or a registry's `Entry`."""

    @property
    def component(self) -> Component: ...

    @property
    def distribution(self) -> str: ...

    @property
    def version(self) -> str: ...


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever kind, says that memory has ended."""
    text = message_of(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def limit_of(error: BaseException, where: str) -> TunesmithError | None:
    """A limit of the machine as an error that says what to do; None for any other exception."""
    if isinstance(error, TunesmithError):
        return None
    if out_of_memory(error):
        return MemoryExhausted(
            f"out of memory in {where}: {message_of(error).partition(chr(10))[0]}",
            fix="Lower [trainer] batch_size (raise gradient_accumulation_steps to keep the product) or max_length, "
            "switch on activation_checkpointing, or quantize the base.",
        )
    number = errno_of(error)
    if number in DISK_ERRORS:
        assert number is not None
        return DiskError(
            f"cannot write {getattr(error, 'filename', None) or 'a file'}: {os.strerror(number)}",
            fix="Free some space, then `tunesmith resume` goes on.",
        )
    return None


@contextmanager
def guarded(use: Used) -> Iterator[None]:
    """Turn whatever a component raises into an error that names the plugin.

    Raises:
        MemoryExhausted, DiskError: the machine's limits.
        PluginError, MissingError: anything else that is not already a `TunesmithError` (`blame.failure`), or it changed
            its own settings.
    """
    settings = getattr(use, "settings", None)
    before = repr(settings)
    try:
        yield
    except TunesmithError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and what libraries in other languages raise when they panic
        if limit := limit_of(error, f"{use.component.kind} {use.component.name!r}"):
            raise limit from error
        raise failure(use.component, use.distribution, use.version, error) from error
    if repr(settings) != before:
        raise PluginError(
            f"{use.component.kind} {use.component.name!r} of {use.distribution} {use.version} changed its settings",
            fix="This is a defect of that plugin; the run would no longer be what its recipe says.",
        )


def wrong_type(use: Used, expected: str, got: object) -> PluginError:
    """The error for a factory that returned something else than its contract says."""
    return PluginError(
        f"{use.component.kind} {use.component.name!r} of {use.distribution} {use.version} returned "
        f"{type(got).__name__}; the contract says {expected}",
        fix="This is a defect of that plugin: `tunesmith plugins check NAME` shows more.",
    )


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, as far as they are in use."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
