"""Runs through the console, of toys and of the tiny model, and places where a disk is small or read-only."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(8) for b in range(6)]
DELETE = object()
TOY = Path(__file__).with_name("test_console_toy.py")
TOY_RECIPE = f"""\
plugins = ["{TOY}"]
[model]
source = "toy:one"
[data]
use = "pairs"
path = "pairs.txt"
[adapter]
use = "move"
[trainer]
use = "pull"
[[evaluate]]
use = "distance"
"""
TOY_PAIRS = "".join(f"question {number}|answer {number}\n" for number in range(8))


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote to its two streams."""

    code: int
    out: str
    err: str


class House:
    """A folder with a recipe, its rows, and its runs."""

    def __init__(self, folder: Path, model: Path, read: Callable[[], Any]) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self._read = read
        self.rows(ROWS)
        self.content: dict[str, Any] = {
            "run": {"folder": str(self.runs), "device": "cpu", "threads": 1},
            "model": {"source": str(model)},
            "data": {"use": "jsonl", "path": "rows.jsonl", "validation": 0.25},
            "adapter": {"use": "lora", "rank": 4, "dropout": 0.1},
            "trainer": {"use": "sft", "learning_rate": 0.01, "batch_size": 4, "max_steps": 2, "save_steps": 1},
            "evaluate": [{"use": "perplexity"}],
        }

    def rows(self, rows: list[Any], name: str = "rows.jsonl") -> None:
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def model(self, change: Callable[[Path], None]) -> None:
        """Make the recipe name a copy of the model folder that `change` spoils."""
        copied = self.folder / "model"
        shutil.copytree(self.content["model"]["source"], copied)
        change(copied)
        self.content["model"]["source"] = str(copied)

    def template(self, text: str) -> None:
        """Give the recipe's model another chat template."""
        from tunesmith.testing.tiny import tiny_tokenizer

        def change(folder: Path) -> None:
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            tokenizer = tiny_tokenizer()
            tokenizer.chat_template = text
            tokenizer.save_pretrained(folder)

        self.model(change)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def recipe(self, changes: Mapping[str, Any] | None = None) -> Path:
        """Write the recipe with some keys changed (`"trainer.max_steps": 9`) or taken out (`DELETE`)."""
        content = copy.deepcopy(self.content)
        for dotted, value in (changes or {}).items():
            *path, last = dotted.split(".")
            table = content
            for part in path:
                table = table.setdefault(part, {})
            if value is DELETE:
                del table[last]
            else:
                table[last] = value
        return self.write("recipe.toml", tomli_w.dumps(content))

    def call(self, *words: str | Path) -> Outcome:
        """One command of the console, in this process."""
        from tunesmith.console import main

        self._read()
        code = main([str(word) for word in words])
        captured = self._read()
        return Outcome(code, captured.out, captured.err)

    def refused(self, code: int, *said: str, before_the_run: bool = False) -> str:
        """Run the recipe and check how it is refused; what can be known from the recipe, `plan` refuses too."""
        ended = self.call("run", "recipe.toml")
        assert ended.code == code, ended.err
        assert ended.out == ""
        assert "Traceback" not in ended.err
        assert "defect:" not in ended.err
        message = ended.err[ended.err.index("error: ") :]
        assert message.count("error: ") == 1
        assert "\n  fix: " in message, "nothing says what to do"
        for part in said:
            assert part in message
        planned = self.call("plan", "recipe.toml")
        if before_the_run:
            assert (planned.code, planned.out) == (code, "")
            assert not self.runs.is_dir() or not any(self.runs.iterdir())
        else:
            assert planned.code == 0, planned.err
            (state,) = self.states()
            assert (state["status"], state["exit_code"]) == ("failed", code)
            assert not list(self.runs.rglob("artifact"))
            assert not list(self.runs.rglob(".staging-*"))
        return message

    def states(self) -> list[dict[str, Any]]:
        """The state of each run folder, in the order they were made."""
        return [json.loads(path.read_text()) for path in sorted(self.runs.glob("*/state.json"))]


@pytest.fixture
def house(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> House:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TUNESMITH_DEBUG", raising=False)
    monkeypatch.delenv("TUNESMITH_DISABLE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gc.collect", lambda: 0)  # half a second a call on a heap that holds torch
    return House(tmp_path, tiny_folder, capfd.readouterr)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a file system in memory with the options given, or skips where that is not allowed."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk-{len(places)}"
        place.mkdir()
        command = shutil.which("mount")
        if command is None:
            pytest.skip("there is no mount command")
        done = subprocess.run([command, "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a folder with a recipe and its data; only the toy plugin is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TUNESMITH_DEBUG", raising=False)
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: iter(()))
    # the disk's and the collector's time decide nothing here
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("gc.collect", lambda: 0)
    (tmp_path / "recipe.toml").write_text(TOY_RECIPE)
    (tmp_path / "pairs.txt").write_text(TOY_PAIRS)

    from tunesmith.console import main

    def invoke(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return invoke
