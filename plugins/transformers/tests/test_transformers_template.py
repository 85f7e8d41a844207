"""Chat templates render in a process of their own to the same text as in this one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tunesmith.testing.tiny import CHAT_TEMPLATE, tiny_tokenizer
from tunesmith_transformers.loading.chat_template import RENDERER, Refused, shield

TURNS = [
    {"role": "system", "content": "Be brief.", "name": None},
    {"role": "user", "content": "Grüße \U0001f600 \ud800 {{ 7 * 7 }}"},
    {"role": "assistant", "content": "So\nbe it."},
]
TEMPLATES = [
    CHAT_TEMPLATE,
    "{{ eos_token }}{{ messages | tojson }}{{ bos_token is defined }}{{ tools is none }}",
    "{%- for m in messages -%}\n  {{ m.content | trim | upper }}{% break %}\n{%- endfor %}",
    "{{ namespace(a=1).a }}{{ dict(b=2).b }}{{ messages[0].name is defined }}",
]


@pytest.fixture
def tokenizer() -> Any:
    made = tiny_tokenizer()
    shield(made)
    return made


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("generation", [False, True])
def test_the_text_is_that_of_the_library(tokenizer: Any, template: str, generation: bool) -> None:
    tokenizer.chat_template = template
    options = {"add_generation_prompt": generation, "tokenize": False}
    assert tokenizer.apply_chat_template(TURNS, **options) == type(tokenizer).apply_chat_template(
        tokenizer, TURNS, **options
    )


def test_the_tokens_are_those_of_the_library(tokenizer: Any) -> None:
    turns = TURNS[2:]
    options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    ours, theirs = (
        tokenizer.apply_chat_template(turns, **options),
        tiny_tokenizer().apply_chat_template(turns, **options),
    )
    assert ours["input_ids"].equal(theirs["input_ids"])


def test_what_a_template_refuses_is_said(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(Refused, match="no system"):
        tokenizer.apply_chat_template(TURNS, tokenize=False)


def test_the_process_knows_no_secrets_and_comes_back_after_it_was_ended(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_something_secret")
    RENDERER.stop()
    tokenizer.apply_chat_template(TURNS, tokenize=False)
    process = RENDERER._process
    assert process is not None
    if os.path.exists("/proc"):
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            assert b"HF_TOKEN" not in file.read()
    process.kill()
    process.wait()
    assert tokenizer.apply_chat_template(TURNS, tokenize=False)
