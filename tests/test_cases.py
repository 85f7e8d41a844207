"""What the rows say is what is shown and trained: small cases that once were wrong, each through the console."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.testing.tiny import tiny_tokenizer

ASKED = {"role": "user", "content": "Which bird?"}
#: As the models do that strip the reasoning of earlier turns.
REWRITING = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' and loop.last %}{{- '<think></think>' }}{%- endif %}"
    "{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


@pytest.fixture(autouse=True)
def _all_rows_are_trained(house: Any) -> None:
    house.content["data"]["validation"] = 0
    del house.content["evaluate"]


def shown(house: Any, *words: str) -> list[dict[str, Any]]:
    """The rows of `data show --mask --json`."""
    ended = house.call("data", "show", house.recipe(), "--mask", "--json", *words)
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def trained(row: dict[str, Any]) -> str:
    return "".join(token["text"] for token in row["tokens"] if token["supervised"])


def checked(house: Any) -> dict[str, Any]:
    ended = house.call("data", "check", house.recipe(), "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_the_mask_of_a_row_is_its_own_where_another_is_lost(house: Any) -> None:
    """a/15: a row that tokenization loses shifted those behind it."""
    answers = ["a wren", "an owl <|im_end|>", "a jay", "a tit"]
    house.rows([{"messages": [ASKED, {"role": "assistant", "content": answer}]} for answer in answers])
    house.content["run"]["max_lost_rows"] = 0.5
    first, lost, third = shown(house)
    assert (trained(first), trained(third)) == ("a wren<|im_end|>", "a jay<|im_end|>")
    assert lost["tokens"] == []
    assert "<|im_end|>" in lost["fate"][0]
    (named,) = shown(house, "--row", "rows.jsonl:3")
    (counted,) = shown(house, "--row", "3")
    assert named["tokens"] == counted["tokens"] == third["tokens"]
    assert checked(house)["ledger"]["dropped"] == 1


def test_rows_are_shown_where_too_many_are_lost(house: Any) -> None:
    house.rows([{"prompt": "Which bird?", "completion": ""}] * 9 + [{"prompt": "Which bird?", "completion": "a jay"}])
    assert house.call("data", "check", house.recipe()).code == 65
    ended = house.call("data", "show", house.recipe())
    assert ended.code == 0, ended.err
    assert "a jay" in ended.out
    assert "lost " in ended.out
    ended = house.call("data", "show", house.recipe(), "--row", "rows.jsonl:2")
    assert ended.code == 0, ended.err
    assert "not used" in ended.out


def test_characters_of_several_tokens_are_printed_whole(house: Any) -> None:
    """c/06: Chinese and emoji came out as replacement characters."""
    answer = "\u6625\u7720\u4e0d\u89c9\u6653 \U0001f426\U0001f468\u200d\U0001f469\u200d\U0001f467"
    house.rows([{"messages": [ASKED, {"role": "assistant", "content": answer}]}] * 2)
    assert trained(shown(house, "--row", "1")[0]) == f"{answer}<|im_end|>"
    ended = house.call("data", "show", house.recipe(), "--mask", "--row", "1")
    assert f"\u27e6{answer}<|im_end|>\u27e7" in ended.out
    assert "\ufffd" not in ended.out


def test_a_turn_without_loss_is_read_only(house: Any) -> None:
    """a/02"""
    turns = [ASKED, {"role": "assistant", "content": "a bat", "loss": False}, {"role": "user", "content": "No."}]
    house.rows([{"messages": [*turns, {"role": "assistant", "content": f"a jay {n}"}]} for n in range(2)])
    assert [trained(row) for row in shown(house)] == ["a jay 0<|im_end|>", "a jay 1<|im_end|>"]


def test_a_weight_is_shown_with_its_turn(house: Any) -> None:
    turns = [ASKED, {"role": "assistant", "content": "a jay", "weight": 0.5}]
    house.rows([{"messages": turns}] * 2)
    assert {token["weight"] for token in shown(house, "--row", "1")[0]["tokens"] if token["supervised"]} == {0.5}
    assert "\u27e7x0.5" in house.call("data", "show", house.recipe(), "--mask", "--row", "1").out


def test_a_template_that_rewrites_earlier_turns_gives_an_example_a_turn(house: Any) -> None:
    """a/06"""
    house.template(REWRITING)
    turns = [ASKED, {"role": "assistant", "content": "a jay"}, ASKED, {"role": "assistant", "content": "an owl"}]
    house.rows([{"messages": turns}])
    (row,) = shown(house, "--row", "1")
    assert {token["sequence"] for token in row["tokens"]} == {"example 1", "example 2"}
    assert trained(row) == "<think></think>a jay<|im_end|><think></think>an owl<|im_end|>"
    found = checked(house)
    assert (found["ledger"]["trained"], found["ledger"]["dropped"]) == (1, 0)
    assert found["train"]["tokens"]["shortest"] + found["train"]["tokens"]["longest"] == len(row["tokens"])


def test_pairs_show_both_answers_and_their_losses(house: Any) -> None:
    """a/16: `data check` passed pairs that a run lost to its `max_length`."""
    house.rows(
        [{"prompt": "Which bird?", "chosen": f"a jay {n}", "rejected": f"an owl {n}"} for n in range(3)]
        + [{"prompt": "Which bird? " * 9, "chosen": "a jay", "rejected": "an owl"}]
    )
    house.content["run"]["max_lost_rows"] = 0.5
    house.content["trainer"] = {"use": "dpo", "max_steps": 1, "max_length": 80}
    found = checked(house)
    assert found["ledger"]["dropped_reasons"] == {"the prompt alone fills max_length = 80": 1}
    assert found["ledger"]["trained"] == 3
    (row,) = shown(house, "--row", "1")
    sides = {token["sequence"] for token in row["tokens"]}
    assert sides == {"chosen", "rejected"}
    assert trained(row) == "a jay 0<|im_end|>an owl 0<|im_end|>"
    house.content["run"]["max_lost_rows"] = 0.1
    refused = house.call("data", "check", house.recipe())
    assert refused.code == 65
    assert "1 of 4 rows (25.0%) would be lost" in refused.err


def test_text_is_trained_whole_in_chunks(house: Any) -> None:
    """a/11"""
    house.rows([{"text": "the wren is small " * 12 + str(n)} for n in range(3)])
    house.content["trainer"]["max_length"] = 64
    found = checked(house)
    assert (found["ledger"]["trained"], found["ledger"]["truncated"]) == (3, 0)
    assert found["train"]["tokens"]["longest"] == 64
    (row,) = shown(house, "--row", "1")
    assert trained(row) == ("the wren is small " * 12 + "0")[1:] + "<|im_end|>"


def test_truncated_counts_tokens(house: Any) -> None:
    answers = [*("a jay " * 20 + str(n) for n in range(3)), "an owl"]
    house.rows([{"messages": [ASKED, {"role": "assistant", "content": answer}]} for answer in answers])
    house.content["trainer"]["max_length"] = 100
    ledger = checked(house)["ledger"]
    assert ledger["truncated"] == 3
    text = f"<|im_start|>user\nWhich bird?<|im_end|>\n<|im_start|>assistant\n{'a jay ' * 20}0<|im_end|>"
    whole = len(tiny_tokenizer()(text)["input_ids"])
    assert ledger["truncated_tokens"] == 3 * (whole - 100)
