"""docs/reference/console.md names every command, option, exit code and variable that there is, and no other."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest

from tunesmith import errors
from tunesmith.console.app import LazyGroup
from tunesmith.console.commands import COMMANDS
from tunesmith.console.failure import SIGPIPE
from tunesmith.console.help import GLOBAL
from tunesmith.run import SIGNALS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "console.md").read_text(encoding="utf-8")


def sections(level: str) -> dict[str, str]:
    """Heading -> text, up to the next heading of any level."""
    parts = re.split(rf"^{level} (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return {
        title: re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables whose first column is called `heading`."""
    tables = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[ |-]+\|\n((?:\|.*\n?)+)", text, flags=re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


COMMAND_SECTIONS = {title.strip("`"): text for title, text in sections("###").items()}


def command(name: str) -> Any:
    group: Any = LazyGroup("", "")
    for word in name.split():
        group = group.get_command(click.Context(group), word)
    return group


def usage(name: str) -> str:
    """The command with its arguments, as the headings write it."""
    words = ["tunesmith", name]
    for parameter in command(name).params:
        if parameter.param_type_name == "argument":
            words.append(parameter.metavar if parameter.required else f"[{parameter.metavar}]")
    return " ".join(words)


def test_every_command_has_a_section_in_the_order_of_the_help() -> None:
    assert list(COMMAND_SECTIONS) == [usage(name) for name in COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_named_with_its_value_and_its_default(name: str) -> None:
    options = [parameter for parameter in command(name).params if parameter.param_type_name == "option"]
    expected = {}
    for option in options:
        (flag,) = option.opts
        if flag == "--help":
            continue
        value = "" if option.is_flag else option.metavar or option.name.upper()
        expected[f"`{flag} {value}`" if value else f"`{flag}`"] = option.default
    found = {option: default for option, default, _ in rows(COMMAND_SECTIONS[usage(name)], "option")}
    assert list(found) == list(expected)
    for option, default in expected.items():
        if default is None or default is False:
            assert not found[option].startswith("`")
        else:
            assert found[option] == f"`{default}`"


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_described_where_there_is_any(name: str) -> None:
    text = COMMAND_SECTIONS[usage(name)]
    assert bool(rows(text, "key of the JSON")) == ("| `--json` |" in text)


def test_options_of_every_command_are_those_of_the_help() -> None:
    named = [cell.split("`")[1] for cell, _ in rows(sections("##")["Options of every command"], "option")]
    assert sorted(named) == sorted(name for name, _ in GLOBAL)


def test_every_variable_that_is_read_is_named() -> None:
    read: set[str] = set()
    for file in [*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").glob("*/tunesmith_*/**/*.py")]:
        if "environ" not in (text := file.read_text(encoding="utf-8")):
            continue
        strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        read |= {
            value for value in strings if isinstance(value, str) and re.fullmatch(r"(?!SC_|CS_)[A-Z][A-Z_]+", value)
        }
    assert {cell.strip("`") for cell, _ in rows(sections("##")["Environment"], "variable")} == read


def test_every_exit_code_is_named() -> None:
    cells = [cell for cell, _ in rows(sections("##")["Exit codes"], "code")]
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    raised = {kind.exit_code for kind in kinds if issubclass(kind, errors.TunesmithError)}
    signals = {128 + number for number in (*SIGNALS, SIGPIPE)}
    assert {int(code) for cell in cells for code in cell.split(",")} == {0} | raised | signals
