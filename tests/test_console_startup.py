"""What help and listings may import, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "numpy", "pandas", "pyarrow", "sklearn"}
TOY = Path(__file__).with_name("test_console_toy.py")
RECIPE = f"""\
plugins = ["{TOY}"]
model = {{source = "toy:one"}}
data = {{use = "pairs", path = "pairs.txt"}}
adapter = {{use = "move"}}
trainer = {{use = "pull"}}
"""
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from tunesmith.console import main
seen = {}
for words in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        code = main(words)
    seen[" ".join(words)] = [code, sorted(sys.modules)]
print(json.dumps(seen))
"""


def modules_after(folder: Path, *commands: list[str], installed: bool = False) -> dict[str, tuple[int, set[str]]]:
    """Exit code and modules in use after each command, all in one fresh process.

    Args:
        installed: with the plugins that are installed here, or without any.
    """
    (folder / "cache" / "listings").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TUNESMITH_CACHE": str(folder / "cache"), "TUNESMITH_CONFIG": str(folder / "config")}
    if not installed:
        environment["TUNESMITH_DISABLE"] = ",".join(point.name for point in metadata.entry_points(group="tunesmith"))
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return {words: (code, set(modules)) for words, (code, modules) in json.loads(done.stdout).items()}


def test_nothing_heavy_is_imported_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "runs").mkdir()
    commands = [["--help"], ["--version"], ["plugins", "list"], ["runs"], ["plan", "recipe.toml"], ["schema"]]
    commands += [["plugins", "show", "pull", "--file", str(TOY)], ["run", "--help"], ["data", "--help"]]
    for words, (code, modules) in modules_after(tmp_path, *commands, installed=True).items():
        assert code == 0, words
        assert not HEAVY & modules, words


def test_help_imports_neither_typer_nor_rich_nor_the_registry(tmp_path: Path) -> None:
    ((code, modules),) = modules_after(tmp_path, ["--help"]).values()
    assert code == 0
    assert not {"typer", "rich", "pydantic", "pluggy", "tunesmith.registry", "annotated_types"} & modules


@pytest.mark.parametrize("words", [["plugins", "list"], ["plugins", "list", "--json", "--kind", "adapter"]])
def test_listing_imports_neither_typer_nor_rich_nor_pydantic(tmp_path: Path, words: list[str]) -> None:
    ((code, modules),) = modules_after(tmp_path, words).values()
    assert code == 0
    assert not {"typer", "rich", "pydantic", "tomli_w"} & modules


def test_a_second_listing_imports_no_plugin(tmp_path: Path) -> None:
    (_, first), *_ = modules_after(tmp_path, ["plugins", "list"]).values()
    (_, second), *_ = modules_after(tmp_path, ["plugins", "list"]).values()
    assert "tunesmith.registry" in first
    assert "tunesmith.registry" not in second


def test_a_command_imports_only_its_own_module(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    ((_, modules),) = modules_after(tmp_path, ["runs"]).values()
    commands = {"init", "plan", "run", "resume", "chat", "doctor", "schema", "evaluate", "data_show", "data_check"}
    assert not {f"tunesmith.console.{name}" for name in commands} & modules


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'import sys; from tunesmith.console import main; sys.exit(main())' --help"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""
