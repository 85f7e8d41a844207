"""Calling strangers' code: what it raises is named, and the machine's limits become clear errors."""

from __future__ import annotations

import os
import random
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunesmith.errors import DiskError, MemoryExhausted, PluginError, TunesmithError
from tunesmith.store import DISK_ERRORS, errno_of

if TYPE_CHECKING:
    from tunesmith.plan import Use

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


@contextmanager
def guarded(use: Use) -> Iterator[None]:
    """Turn whatever a component raises into an error that names the plugin.

    Raises:
        MemoryExhausted, DiskError: the machine's limits.
        PluginError: anything else that is not already a `TunesmithError`.
    """
    try:
        yield
    except TunesmithError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY):
            raise MemoryExhausted(
                f"out of memory in {use.component.kind} {use.component.name!r}: {str(error).splitlines()[0]}",
                fix="Lower [trainer] batch_size (raise gradient_accumulation to keep the product) or max_length, "
                "switch on activation_checkpointing, or quantize the base.",
            ) from error
        number = errno_of(error)
        if number in DISK_ERRORS:
            assert number is not None
            raise DiskError(
                f"cannot write {getattr(error, 'filename', None) or 'a file'}: {os.strerror(number)}",
                fix="Free some space, then `tunesmith resume` goes on.",
            ) from error
        last = traceback.extract_tb(error.__traceback__)[-1:]
        raise PluginError(
            f"{use.component.kind} {use.component.name!r} of {use.distribution} {use.version} failed: "
            f"{type(error).__name__}: {error}",
            where=f"{last[0].filename}:{last[0].lineno}" if last else None,
            fix="This is a defect of that plugin; the whole traceback is in error.txt of the run folder.",
        ) from error


def wrong_type(use: Use, expected: str, got: object) -> PluginError:
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
