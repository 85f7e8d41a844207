"""More small cases that once were wrong: what rows and recipes of other tools come to, each through the console."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.testing.tiny import tiny_model, tiny_tokenizer

ASKED = {"role": "user", "content": "Which bird?"}
END = "<|im_end|>"
TEMPLATE = (
    "{%- if tools %}{{- 'TOOLS' }}{%- for t in tools %}{{- t | tojson }}{%- endfor %}{{- '\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}"
    "{{- m.content }}{%- for c in (m.tool_calls or []) %}{{- c.function | tojson }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


@pytest.fixture(autouse=True)
def _all_rows_are_trained(house: Any) -> None:
    house.content["data"]["validation"] = 0
    del house.content["evaluate"]


def shown(house: Any, number: int = 1) -> tuple[str, str]:
    """The text of a row as it is trained, and what of it is supervised."""
    ended = house.call("data", "show", house.recipe(), "--mask", "--json", "--row", str(number))
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)
    tokens = row["tokens"]
    return "".join(t["text"] for t in tokens), "".join(t["text"] for t in tokens if t["supervised"])


def checked(house: Any) -> dict[str, Any]:
    ended = house.call("data", "check", house.recipe(), "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def refused(house: Any, command: str, code: int, *said: str) -> None:
    words = ["data", "check"] if command == "check" else [command]
    ended = house.call(*words, house.recipe())
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert "defect" not in ended.err
    for part in said:
        assert part in ended.err


def test_the_end_of_a_turn_is_what_serving_stops_at(house: Any) -> None:
    """a/01: the template ends a turn with another token than the tokenizer's eos; generation_config lists it."""

    def change(folder: Path) -> None:
        tokenizer = tiny_tokenizer()
        tokenizer.add_special_tokens({"eos_token": "<eos>"})
        tokenizer.save_pretrained(folder)
        model = tiny_model()
        model.resize_token_embeddings(len(tokenizer))
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]
        model.save_pretrained(folder)

    house.model(change)
    house.rows([{"messages": [ASKED, {"role": "assistant", "content": f"a jay {n}"}]} for n in range(3)])
    assert shown(house)[1] == f"a jay 0{END}"


def test_reasoning_is_rendered_where_the_template_knows_it(house: Any) -> None:
    """a/03"""
    answer = {"role": "assistant", "content": "a jay", "reasoning_content": "It is blue."}
    house.rows([{"messages": [ASKED, answer]}])
    refused(house, "check", 65, "does not render reasoning_content", 'reasoning = "drop" in [data]')
    house.content["data"]["reasoning"] = "drop"
    assert shown(house)[1] == f"a jay{END}"
    del house.content["data"]["reasoning"]
    house.template(TEMPLATE)
    assert shown(house)[1] == f"<think>It is blue.</think>a jay{END}"


def test_declared_tools_are_rendered_and_calls_supervised(house: Any) -> None:
    """a/04"""
    tool = {"type": "function", "function": {"name": "find_bird", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "find_bird", "arguments": '{"blue": true}'}}
    turns = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "RESULT jay"},
        {"role": "assistant", "content": "a jay"},
    ]
    house.rows([{"tools": [tool], "messages": turns}])
    refused(house, "check", 65, "the chat template does not render")
    house.template(TEMPLATE)
    whole, supervised = shown(house)
    assert "TOOLS" in whole
    assert whole.count("find_bird") == 2
    assert "RESULT jay" in whole
    called = supervised.removesuffix(f"a jay{END}").removesuffix(END)
    assert json.loads(called) == {"name": "find_bird", "arguments": {"blue": True}}


def test_history_and_system_are_in_the_conversation(house: Any) -> None:
    """a/05 and c/03"""
    house.rows(
        [
            {
                "instruction": "And in summer?",
                "input": "",
                "output": f"{n} degrees.",
                "system": "You are a weather desk.",
                "history": [["How cold is it in winter?", "-2 degrees."]],
            }
            for n in range(2)
        ]
    )
    whole, supervised = shown(house)
    places = [
        whole.index(said) for said in ("a weather desk", "How cold", "-2 degrees.", "And in summer?", "0 degrees.")
    ]
    assert places == sorted(places)
    assert supervised == f"0 degrees.{END}"


