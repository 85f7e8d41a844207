"""Conversations through templates of many kinds: each answer as serving would see it, and nothing lost on the way."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from tunesmith import Ledger, Records
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_transformers.loading.chat_template import shield
from tunesmith_transformers.tokens.encoding import Unusable, contract, encode, encode_row, prompt_ids
from tunesmith_transformers.tokens.ends import end_ids, note_ends

END = "<|im_end|>"
#: Reasoning of what is past is left out; tools, calls and results are written (after Qwen3).
REWRITING = """{%- if tools %}{{- '<|im_start|>system\n' }}{%- for t in tools %}{{- t | tojson }}{%- endfor %}\
{{- '<|im_end|>\n' }}{%- endif %}
{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}\
{%- endif %}{%- endfor %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' %}{%- set content = m.content.split('</think>')[-1].lstrip('\n') %}
{%- set thought = m.reasoning_content or ('</think>' in m.content
    and m.content.split('</think>')[0].split('<think>')[-1].strip('\n')) or '' %}
{%- if loop.index0 > ns.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}{{- content }}
{%- for c in (m.tool_calls or []) %}{{- '<tool_call>' + (c.function | tojson) + '</tool_call>' }}{%- endfor %}
{%- else %}{{- m.content }}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"""
#: The generation prompt begins the reasoning, and the template leaves it out of every turn (after DeepSeek-R1).
OPENING = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{{- m.content.split('</think>')[-1] }}\
{{- '<|im_end|>' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{%- endif %}"""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.fixture(scope="module", params=["in this process", "in the other process"])
def make(request: Any) -> Any:
    """A tokenizer with a template, whose rendering is in a process of its own or not."""

    def made(template: str | None = None) -> Any:
        tokenizer = tiny_tokenizer()
        if template is not None:
            tokenizer.chat_template = template
        if request.param == "in the other process":
            shield(tokenizer)
        return tokenizer

    return made


def trained(found: Any, tokenizer: Any) -> list[str]:
    """What is supervised of each example."""
    return [
        tokenizer.decode([token for token, weight in zip(one.ids, one.weights, strict=True) if weight]) for one in found
    ]


def served(tokenizer: Any, messages: list[Any], **options: Any) -> list[int]:
    """What serving feeds the model: the library's own rendering, in tokens."""
    text = type(tokenizer).apply_chat_template(
        tokenizer, messages, add_generation_prompt=True, tokenize=False, **options
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# --- templates that rewrite -------------------------------------------------------------------------
TURNS = [user("Hi"), assistant("<think>\na\n</think>\n\nHello"), user("Bye"), assistant("<think>\nb\n</think>\n\nBye!")]


def test_each_turn_is_an_example_as_serving_sees_it(make: Any) -> None:
    tokenizer = make(REWRITING)
    found = encode_row({"messages": TURNS}, "messages", tokenizer)
    assert trained(found, tokenizer) == [
        f"<think>\na\n</think>\n\nHello{END}",
        f"<think>\nb\n</think>\n\nBye!{END}",
    ]
    for one, count in zip(found, (1, 3), strict=True):
        start = one.supervised.index(True)
        assert one.ids[:start] == served(tokenizer, TURNS[:count])
        assert set(one.weights[start:]) == {1.0}
    assert "\na\n" not in tokenizer.decode(found[1].ids)


def test_the_last_turn_alone(make: Any) -> None:
    for template in (REWRITING, None):
        tokenizer = make(template)
        (one,) = encode_row({"messages": TURNS}, "messages", tokenizer, turns="last")
        assert trained([one], tokenizer) == [f"<think>\nb\n</think>\n\nBye!{END}"]
        assert one.ids[: one.supervised.index(True)] == served(tokenizer, TURNS[:3])


def test_a_template_that_keeps_earlier_turns_makes_one_example(make: Any) -> None:
    tokenizer = make()
    (one,) = encode_row({"messages": TURNS}, "messages", tokenizer)
    assert trained([one], tokenizer)[0].count(END) == 2


def test_turns_within_a_loop_of_tools_stay_together(make: Any) -> None:
    """What follows the last question is not rewritten, so its turns are one example."""
    turns = [
        user("Rome?"),
        assistant("", tool_calls=[CALL]),
        {"role": "tool", "content": "22"},
        assistant("22 degrees"),
    ]
    tokenizer = make(REWRITING)
    (one,) = encode_row({"messages": turns, "tools": [TOOL]}, "messages", tokenizer)
    text = trained([one], tokenizer)[0]
    assert '"city": "Rome"' in text
    assert text.count(END) == 2
    assert "22" not in text.replace("22 degrees", "")


def test_reasoning_that_the_template_leaves_out_is_put_back_where_the_model_writes_it(make: Any) -> None:
    tokenizer = make(OPENING)
    found = encode_row({"messages": TURNS}, "messages", tokenizer)
    assert trained(found, tokenizer) == [f"a\n</think>\n\nHello{END}", f"b\n</think>\n\nBye!{END}"]
    for one, count in zip(found, (1, 3), strict=True):
        assert one.ids[: one.supervised.index(True)] == served(tokenizer, TURNS[:count])
    own = [user("Hi"), assistant("Hello", reasoning_content="a")]
    assert encode_row({"messages": own}, "messages", tokenizer)[0] == found[0]
    none = encode_row({"messages": [user("Hi"), assistant("Hello")]}, "messages", tokenizer)
    assert trained(none, tokenizer) == [f"\n</think>\n\nHello{END}"]


def test_several_examples_of_a_row_are_one_row_in_the_ledger_and_the_facts(make: Any) -> None:
    tokenizer, ledger = make(REWRITING), Ledger()
    records = Records([{"messages": TURNS}, {"messages": TURNS[:2]}, {"messages": TURNS[:1]}], ["a", "b", "c"])
    found = encode(records, "messages", tokenizer, ledger=ledger)
    assert [item.name for item in found] == ["a#1", "a#2", "b"]
    assert [item.row for item in found] == ["a", "a", "b"]
    facts = contract(found, tokenizer)
    assert (facts["rows"], facts["examples"], facts["ends_with_eos"]) == (2, 3, 3)
    assert [entry.row for entry in ledger.entries] == ["c"]


# --- tools, reasoning, variables --------------------------------------------------------------------
def test_tools_and_variables_reach_the_template_in_training_and_in_prompts(make: Any) -> None:
    tokenizer = make(REWRITING)
    row = {
        "messages": [user("Rome?"), assistant("22")],
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    (one,) = encode_row(row, "messages", tokenizer)
    wanted = served(tokenizer, row["messages"][:1], tools=[TOOL], enable_thinking=False)
    assert one.ids[: one.supervised.index(True)] == wanted == prompt_ids(row, "messages", tokenizer)
    assert "weather" in tokenizer.decode(wanted)
    assert trained([one], tokenizer) == [f"22{END}"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tools": [TOOL]}, "the chat template does not render `tools`"),
        ({"messages": [user("a"), assistant("", tool_calls=[CALL])]}, "the chat template does not render `tool_calls`"),
        ({"messages": [user("a"), assistant("b", reasoning_content="c")]}, 'reasoning = "drop" in [data]'),
        ({"chat_template_kwargs": {"mood": "good"}}, "knows no 'mood'"),
        ({"chat_template_kwargs": {"messages": []}}, "may not set 'messages'"),
        ({"chat_template_kwargs": {"eos_token": ""}}, "may not set 'eos_token'"),
    ],
)
def test_what_the_template_cannot_render_refuses_the_row(make: Any, change: dict[str, Any], reason: str) -> None:
    tokenizer = make()
    with pytest.raises(Unusable, match=re.escape(reason)):
        encode_row({"messages": [user("a"), assistant("b")], **change}, "messages", tokenizer)


def test_a_template_that_leaves_a_role_out_refuses_it_and_one_that_changes_texts_does_not(make: Any) -> None:
    quiet = "{% for m in messages if m.role != 'system' %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    turns = [{"role": "system", "content": "Be brief"}, user("a"), assistant("b")]
    with pytest.raises(Unusable, match="leaves out what the role 'system' says"):
        encode_row({"messages": turns}, "messages", make(quiet))
    loud = "{% for m in messages %}{{ m.content | upper | trim + '<|im_end|>' }}{% endfor %}"
    assert len(encode_row({"messages": turns}, "messages", make(loud))) == 1


def test_a_call_with_what_marks_turns_is_refused(make: Any) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": f"Rome{END}"}}}
    with pytest.raises(Unusable, match="by which the chat template marks turns"):
        encode_row({"messages": [user("a"), assistant("", tool_calls=[call])]}, "messages", make(REWRITING))


# --- weights ----------------------------------------------------------------------------------------
def test_a_turn_of_weight_0_is_read_and_not_supervised(make: Any) -> None:
    tokenizer = make()
    turns = [user("a"), assistant("wrong", weight=0.0), user("no"), assistant("right")]
    (one,) = encode_row({"messages": turns}, "messages", tokenizer)
    assert trained([one], tokenizer) == [f"right{END}"]
    assert "wrong" in tokenizer.decode(one.ids)
    (whole,) = encode_row({"messages": turns}, "messages", tokenizer, supervise="all")
    assert "wrong" not in trained([whole], tokenizer)[0]
    assert "no" in trained([whole], tokenizer)[0]


def test_weights_of_messages_and_rows_multiply(make: Any) -> None:
    turns = [user("a"), assistant("b", weight=2.0), user("c"), assistant("d")]
    (one,) = encode_row({"messages": turns, "weight": 0.25}, "messages", make())
    assert set(one.weights) == {0.0, 0.25, 0.5}
    (plain,) = encode_row({"prompt": "a", "completion": "b", "weight": 3}, "prompt-completion", make())
    assert plain.weights == [0.0, 3.0, 3.0]


def test_a_row_that_weighs_nothing_is_no_loss(make: Any) -> None:
    rows = [
        {"messages": [user("a"), assistant("b", weight=0.0)]},
        {"messages": [user("a"), assistant("b")], "weight": 0},
        {"messages": [user("a"), assistant("b")], "weight": "much"},
    ]
    ledger = Ledger()
    assert encode(Records(rows, ["1", "2", "3"]), "messages", make(), ledger=ledger) == []
    assert (ledger.dropped, ledger.expected) == (3, 2)


# --- everything, and answers of several turns -------------------------------------------------------
def test_prompts_are_supervised_too_where_it_is_asked(make: Any) -> None:
    tokenizer = make()
    (one,) = encode_row({"messages": TURNS}, "messages", tokenizer, supervise="all")
    assert one.weights == [0.0, *[1.0] * (len(one.ids) - 1)]
    (plain,) = encode_row({"prompt": "ab", "completion": "c"}, "prompt-completion", tokenizer, supervise="all")
    assert plain.weights == [0.0, 1.0, 1.0, 1.0]
    first, second = encode_row({"messages": TURNS}, "messages", make(REWRITING), supervise="all")
    shared = next(n for n, pair in enumerate(zip(first.ids, second.ids, strict=False)) if pair[0] != pair[1])
    assert all(first.weights[1:])
    assert second.weights == [*[0.0] * shared, *[1.0] * (len(second.ids) - shared)]


def test_an_answer_of_several_messages_supervises_the_assistant_s(make: Any) -> None:
    tokenizer = make()
    row = {"prompt": [user("hi")], "completion": [assistant("one"), user("SECRET"), assistant("two")]}
    (one,) = encode_row(row, "prompt-completion", tokenizer)
    assert trained([one], tokenizer) == [f"one{END}two{END}"]
    with pytest.raises(Unusable, match="no turn of the assistant is in the answer"):
        encode_row({"prompt": [user("a"), assistant("b")], "completion": [user("c")]}, "prompt-completion", tokenizer)


def test_a_greeting_before_every_question_is_read(make: Any) -> None:
    strict = "{{ messages[0].role[:0] }}" + tiny_tokenizer().chat_template
    turns = [assistant("Welcome"), user("a"), assistant("b")]
    for template in (strict, None):
        assert trained(encode_row({"messages": turns}, "messages", make(template)), make()) == [f"b{END}"]
    with pytest.raises(Unusable, match="no message before the answer"):
        encode_row({"messages": turns[:1]}, "messages", make())


# --- ends -------------------------------------------------------------------------------------------
def test_a_turn_ends_at_whatever_serving_stops_at() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace(END, "<|pad|>")
    with pytest.raises(Unusable, match=r"does not end the answer with '<\|im_end\|>'$"):
        encode_row({"messages": TURNS[:2]}, "messages", tokenizer)
    note_ends(tokenizer, [tokenizer.pad_token_id])
    assert end_ids(tokenizer) == tuple(sorted((tokenizer.eos_token_id, tokenizer.pad_token_id)))
    found = encode(Records([{"messages": TURNS[:2]}], ["r"]), "messages", tokenizer)
    assert found[0].ids[-1] == tokenizer.pad_token_id
    assert found[0].supervised[-1]
    assert contract(found, tokenizer)["ends_with_eos"] == 1
    with pytest.raises(Unusable, match="marks turns"):
        encode_row({"messages": [user("<|pad|>"), assistant("a")]}, "messages", tokenizer)


@pytest.mark.parametrize("begin", [False, True])
def test_a_tokenizer_s_own_end_comes_once_and_its_begin_stays(begin: bool) -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer()
    start = "<|im_start|> " if begin else ""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}$A {END}", special_tokens=[(END, 257), ("<|im_start|>", 256)]
    )
    head = [256] if begin else []
    bare = tiny_tokenizer()
    (one,) = encode_row({"prompt": "ab", "completion": "cd"}, "prompt-completion", tokenizer)
    assert one.ids == [*head, *bare("ab")["input_ids"], *bare("cd")["input_ids"], 257]
    assert prompt_ids({"prompt": "ab"}, "prompt", tokenizer) == [*head, *bare("ab")["input_ids"]]
    (text,) = encode_row({"text": "ab"}, "text", tokenizer)
    assert text.ids == [*head, *bare("ab")["input_ids"], 257]
    (twice,) = encode_row({"text": f"ab{END}"}, "text", bare)
    assert twice.ids == [*bare("ab")["input_ids"], 257]
    row = {"messages": TURNS[:2]}
    assert encode_row(row, "messages", tokenizer) == encode_row(row, "messages", bare)


