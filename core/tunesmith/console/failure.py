"""How a command ends when something goes wrong: one clear block and an exit code."""

import sys

from tunesmith.console.paint import clean, painter, width
from tunesmith.console.streams import SIGPIPE
from tunesmith.errors import Stopped, TunesmithError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Python's own exit code for an error that nobody foresaw.
DEFECT = 1
SIGINT = 2


def guarded(command: "Callable[[], int]", *, debug: bool) -> int:
    """Run a command; what it raises becomes a message on stderr and an exit code."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except TunesmithError as error:
        if error.exit_code == 128 + SIGPIPE:
            return error.exit_code  # the reader (`| head`) went away: it has what it wanted
        print(block(error), file=sys.stderr)
        if debug:
            _traceback(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + SIGINT
    except Exception as error:
        print(_defect(error, debug), file=sys.stderr)
        if debug:
            _traceback(error)
        return DEFECT


def block(error: TunesmithError) -> str:
    """What happened, where, the details, and what to do: a line each, wrapped on a terminal."""
    paint = painter("stderr")
    stopped = isinstance(error, Stopped)
    label = "stopped" if stopped else "error"
    lines = [_wrapped(f"{label}: ", error.what, paint, "yellow" if stopped else "red")]
    if error.where:
        lines.append(_wrapped("  where: ", error.where, paint, "dim"))
    lines.extend(_wrapped("  - ", detail, paint, "dim") for detail in error.details)
    if error.fix:
        lines.append(_wrapped("  fix: " if not stopped else "  next: ", error.fix, paint, "green"))
    return "\n".join(lines)


def _wrapped(label: str, text: str, paint: "Callable[[str, str], str]", style: str) -> str:
    text = clean(text)
    columns = width("stderr")
    if columns:
        import textwrap

        indent = " " * len(label)
        wide = max(30, min(columns, 120) - len(label))
        parts = [
            part
            for line in text.splitlines()
            for part in textwrap.wrap(line, wide, break_long_words=False, break_on_hyphens=False) or [""]
        ]
        text = f"\n{indent}".join(parts)
    return paint(label, style) + text


def _defect(error: Exception, debug: bool) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
    first = (str(error).splitlines() or [""])[0]
    advice = "" if debug else "; --debug shows the traceback"
    return clean(f"defect: {type(error).__name__}: {first}{at}. Tunesmith or a plugin should have caught this{advice}.")


def _traceback(error: BaseException) -> None:
    import traceback

    print(clean("".join(traceback.format_exception(error))), file=sys.stderr, end="")