@pytest.mark.parametrize("conversational", [True, False])
def test_a_tokenizer_that_appends_its_end_ends_a_row_once(house: Any, conversational: bool) -> None:
    """a/07 and b/03"""
    from tokenizers import processors

    def change(folder: Path) -> None:
        tokenizer = tiny_tokenizer()
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, tokenizer.convert_tokens_to_ids(END))]
        )
        tokenizer.save_pretrained(folder)

    house.model(change)
    house.content["data"]["conversational"] = conversational
    house.rows([{"prompt": f"Which {n}? ", "completion": "a jay"} for n in range(2)])
    whole, supervised = shown(house)
    assert supervised == f"a jay{END}"
    assert whole.count(END) == (2 if conversational else 1)
    house.rows([{"text": f"The {n} jay"} for n in range(2)])
    del house.content["data"]["conversational"]
    assert shown(house)[0] == f"The 0 jay{END}"


@pytest.mark.parametrize("trainer", ["sft", "dpo"])
def test_an_answer_of_several_turns_trains_those_of_the_assistant(house: Any, trainer: str) -> None:
    """a/08 and b/06"""
    asked = [ASKED]
    answer = [
        {"role": "assistant", "content": "a jay"},
        {"role": "user", "content": "SECRET"},
        {"role": "assistant", "content": "an owl"},
    ]
    if trainer == "sft":
        house.rows([{"prompt": asked, "completion": answer}])
        wanted = f"a jay{END}an owl{END}"
    else:
        other = [{"role": "assistant", "content": "a bat"}, answer[1], {"role": "assistant", "content": "none"}]
        house.rows([{"chosen": asked + answer, "rejected": asked + other}] * 2)
        house.content["data"]["duplicates"] = "keep"
        house.content["trainer"] = {"use": "dpo", "max_steps": 1}
        wanted = f"a jay{END}an owl{END}a bat{END}none{END}"
    whole, supervised = shown(house)
    assert "SECRET" in whole
    assert supervised == wanted


@pytest.mark.parametrize(
    ("argument", "value", "setting"),
    [
        ("completion_only_loss", False, "supervise"),
        ("eos_token", "<|im_start|>", "chat_template"),
        ("label_smoothing_factor", 0.3, "label_smoothing"),
        ("loss_type", "dft", "loss"),
        ("loss_type", "nonsense", "loss"),
        ("max_length", 8, "max_length"),
        ("packing", True, "packing"),
    ],
)
def test_an_argument_that_would_do_nothing_is_refused_with_our_setting(
    house: Any, argument: str, value: Any, setting: str
) -> None:
    """a/12 and b/10"""
    house.content["trainer"]["arguments"] = {argument: value}
    refused(house, "plan", 78, f"{argument} in [trainer.arguments] has no effect here", f" {setting}", "recipe.toml:")


def test_alpaca_rows_are_turns_where_the_model_has_a_template(house: Any) -> None:
    """c/01"""
    house.rows([{"instruction": "greet me", "input": "", "output": f"Good day {n}."} for n in range(2)])
    found = checked(house)
    assert "as conversations: the model has a chat template" in found["recognised"]
    assert shown(house)[0] == f"<|im_start|>user\ngreet me{END}\n<|im_start|>assistant\nGood day 0.{END}"
    house.content["data"]["conversational"] = False
    assert shown(house)[0] == f"greet meGood day 0.{END}"


