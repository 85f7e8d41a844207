"""Files that never end, or are no files: refused at once, by `plan` and `data check` as by `run`."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R26")]

DATA = 65
PATIENCE = 20  # seconds after which a command counts as hanging


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: nothing came of it in {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, over)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # an address has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
MODEL = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "extra")


def refused(house: Any, said: str, *commands: tuple[str, ...]) -> None:
    for words in commands:
        signal.alarm(PATIENCE)
        ended = house.call(*words)
        signal.alarm(0)
        assert ended.code == DATA, f"{words}: {ended.err}"
        assert said in ended.err
        assert "defect" not in ended.err


COMMANDS = (("plan", "recipe.toml"), ("data", "check", "recipe.toml"), ("run", "recipe.toml"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_file_that_is_none(house: Any, fault: Recorder, kind: str) -> None:
    count = fault("R26", f"{kind} as data file")
    for name in amount(("rows.jsonl", "rows.csv", "rows.txt", "rows.parquet"), ("rows.jsonl",)):
        with count.trial(name):
            place = house.folder / name
            place.unlink(missing_ok=True)
            KINDS[kind](place)
            loader = {"txt": "text"}.get(name.partition(".")[2], name.partition(".")[2])
            house.content["data"] = {"use": loader, "path": name}
            house.recipe()
            refused(house, f"this is {kind}, not a file", *COMMANDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_a_model_that_is_none(house: Any, fault: Recorder, kind: str) -> None:
    count = fault("R26", f"{kind} in a model folder")
    given = Path(house.content["model"]["source"])
    for name in amount(MODEL, ("config.json", "extra")):
        with count.trial(name):
            shutil.rmtree(house.folder / "model", ignore_errors=True)
            shutil.copytree(given, house.folder / "model")
            place = house.folder / "model" / name
            place.unlink(missing_ok=True)
            KINDS[kind](place)
            house.content["model"]["source"] = "model"
            house.recipe()
            refused(house, f"this is {kind}, not a file", COMMANDS[0], COMMANDS[2])


def test_a_gzip_file_of_nothing_but_newlines(house: Any, fault: Recorder) -> None:
    size = amount(600, 8) << 20
    with gzip.open(house.folder / "rows.jsonl.gz", "wb", compresslevel=1) as file:
        for _ in range(size >> 20):
            file.write(b"\n" * (1 << 20))
    house.content["data"] = {"use": "jsonl", "path": "rows.jsonl.gz"}
    house.recipe()
    with fault("R26", "a gzip file of 600 MB of newlines").trial("newlines"):
        refused(house, "lines in a row are blank", COMMANDS[1], COMMANDS[2])
