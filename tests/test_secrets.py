"""Secrets are taken from the environment, refused in recipes, and struck out of everything that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.secrets import redact

RECIPE, MISSING = 78, 69
SECRET = "quiet-river-7f3a91"
TOKEN = "hf_" + "Ab1" * 11

TELLING = """\
import os
from tunesmith import Adapter, hookimpl

@hookimpl
def tunesmith_adapters():
    yield Adapter(name="telling", summary="s", factory="tunesmith_local_telling:apply")

@hookimpl
def tunesmith_run_started(plan):
    raise RuntimeError("observer " + os.environ["WANDB_API_KEY"])

def apply(handle, settings, context):
    context.reporter.say("note " + os.environ["WANDB_API_KEY"])
    context.reporter.warn("https://me:" + os.environ["WANDB_API_KEY"] + "@host/path")
    raise ValueError("failed with " + os.environ["WANDB_API_KEY"])
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the key quiet-river-7f3a91 is", "the key *** is"),
        (f"Bearer {TOKEN}.", "Bearer ***."),
        ("https://me:hunter2@example.org/x", "https://***@example.org/x"),
        ("https://:hunter2@example.org", "https://***@example.org"),
        ("ghp_" + "a1" * 18, "***"),
        ("sk-proj-" + "a1" * 12, "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        # what only looks like one
        ("https://example.org/a:b@c", "https://example.org/a:b@c"),
        ("eos_token = '<|im_end|>'", "eos_token = '<|im_end|>'"),
        ("hf_hub, sk-learn, monkey", "hf_hub, sk-learn, monkey"),
    ],
)
def test_what_is_struck_out(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert redact(text) == shown


def test_names_of_files_and_short_values_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSH_KEY", str(tmp_path))
    monkeypatch.setenv("LICENSE_KEY", "none")
    assert redact(f"none in {tmp_path}") == f"none in {tmp_path}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainer.arguments.hub_token": "abc"}, "trainer.arguments.hub_token holds a secret, by its name"),
        ({"data.path": f"{TOKEN}.jsonl"}, "data.path holds a token"),
        ({"data.path": "https://me:hunter2@host/rows"}, "data.path holds a name and a password in a URL"),
        ({"run.name": SECRET}, "run.name holds the value of a secret in the environment"),
    ],
    ids=str,
)
def test_a_recipe_with_a_secret_is_refused(
    house: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    house.recipe(changes)
    message = house.refused(RECIPE, said, "set it in the environment", before_the_run=True)
    assert "where: recipe.toml:" in message
    for secret in (SECRET, TOKEN, "hunter2", "abc"):
        assert secret not in message


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(house: Any) -> None:
    house.recipe()
    ended = house.call("run", "recipe.toml", "--set", "trainer.arguments.hub_token=hunter2")
    assert ended.code == RECIPE
    assert "where: --set trainer.arguments.hub_token\n" in ended.err
    assert "hunter2" not in ended.err


def test_tokens_of_text_are_no_secrets(house: Any) -> None:
    house.recipe({"trainer.arguments": {"eos_token": "<|im_end|>"}})
    told = house.refused(RECIPE, "eos_token in [trainer.arguments] has no effect here", before_the_run=True)
    assert "secret" not in told


@pytest.mark.parametrize("debug", [False, True])
def test_a_secret_that_a_plugin_lets_out_is_in_no_file_and_on_no_stream(
    house: Any, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    house.write("telling.py", TELLING)
    house.content["plugins"] = ["telling.py"]
    house.recipe({"adapter": {"use": "telling"}})
    ended = house.call("run", "recipe.toml", *(["--debug"] if debug else []))
    assert ended.code == MISSING, ended.err
    assert "failed with ***" in ended.err
    assert "https://***@host/path" in ended.err
    kept = {path.name: path.read_text() for path in house.runs.rglob("*") if path.is_file()}
    assert "failed with ***" in kept["error.txt"]
    assert "note ***" in kept["events.jsonl"]
    for text in (ended.out, ended.err, *kept.values()):
        assert SECRET not in text