def test_an_unwanted_answer_is_not_trained_as_a_wanted_one(house: Any) -> None:
    """c/02"""
    house.rows(
        [
            {"messages": [ASKED, {"role": "assistant", "content": f"a jay {n}"}], "label": label}
            for n in range(2)
            for label in (True, False)
        ]
    )
    refused(house, "check", 65, "unpaired-preference")
    house.content["trainer"] = {"use": "kto", "max_steps": 1}
    house.rows(
        [
            {
                "messages": [{"role": "user", "content": f"Bird {n}?"}, {"role": "assistant", "content": "a jay"}],
                "label": n % 2 == 0,
            }
            for n in range(4)
        ]
    )
    assert checked(house)["type"] == "unpaired-preference"


def test_a_greeting_keeps_its_conversation(house: Any) -> None:
    """c/07"""
    turns = [
        {"role": "system", "content": "Shop"},
        {"role": "assistant", "content": "Welcome!"},
        {"role": "user", "content": "A refund."},
    ]
    house.rows([{"messages": [*turns, {"role": "assistant", "content": f"At once {n}."}]} for n in range(2)])
    whole, supervised = shown(house)
    assert whole.startswith(f"<|im_start|>system\nShop{END}")
    assert supervised == f"Welcome!{END}At once 0.{END}", "behind a system prompt serving can ask for a greeting"
    house.content["data"]["greeting"] = "drop"
    refused(house, "check", 65, "none of the 2 rows can be used")


def test_duplicates_are_told_and_are_no_loss(house: Any) -> None:
    """c/08"""
    house.rows([{"prompt": f"Q{n}", "completion": f"A{n}"} for n in range(5) for _ in range(2)])
    found = checked(house)
    assert found["ledger"]["trained"] == 5
    assert found["ledger"]["dropped_reasons"] == {"duplicate": 5}
    assert 'duplicates = "keep"' in house.call("data", "check", house.recipe()).out


def test_images_are_refused_and_named(house: Any) -> None:
    """c/09"""
    turns = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}]
    house.write("rows.json", json.dumps([{"messages": turns, "images": ["cats/0.jpg"]}]))
    house.content["data"] = {"use": "json", "path": "rows.json"}
    refused(house, "check", 65, "image")
    del turns[0]["content"]
    turns[0]["content"] = "What is <image> here?"
    house.write("rows.json", json.dumps([{"messages": turns}]))
    refused(house, "check", 65, "<image>")


def test_plan_refuses_what_a_run_would(house: Any) -> None:
    """c/10"""
    house.content["trainer"]["max_length"] = 2048
    refused(house, "plan", 78, "max_length = 2048, but the model takes 1024")
    house.content["trainer"] |= {"max_length": 512, "optim": "galore_adamw"}
    refused(house, "plan", 69, "galore")
    house.content["trainer"] |= {"optim": "adamw_torch", "lr_scheduler_type": "cosinus"}
    refused(house, "plan", 78, "Did you mean 'cosine'?")


def test_one_message_an_answer_makes_pairs(house: Any) -> None:
    """c/11"""
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Say {n}"}],
            "chosen": {"from": "gpt", "value": f"Gladly: {n}"},
            "rejected": {"from": "gpt", "value": "No."},
        }
        for n in range(2)
    ]
    house.write("rows.json", json.dumps(rows))
    house.content["data"] = {"use": "json", "path": "rows.json"}
    house.content["trainer"] = {"use": "dpo", "max_steps": 1}
    whole, supervised = shown(house)
    assert supervised == f"Gladly: 0{END}No.{END}"
    assert whole.count("Say 0") == 2


def test_plain_text_named_as_csv_is_refused_with_advice_that_works(house: Any) -> None:
    """c/12"""
    house.write("rows.txt", "First, a line.\nSecond, another line, with commas.\n")
    house.content["data"] = {"use": "csv", "path": "rows.txt"}
    refused(house, "check", 65, 'use = "text"')
    house.content["data"] = {"use": "text", "path": "rows.txt"}
    assert checked(house)["ledger"]["trained"] == 2
    assert shown(house, 2)[0] == f"Second, another line, with commas.{END}"
