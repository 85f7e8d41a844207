"""The options that every command takes, wherever they stand on the command line."""

import os

from tunesmith.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tunesmith.registry import Registry

DEBUG = "--debug"
NO_PLUGIN = "--no-plugin"


class Options:
    """What holds for the whole command.

    Args:
        no_plugin: plugins or distributions to leave out, before they are imported.
        debug: show tracebacks; also by TUNESMITH_DEBUG=1.
    """

    def __init__(self, no_plugin: "Sequence[str]" = (), debug: bool = False) -> None:
        self.no_plugin = tuple(no_plugin)
        self.debug = debug or os.environ.get("TUNESMITH_DEBUG", "") not in ("", "0")

    def registry(self, files: "Sequence[Path]" = ()) -> "Registry":
        """The plugins that are installed here, and those in local files."""
        from tunesmith.registry import Registry

        return Registry.discover(disable=self.no_plugin, files=files)


def split(words: "list[str]") -> "tuple[Options, list[str]]":
    """Take the global options out of a command line; what follows `--` is left alone.

    Raises:
        UsageError: `--no-plugin` without a name.
    """
    rest: list[str] = []
    left_out: list[str] = []
    debug = False
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            rest.extend(words[position - 1 :])
            break
        if word == DEBUG:
            debug = True
        elif word.startswith(f"{NO_PLUGIN}="):
            left_out.append(word.partition("=")[2])
        elif word == NO_PLUGIN:
            if position == len(words) or words[position].startswith("-"):
                raise UsageError(f"{NO_PLUGIN} needs the name of a plugin", fix="Example: --no-plugin lora")
            left_out.append(words[position])
            position += 1
        else:
            rest.append(word)
    return Options(left_out, debug), rest
