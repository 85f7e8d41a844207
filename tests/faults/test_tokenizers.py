"""Tokenizers that do not fit: what can be mended is mended and said, and the rest is refused before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R12")]

TURNS = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "yes"}]
CHAT = [{"messages": [{"role": "system", "content": f"{number}"}, *TURNS]} for number in range(16)]
PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def edited(**keys: Any) -> Callable[[Path], None]:
    """Set keys of tokenizer_config.json; None removes one."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        content = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_tags(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(PLAIN)


def with_more_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    first = content["added_tokens"][0]
    content["added_tokens"] += [{**first, "id": 259 + number, "content": f"<more {number}>"} for number in range(2)]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("rows", amount(["plain", "conversations"], ["conversations"]))
@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("no pad token", edited(pad_token=None), "no pad token: padding with '<|im_end|>'"),
        ("pad token equal to the end token", edited(pad_token="<|im_end|>"), ""),
        ("a template without generation tags", without_tags, ""),
    ],
)
def test_what_is_mended(
    house: Any, fault: Recorder, rows: str, what: str, change: Callable[[Path], None], said: str
) -> None:
    if rows == "conversations":
        house.rows(CHAT)
    house.recipe()
    plain = json.loads(house.call("run", "recipe.toml", "--json").out)["stages"]["main"]
    house.model(change)
    house.recipe()
    with fault("R12", what).trial(rows):
        ended = house.call("run", "recipe.toml", "--json")
        assert ended.code == 0, ended.err
        assert said in ended.err
        found = json.loads(ended.out)["stages"]["main"]
        tokens = found["facts"]["tokens"]
        assert tokens["ends_with_eos"] == tokens["rows"]
        assert tokens == plain["facts"]["tokens"]
        assert found["training"]["metrics"] == plain["training"]["metrics"]


@pytest.mark.parametrize(
    ("what", "change", "said"),
    [
        ("no template", without_template, ("no chat template", "chat_template = FILE")),
        ("no end token", edited(eos_token=None), ("has no end token",)),
        (
            "a vocabulary larger than the embedding",
            with_more_tokens,
            ("knows 261 tokens", "embeds only 259", "the tokenizer that belongs to the model"),
        ),
    ],
)
def test_what_is_refused(
    house: Any, fault: Recorder, what: str, change: Callable[[Path], None], said: tuple[str, ...]
) -> None:
    house.rows(CHAT)
    house.model(change)
    house.recipe()
    with fault("R12", what).trial(what):
        house.refused(65, *said)
