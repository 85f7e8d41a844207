"""A conversation with a model: what it refuses, and what is remembered then."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from tunesmith import DataError
from tunesmith.console.talk import Sampling, Talk

STRICT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{{ message['content'] }}{% endfor %}"
)


def talk_of(handle: Any, template: str, system: str | None) -> Talk:
    tokenizer = copy.deepcopy(handle.tokenizer)
    tokenizer.chat_template = template
    return Talk(replace(handle, tokenizer=tokenizer), Sampling(2, 0.0, 1), system)


def test_a_template_without_a_system_role_is_told(tiny_handle: Any) -> None:
    talk = talk_of(tiny_handle, STRICT, "Be brief.")
    with pytest.raises(DataError, match="refuses this conversation: System role not supported") as caught:
        talk.ask("1+1=", lambda piece: None)
    assert caught.value.fix == "Leave out --system."
    assert talk.turns == []
    talk.system = None
    talk.ask("1+1=", lambda piece: None)
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"]


def test_a_template_that_takes_one_turn_is_told(tiny_handle: Any) -> None:
    talk = talk_of(tiny_handle, "{{ messages[0]['content'] + (messages[1:] and 1 or '') }}", None)
    talk.ask("1+1=", lambda piece: None)
    with pytest.raises(DataError, match="refuses this conversation") as caught:
        talk.ask("2+2=", lambda piece: None)
    assert "/reset" in str(caught.value.fix)
    assert len(talk.turns) == 2
    talk.reset()
    talk.ask("2+2=", lambda piece: None)


def test_a_template_that_takes_nothing_is_told(tiny_handle: Any) -> None:
    talk = talk_of(tiny_handle, "{{ raise_exception('never') }}", None)
    with pytest.raises(DataError, match="never") as caught:
        talk.ask("1+1=", lambda piece: None)
    assert "Mend the chat template" in str(caught.value.fix)
