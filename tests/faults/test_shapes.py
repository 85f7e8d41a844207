"""One damaged run folder: it is one line, the others are listed, and every command names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount

Call = Callable[..., tuple[int, str, str]]

pytestmark = [pytest.mark.run, pytest.mark.fault("R29")]

#: What a value is replaced by.
OTHERS: tuple[Any, ...] = (None, True, -1, 1e400, "text", [], {}, [[]], {"a": []}, "x" * 10_000)
FILES = ("manifest.json", "state.json", "results.json", "result.json", "evaluation-before.json")
TORN = (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"3")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a JSON value can be changed."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = changed(value[path[0]], path[1:], by)
    return copied


def damages(text: str, number: int, chosen: random.Random) -> Iterator[tuple[str, bytes]]:
    """What a file is replaced by: torn, and with one value of another type."""
    yield from ((f"{torn[:3]!r}", torn) for torn in chosen.sample(TORN, amount(len(TORN), 2)))
    value = json.loads(text)
    found = [path for path in places(value) if not {"environment", "samples", "per_row"} & {*path}]
    for path in chosen.sample(found, min(number, len(found))):
        by = chosen.choice(OTHERS)
        yield f"{'.'.join(map(str, path)) or 'all'} = {by!r:.20}", json.dumps(changed(value, path, by)).encode()


def test_a_damaged_folder_is_one_line_and_every_command_names_it(call: Call, tmp_path: Path, fault: Recorder) -> None:
    assert call("run", "recipe.toml")[0] == 0
    whole, broken = tmp_path / "runs" / "recipe-001", tmp_path / "runs" / "recipe-002"
    chosen = random.Random(3)
    for name in FILES:
        count = fault("R29", f"{name} torn or with a value of another type")
        for what, content in damages((whole / name).read_text(), amount(60, 4), chosen):
            shutil.rmtree(broken, ignore_errors=True)
            shutil.copytree(whole, broken)
            (broken / name).write_bytes(content)
            with count.trial(what):
                asked(call, whole, broken, name)


def asked(call: Call, whole: Path, broken: Path, name: str) -> None:
    code, out, err = call("runs", "--json")
    assert code == 0, err
    one, other = json.loads(out)
    assert one["status"] == "done"
    assert one["run"].endswith(whole.name)
    assert call("runs")[0] == 0
    named = other["status"] == "damaged"
    assert not named or name in other["error"], other["error"]
    for words in (("doctor", str(broken)), ("resume", str(broken)), ("compare", str(whole), str(broken))):
        _, out, err = call(*words)
        said = out + err
        assert "Traceback" not in said
        assert "defect" not in said, f"{words[0]}: {said}"
        assert not named or name in said, f"{words[0]} does not name it: {said}"
        if words[0] == "resume" and (broken / "state.json").read_text().find('"done"') >= 0:
            named = named and name != "state.json"  # it went on, and wrote its state anew
