"""The console: `tunesmith COMMAND`.

`--help`, `plugins list`, `plugins disable` and `plugins enable` answer without typer, because importing it costs more
than they may take; every other command is a typer command in a module of its own, imported when it is called.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the command line without the program's name; default: that of the process.
    """
    from tunesmith.console.failure import guarded
    from tunesmith.console.options import DEBUG, Options, split
    from tunesmith.console.streams import prepare

    prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wait_quietly()
    return guarded(lambda: _dispatch(*split(words)), debug=DEBUG in words or Options().debug)


def wait_quietly() -> None:
    """Ask OpenMP's threads to sleep while they wait; must come before torch is imported.

    By default they spin, and a run that shares its cores with another process slows down many times over
    (docs/decisions/0008). What the person has set stays.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def _dispatch(options: "object", words: "list[str]") -> int:
    from tunesmith.console.options import Options

    assert isinstance(options, Options)
    if words in (["--version"], ["-V"]):
        from tunesmith import __version__

        print(f"tunesmith {__version__}")
        return 0
    if not words or words in (["--help"], ["-h"], ["help"]):
        from tunesmith.console.help import root_help

        print(root_help(), file=sys.stdout if words else sys.stderr, end="")
        return 0 if words else 2
    if words[:2] == ["plugins", "list"]:
        from tunesmith.console.plugins_list import parsed, show

        chosen = parsed(words[2:])
        if chosen is not None:
            return show(options, chosen)
    if words[:1] == ["plugins"] and words[1:2] in (["disable"], ["enable"]) and len(words) == 3 and words[2][:1] != "-":
        from tunesmith.console.switching import switch

        return switch(words[2], off=words[1] == "disable")
    from tunesmith.console.app import invoke

    return invoke(options, words)
