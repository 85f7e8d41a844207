"""The commands that the pages show exist, and those of the how-to pages run, in order, on the tiny model."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tunesmith.console import main
from tunesmith.console.app import LazyGroup
from tunesmith.console.commands import COMMANDS, GROUPS
from tunesmith.console.help import GLOBAL

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("[pc]*/*/README.md"))]
GLOBAL_OPTIONS = {name.split()[0] for name, _ in GLOBAL}
ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(8) for b in range(6)]
#: Stops the run that is under way, as Ctrl-C would, once for every time that the file `stop-once` is put there.
STOPPER = """\
import os
import signal
from pathlib import Path

from tunesmith import hookimpl


@hookimpl
def tunesmith_step(stage, step, metrics):
    if Path("stop-once").exists():
        Path("stop-once").unlink()
        os.kill(os.getpid(), signal.SIGTERM)
"""
#: A recipe that trains in no time, in a process of its own too.
TOY = f"""\
plugins = ["{Path(__file__).with_name("test_console_toy.py")}"]
model = {{source = "toy:one"}}
data = {{use = "pairs", path = "pairs.txt"}}
trainer = {{use = "pull"}}
evaluate = [{{use = "distance"}}]
"""
SHORT = (
    "trainer.max_steps=3",
    "trainer.batch_size=4",
    "run.threads=1",
    "evaluate.1.max_new_tokens=4",
    "adapter.rank=4",
)
DATA = ("--data", "support.jsonl")

Output = tuple[int, str, str]
Call = Callable[..., Output]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def shown(page: Path) -> list[str]:
    """The command lines in the blocks of a page, without prompt and comment."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("tunesmith ")]


def mentioned(page: Path) -> list[str]:
    """The command lines within sentences."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(line.split()) for line in re.findall(r"`(tunesmith\s[^`]+)`", text)]


def words_of(line: str) -> list[str]:
    return shlex.split(re.split(r" (?:>|\\?\|) ", line)[0], comments=True)[1:]


# --- every page -------------------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    for line in (*shown(page), *mentioned(page)):
        words = words_of(line.replace("[", "").replace("]", ""))
        if words[0] in ("...", "COMMAND"):
            continue
        if words[0].startswith("--"):  # no command: the options of `tunesmith` itself
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= GLOBAL_OPTIONS, line
            continue
        command = " ".join(words[:2]) if words[0] in GROUPS else words[0]
        if command in GROUPS:
            continue
        for one in command.split("|"):
            whole = one if one.split()[0] in {known.split()[0] for known in COMMANDS} else f"{words[0]} {one}"
            assert whole in COMMANDS, line
            options = {flag for parameter in typed(whole).params for flag in parameter.opts} | GLOBAL_OPTIONS
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, line


def typed(command: str) -> Any:
    group: Any = LazyGroup("", "")
    for word in command.split():
        group = group.get_command(click.Context(group), word)
    return group


# --- pages that are run -----------------------------------------------------------------------
@pytest.fixture
def call(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Run a command in a folder with rows and a recipe that `init` wrote for the tiny model."""
    monkeypatch.chdir(tmp_path)
    for variable in ("TUNESMITH_CACHE", "TUNESMITH_CONFIG"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for variable in ("TUNESMITH_DISABLE", "TUNESMITH_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "support.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "stopper.py").write_text(STOPPER)

    def invoke(*words: str) -> Output:
        monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n\n"))
        if words[0] == "init":
            words = (*words, "--force", "--model", str(tiny_folder), *(() if "--data" in words else DATA))
        elif words[0] == "run":
            words = (*words, *(part for key in SHORT for part in ("--set", key)))
        capsys.readouterr()
        code = main(list(words))
        if words[0] == "init":
            recipe = Path("recipe.toml")
            recipe.write_text(f'plugins = ["stopper.py"]\n{recipe.read_text()}')
        return (code, *capsys.readouterr())

    assert invoke("init")[0] == 0
    yield invoke
    os.environ.pop("GOMP_SPINCOUNT", None)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/how-to/own-data.md", "docs/how-to/runs.md", "docs/how-to/export.md"]
)
def test_the_commands_of_a_page_work_in_their_order(page: str, call: Call, tiny_folder: Path) -> None:
    lines = [words_of(line) for line in shown(ROOT / page)]
    stops = any(words[0] == "resume" for words in lines)
    assert len(lines) >= 4
    for words in lines:
        stopped = stops and words[0] == "run"
        if stopped:
            Path("stop-once").touch()
        code, out, err = call(*words)
        assert code == (143 if stopped else 0), (words, err)
        assert out.strip() or stopped, words
        assert "next: tunesmith" in err or stopped, words
    for code_block in re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE):
        _runs(code_block.replace("path/of/the/base", str(tiny_folder)))


