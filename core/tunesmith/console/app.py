"""The typer side of the console: groups that import a command's module when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tunesmith.console.commands import COMMANDS, GROUPS, children
from tunesmith.console.options import Options
from tunesmith.errors import UsageError, nearest

EPILOG = "Every command also takes --no-plugin NAME, --trust-remote-code OWNER/NAME@COMMIT and --debug."
HELP = {"help_option_names": ["-h", "--help"]}


class LazyGroup(TyperGroup):
    """A group whose commands are names in a table until one of them is invoked."""

    def __init__(self, prefix: str, help_line: str) -> None:
        super().__init__(
            name=prefix.rpartition(" ")[2] or "tunesmith",
            help=help_line,
            epilog=EPILOG,
            no_args_is_help=True,
            rich_markup_mode=None,
            context_settings=HELP,
        )
        self.prefix = prefix

    def list_commands(self, ctx: Any) -> list[str]:
        return list(children(self.prefix))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build the command.

        Raises:
            UsageError: there is none of that name.
        """
        full = f"{self.prefix} {cmd_name}".strip()
        if full in GROUPS:
            return LazyGroup(full, GROUPS[full])
        if full not in COMMANDS:
            names = self.list_commands(ctx)
            near = nearest(cmd_name, names)
            raise UsageError(
                f"there is no command {full!r}",
                fix=f"Did you mean {f'{self.prefix} {near}'.strip()!r}?" if near else f"There are: {', '.join(names)}.",
            )
        reference, line = COMMANDS[full]
        module, _, function = reference.partition(":")
        app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=HELP)
        app.command(cmd_name, short_help=line, epilog=EPILOG)(
            getattr(import_module(f"tunesmith.console.{module}"), function)
        )
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(children(self.prefix).items()))


def invoke(options: Options, words: Sequence[str]) -> int:
    """Run a command line without its global options; usage errors of typer exit with 2."""
    root = LazyGroup("", "Fine-tune language models. Every method is a plugin.")
    try:
        root.main(args=list(words), prog_name="tunesmith", obj=options)
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
