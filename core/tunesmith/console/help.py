"""The help of the program itself, printed from the table of commands."""

from tunesmith.console.commands import COMMANDS, SECTIONS
from tunesmith.console.paint import painter

GLOBAL = (
    ("--no-plugin NAME", "Leave a plugin out; it is not imported. May be repeated."),
    ("--trust-remote-code MODEL", "Run the code of a model of the hub: OWNER/NAME@COMMIT."),
    ("--debug", "Show the traceback of a defect (or TUNESMITH_DEBUG=1)."),
    ("--version", "Print the version."),
    ("--help", "Print this, or the help of a command."),
)


def root_help() -> str:
    """The text of `tunesmith --help`."""
    paint = painter("stdout")
    width = max(len(name) for name, *_ in (*COMMANDS.items(), *GLOBAL)) + 2
    lines = ["Usage: tunesmith COMMAND ...", "", "Fine-tune language models. Every method is a plugin.", ""]
    for heading, names in SECTIONS:
        lines.append(paint(heading, "bold"))
        lines.extend(f"  {paint(name.ljust(width), 'cyan')}{COMMANDS[name][1]}" for name in names)
        lines.append("")
    lines.append(paint("Options, with any command", "bold"))
    lines.extend(f"  {paint(name.ljust(width), 'cyan')}{line}" for name, line in GLOBAL)
    lines.extend(["", "Begin with: tunesmith init", ""])
    return "\n".join(lines)
