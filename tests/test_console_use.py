"""Commands that use a finished run and those that look at rows, on toy components."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Output = tuple[int, str, str]


def as_json(output: Output) -> Any:
    assert output[0] == 0, output[2]
    return json.loads(output[1])


# --- evaluate, chat ---------------------------------------------------------------------------
def test_evaluate_measures_the_artifact_again(call: Callable[..., Output]) -> None:
    call("run", "recipe.toml")
    found = as_json(call("evaluate", "runs/recipe-001", "--json"))
    assert found["measures"]["distance"]["value"] == pytest.approx(0.0625)
    assert len(found["samples"]) == 2
    code, out, err = call("evaluate", "runs/recipe-001", "--use", "distance")
    assert code == 0, err
    assert "before" in out
    assert "now" in out
    code, _, err = call("evaluate", "runs/recipe-001", "--use", "distanec")
    assert code == 69
    assert "Did you mean 'distance'?" in err


def test_evaluate_refuses_a_changed_artifact(call: Callable[..., Output], tmp_path: Path) -> None:
    call("run", "recipe.toml")
    (tmp_path / "runs" / "recipe-001" / "artifact" / "weight.json").write_text("1.0")
    code, _, err = call("evaluate", "runs/recipe-001")
    assert code == 1
    assert "damaged" in err


def test_chat_answers_with_the_tuned_and_the_base_model(call: Callable[..., Output]) -> None:
    call("run", "recipe.toml")
    assert call("chat", "runs/recipe-001", "--prompt", "hello")[:2] == (0, "hello 0.94\n")
    base = as_json(call("chat", "runs/recipe-001/artifact", "--prompt", "hello", "--base", "--json", "--debug"))
    assert base["answer"] == "hello 0.00"
    code, _, err = call("chat", "runs/recipe-001", "--prompt", "x" * 90)
    assert code == 65
    assert "takes 80" in err
    assert call("chat", "runs/recipe-001", "--json")[0] == 2


def test_a_conversation_ends_with_the_input(call: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    call("run", "recipe.toml")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"hello\n/reset\n{'x' * 90}\nyou\n"))
    code, out, err = call("chat", "runs/recipe-001")
    assert code == 0
    assert out == "hello 0.94\nyou 0.94\n"
    assert "forgotten" in err
    assert "takes 80" in err


def test_a_run_without_an_artifact_cannot_chat(call: Callable[..., Output]) -> None:
    call("run", "recipe.toml", "--set", "trainer.fault=signal")
    code, _, err = call("chat", "runs/recipe-001", "--prompt", "hello")
    assert code == 65
    assert "tunesmith resume runs/recipe-001" in err


# --- data -------------------------------------------------------------------------------------
def test_data_check_counts_rows_and_reasons(call: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(Path("pairs.txt").read_text() + "no bar\n")
    words = ("data", "check", "recipe.toml", "--set", "run.max_lost_rows=0.5")
    found = as_json(call(*words, "--json"))
    assert found["type"] == "prompt-completion"
    assert found["ledger"]["rows_in"] == 9
    (lost,) = found["dropped"]
    assert (lost["row"], lost["reason"]) == ("pairs.txt:9", "no bar between prompt and completion")
    out = call(*words)[1]
    assert "1 x no bar between prompt and completion: pairs.txt:9" in out
    code, _, err = call("data", "check", "recipe.toml")
    assert code == 65
    assert "pairs.txt:9" in err


def test_data_check_names_what_nothing_reads(call: Callable[..., Output], tmp_path: Path) -> None:
    assert as_json(call("data", "check", "recipe.toml", "--json"))["unused"] == {}
    (tmp_path / "pairs.txt").write_text(Path("pairs.txt").read_text() + "more|yes # of Ann\n")
    found = as_json(call("data", "check", "recipe.toml", "--json"))
    assert (found["unused"], found["notes"]) == ({"comment": 1}, ["a bar stands between prompt and completion"])
    out = call("data", "check", "recipe.toml")[1]
    assert "not used: comment (1 row)" in out
    assert "a bar stands between prompt and completion" in out


def test_data_show_prints_rows_by_number_and_name(call: Callable[..., Output]) -> None:
    assert "prompt: question 1\ncompletion: answer 1\n" in call("data", "show", "recipe.toml", "--row", "2")[1]
    by_name = as_json(call("data", "show", "recipe.toml", "--row", "pairs.txt:3", "--json"))
    row = {"prompt": "question 2", "completion": "answer 2"}
    assert by_name == [{"id": "pairs.txt:3", "row": row, "history": [], "read": row}]
    held = as_json(call("data", "show", "recipe.toml", "--part", "validation", "--json"))
    assert [row["id"] for row in held] == ["pairs.txt:7", "pairs.txt:8"]
    assert call("data", "show", "recipe.toml", "--row", "99")[0] == 2


def test_data_show_marks_what_is_trained(call: Callable[..., Output]) -> None:
    _, out, err = call("data", "show", "recipe.toml", "--row", "1", "--mask")
    assert "question 0⟦answer 0⟧" in out
    assert "1 of 11 tokens are trained" in err
    row = as_json(call("data", "show", "recipe.toml", "--row", "1", "--mask", "--json"))[0]
    assert row["supervised"] == 1
    assert row["tokens"][-1] == {"text": "answer 0", "supervised": True}
    code, _, err = call("data", "show", "recipe.toml", "--mask", "--set", "trainer.use=blind")
    assert code == 69
    assert "offers no preview" in err


def test_control_codes_in_rows_do_not_reach_the_terminal(call: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("[bold]\x1b[2Jquestion|answer\n" + Path("pairs.txt").read_text())
    out = call("data", "show", "recipe.toml", "--row", "1")[1]
    assert "[bold]\\x1b[2Jquestion" in out
    assert "\x1b" not in out


STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m\x7f\u202e"


@pytest.mark.parametrize(
    "words",
    [
        ("data", "check", "recipe.toml"),
        ("data", "show", "recipe.toml"),
        ("data", "show", "recipe.toml", "--mask"),
        ("data", "show", "recipe.toml", "--json"),
        ("run", "recipe.toml"),
        ("runs", "--json"),
        ("evaluate", "runs/recipe-001"),
        ("evaluate", "runs/recipe-001", "--json"),
        ("chat", "runs/recipe-001", "--prompt", STEERING),
        ("chat", "runs/recipe-001", "--prompt", STEERING, "--json"),
        ("plan", "recipe.toml", "--set", f'data.path="{STEERING}"', "--debug"),
    ],
    ids=" ".join,
)
def test_nothing_out_of_rows_and_answers_steers_the_terminal(
    call: Callable[..., Output], tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "pairs.txt").write_text("".join(f"{STEERING}{n}|{STEERING}{n}\n" for n in range(8)), newline="\n")
    if words[0] in ("evaluate", "chat", "runs"):
        assert call("run", "recipe.toml")[0] == 0
    code, out, err = call(*words)
    assert code in (0, 65)
    assert not set(out + err) & set(STEERING) - set("[]0123456789;titlemJ")
    if words[0] in ("data", "chat", "plan") and "check" not in words:
        assert "202e" in out + err


def test_colour_only_where_it_is_wanted(call: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in call("plan", "recipe.toml")[1]
    assert "\x1b[" in call("--help")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (("--help",), ("plugins", "list"), ("rnu",)):
        _, out, err = call(*words)
        assert "\x1b[" not in out + err
    monkeypatch.delenv("FORCE_COLOR")
    assert "\x1b[" not in call("run", "recipe.toml")[1]
    assert os.environ["NO_COLOR"] == "1"