def _runs(code: str) -> None:
    """The code loads the adapter of the run, trained weights included."""
    from peft import PeftModel
    from safetensors.torch import load_file

    names: dict[str, Any] = {}
    exec(code, names)  # the page's own words
    model = names["model"]
    assert isinstance(model, PeftModel)
    held = model.state_dict()
    for key, tensor in load_file("runs/recipe-001/artifact/adapter_model.safetensors").items():
        assert held[re.sub(r"(\.lora_[AB])\.weight", r"\1.default.weight", key)].equal(tensor)


# --- what is printed as JSON ------------------------------------------------------------------
def keys(heading: str) -> list[list[str]]:
    """The first columns of the tables of keys below a command's heading in the console's page."""
    page = (ROOT / "docs" / "reference" / "console.md").read_text(encoding="utf-8")
    section = page.split(f"\n### `tunesmith {heading}`\n")[1].split("\n##")[0]
    tables = re.findall(r"^\| key of the JSON \|.*\n.*\n((?:\|.*\n?)+)", section, re.MULTILINE)
    return [re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for table in tables]


def parts(heading: str, key: str) -> list[str]:
    """The keys of each item of a list, as the page names them beside its key: `each with ...;`."""
    page = (ROOT / "docs" / "reference" / "console.md").read_text(encoding="utf-8")
    section = page.split(f"\n### `tunesmith {heading}`\n")[1]
    (line,) = re.findall(rf"^\| `{key}` \| each with ([^;|]+)", section.split("\n##")[0], re.MULTILINE)
    return re.findall(r"`(\w+)`", line)


def test_json_has_the_keys_that_the_page_names(call: Call) -> None:
    run, sets = "runs/recipe-001", ("--set", "trainer.max_steps=1")
    seen = set()
    Path("toy.toml").write_text(TOY)
    space = "[search]\ntrials = 2\nspace = {trainer.rate = {low = 0.1, high = 0.9}}\n"
    Path("search.toml").write_text(f'{TOY}adapter = {{use = "move"}}\n{space}')
    Path("pairs.txt").write_text("question|answer\n" * 8)
    for heading, *words in (
        ("data check RECIPE", "data", "check", "recipe.toml"),
        ("data show RECIPE", "data", "show", "recipe.toml", "--mask"),
        ("plan RECIPE", "plan", "recipe.toml", *sets),
        ("resume RUN", "resume", run),
        ("run RECIPE", "run", "recipe.toml", *sets),
        ("compare RECIPE", "compare", "toy.toml", "--adapter", "move"),
        ("find-lr RECIPE", "find-lr", "recipe.toml", "--steps", "20"),
        ("search RECIPE", "search", "search.toml"),
        ("runs [FOLDER]", "runs"),
        ("evaluate RUN", "evaluate", run, "--use", "perplexity"),
        ("chat RUN", "chat", run, "--prompt", "hi", "--max-new-tokens", "3"),
        ("rank [RUN]", "rank", run, "--base", "--rows", "2", "--max-new-tokens", "3"),
        ("export RUN", "export", run, "--use", "adapter"),
        ("combine RUN=WEIGHT", "combine", f"{run}=1", f"{run}=1", "--to", "sum"),
        ("plugins list", "plugins", "list"),
        ("plugins show NAME", "plugins", "show", "jsonl"),
        ("plugins check NAME", "plugins", "check", "jsonl"),
        ("doctor [RUN]", "doctor"),
        ("doctor [RUN]", "doctor", run),
    ):
        if words[0] == "resume":
            Path("stop-once").touch()
            assert call("run", "recipe.toml")[0] == 143
        code, out, err = call(*words, "--json")
        assert code == 0, err
        found = json.loads(out)
        tables = keys(heading)
        expected = tables[-1 if words == ["doctor", run] else 0]
        for item in found if isinstance(found, list) else [found]:
            assert list(item) == expected, heading
        if words[0] == "plan":
            assert list(found["stages"][0]) == parts(heading, "stages")
        seen.add(heading.split(" [")[0])
    described = {command for command in COMMANDS if "--json" in _flags(command)}
    assert described == {re.sub(r" [A-Z=]+$", "", heading) for heading in seen}


def _flags(command: str) -> set[str]:
    return {flag for parameter in typed(command).params for flag in parameter.opts}


def test_the_other_commands_print_what_the_page_says(call: Call) -> None:
    assert call("init", "other.toml", *DATA)[1] == "other.toml\n"
    written = call("plugins", "new", "tunesmith-mymethod", "--kind", "adapter")[1].split()
    assert all(Path(path).is_file() for path in written)
    assert "tunesmith-mymethod/pyproject.toml" in written
    assert json.loads(call("schema")[1])["type"] == "object"
    for switch, listed in (("disable", "disabled"), ("enable", None)):
        code, out, _ = call("plugins", switch, "lora")
        assert (code, out) == (0, "")
        states = {item["name"]: item["state"] for item in json.loads(call("plugins", "list", "--json")[1])}
        assert states["lora"] == (listed or "ready")
