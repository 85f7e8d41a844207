"""The options that every command takes, wherever they stand on the command line."""

import os
import re

from tunesmith.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tunesmith.registry import Registry

DEBUG = "--debug"
NO_PLUGIN = "--no-plugin"
TRUST = "--trust-remote-code"
#: A model of the hub at one commit: a branch or a tag may name other code tomorrow.
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
EXAMPLES = {NO_PLUGIN: "lora", TRUST: "OWNER/NAME@COMMIT"}


class Options:
    """What holds for the whole command.

    Args:
        no_plugin: plugins or distributions to leave out, before they are imported.
        debug: show tracebacks; also by TUNESMITH_DEBUG=1.
        trusted_code: models of the hub whose own code may be run, as `OWNER/NAME@COMMIT`.
    """

    def __init__(
        self, no_plugin: "Sequence[str]" = (), debug: bool = False, trusted_code: "Sequence[str]" = ()
    ) -> None:
        self.no_plugin = tuple(no_plugin)
        self.trusted_code = tuple(trusted_code)
        self.debug = debug or os.environ.get("TUNESMITH_DEBUG", "") not in ("", "0")

    def registry(self, files: "Sequence[Path]" = ()) -> "Registry":
        """The plugins that are installed here, and those in local files."""
        from tunesmith.registry import Registry

        return Registry.discover(disable=self.no_plugin, files=files, trusted_code=self.trusted_code)


def split(words: "list[str]") -> "tuple[Options, list[str]]":
    """Take the global options out of a command line; what follows `--` is left alone.

    Raises:
        UsageError: an option lacks its value, or code is trusted that no commit pins.
    """
    rest: list[str] = []
    given: dict[str, list[str]] = {NO_PLUGIN: [], TRUST: []}
    debug = False
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        option, joined, value = word.partition("=")
        if word == "--":
            rest.extend(words[position - 1 :])
            break
        if word == DEBUG:
            debug = True
        elif option not in given:
            rest.append(word)
        elif joined:
            given[option].append(value)
        elif position == len(words) or words[position].startswith("-"):
            what = "the name of a plugin" if option == NO_PLUGIN else "a model and its commit"
            raise UsageError(f"{option} needs {what}", fix=f"Example: {option} {EXAMPLES[option]}")
        else:
            given[option].append(words[position])
            position += 1
    for trusted in given[TRUST]:
        if not PINNED.fullmatch(trusted):
            raise UsageError(
                f"{TRUST} {trusted!r} does not read OWNER/NAME@COMMIT, with the 40 hex digits of a commit",
                fix="Read the model's code at one commit, and name that commit: a branch or a tag may hold other code "
                "tomorrow.",
            )
    return Options(given[NO_PLUGIN], debug, given[TRUST]), rest
