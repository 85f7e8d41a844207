"""Processes that this one starts for a part of its work: none of them outlives it, whatever ends it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

#: Seconds that a child has to finish its step and save when its parent is gone; what it saved before then is whole.
GRACE = 10.0
MOMENT = 0.2  # seconds in which the system tells a child that its parent is gone
SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)


def follow_parent() -> None:
    """From now on stop as at a signal when the parent is gone, and end for good `GRACE` seconds later.

    To be called by a child whose standard input is a pipe from its parent, before it does anything that takes time.
    """
    told = _signal_at_death(signal.SIGTERM)
    threading.Thread(target=_wait_for_end, args=(told,), daemon=True).start()


def _signal_at_death(number: int) -> bool:
    """Have the system send this process a signal when its parent is gone; false where it does not do so."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None, use_errno=True)
        return bool(library.prctl(SET_PARENT_DEATH_SIGNAL, number, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _wait_for_end(told: bool) -> None:
    """Wait until the parent's end of the pipe is closed: it closes with the parent."""
    parent = os.getppid()
    try:
        while os.read(0, 1):
            continue
    except OSError:
        return
    time.sleep(MOMENT)
    if not told or os.getppid() == parent:  # of one that was gone before, or only closed its end, the system says none
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