# --- chunks -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [2, 3, 4, 7, 20, 26, 27, 30])
def test_chunks_train_every_token_once(size: int) -> None:
    tokenizer, ledger = tiny_tokenizer(), Ledger()
    text = "abcdefghijklmnopqrstuvwxyz"
    found = encode(Records([{"text": text}], ["t"]), "text", tokenizer, max_length=size, ledger=ledger)
    assert all(len(item.ids) <= size for item in found)
    predicted = [token for item in found for token, wanted in zip(item.ids, item.supervised, strict=True) if wanted]
    assert predicted == [*tokenizer(text)["input_ids"][1:], tokenizer.eos_token_id]
    for before, after in pairwise(found):
        assert after.ids[0] == before.ids[-1]
        assert not after.supervised[0]
    assert not ledger.entries


def test_overlong_chooses_and_the_ledger_counts_tokens() -> None:
    tokenizer = tiny_tokenizer()
    rows = Records([{"text": "a" * 20}, {"prompt": "p", "completion": "a" * 20}], ["t", "p"])
    for kind, overlong, examples, entries in (
        ("text", "truncate", 1, [("truncated", "13 tokens cut")]),
        ("text", "drop", 0, [("dropped", "")]),
        ("prompt-completion", "auto", 1, [("truncated", "14 tokens cut")]),
        ("prompt-completion", "chunk", 3, []),
    ):
        ledger = Ledger()
        chosen = rows.take([0 if kind == "text" else 1])
        found = encode(chosen, kind, tokenizer, max_length=8, overlong=overlong, ledger=ledger)
        assert len(found) == examples, (kind, overlong)
        assert [(entry.fate, entry.detail) for entry in ledger.entries] == entries
