"""The outcome of one check, and how a check that raises is told."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import TunesmithError

#: Libraries that take long to import, and so must wait until a component is used.
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "bitsandbytes",
    "accelerate",
    "numpy",
    "pandas",
    "pyarrow",
    "sklearn",
)


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Args:
        name: the check, such as "merge-equal".
        ok: whether the plugin passed.
        detail: one sentence: what was found, or what is wrong and where.
        component: "adapter lora", or "" for a check of the plugin as a whole.
    """

    name: str
    ok: bool
    detail: str
    component: str = ""


class Failed(Exception):
    """Raised inside a check: the plugin does not pass; the text says why."""


def run_check(name: str, component: str, check: Callable[[], str]) -> CheckResult:
    """Call a check, which returns what it found; whatever it raises becomes a failed result."""
    try:
        return CheckResult(name, True, check(), component)
    except Failed as failure:
        return CheckResult(name, False, str(failure), component)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # a plugin is a stranger's code: whatever it raises is a finding, be it SystemExit or a library's panic
        return CheckResult(name, False, explain(error), component)


def explain(error: BaseException) -> str:
    """An exception as one line, with the file and line it came from, outside the large libraries."""
    cause = error.__cause__ if isinstance(error, TunesmithError) and error.__cause__ else error
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not set(Path(frame.filename).parts) & set(HEAVY)]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    text = error.what if isinstance(error, TunesmithError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()) + place


def listed(names: list[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
