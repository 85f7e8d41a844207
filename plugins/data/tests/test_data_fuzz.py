"""Whatever the bytes, a loader ends with a data set that adds up or with an error for the person."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tunesmith import RECORD_COLUMNS, Context, Dataset, TunesmithError
from tunesmith_data import extras, loaders, messages
from tunesmith_data.formats import FORMATS, Unusable, convert
from tunesmith_data.settings import (
    ConllSettings,
    CsvSettings,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
    TextSettings,
)

# a busy machine is no failure
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LOADERS = {
    "jsonl": (loaders.jsonl, JsonlSettings),
    "json": (loaders.json, JsonSettings),
    "csv": (loaders.csv, CsvSettings),
    "parquet": (loaders.parquet, ParquetSettings),
    "text": (loaders.text, TextSettings),
    "conll": (loaders.conll, ConllSettings),
}
FURTHER = ["scores", "answers", "tools", "chat_template_kwargs", "weight"]  # what a canonical row may have beside
NAMES = ["text", "prompt", "completion", "label", "messages", "conversations", "chosen", "rejected", "instruction"]
BESIDE = ["system", "history", "tools", "functions", "chat_template_kwargs", "thinking", "images", "mask"]
INSIDE = ["role", "content", "from", "value", "type", "weight", "loss", "loss_weight", "train", "reasoning_content"]
CALLS = ["tool_calls", "function_call", "function", "name", "arguments", "id", "tool_call_id"]
KEYS = st.sampled_from([*NAMES, "input", "output", *BESIDE, *INSIDE, *CALLS])
ROLES = ["user", "assistant", "human", "gpt", "system", "tool", "observation", "function_call"]
WORDS = st.one_of(st.sampled_from([*ROLES, "text", "thinking", "true", "<image>", '{"name": "f"}', "[]"]), st.text())
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
ROWS = st.dictionaries(KEYS, VALUES, max_size=6)
PIECES = st.sampled_from(
    [b'{"text": "a"}\n', b"text\n", b'"', b",", b"\r", b"\n", b"[", b"]", b"\xff", b"\0", b"PAR1", b"{", b"}", b"a B\n"]
)


CANONICAL = {"role", "content", "reasoning_content", "tool_calls", "name", "tool_call_id", "weight"}


def load(kind: str, content: bytes, **mapped: Any) -> tuple[Dataset, Context] | None:
    factory, kind_of_settings = LOADERS[kind]
    with tempfile.TemporaryDirectory() as folder:
        context = Context(folder=Path(folder))
        (context.folder / "rows").write_bytes(content)
        try:
            return factory(kind_of_settings(path=Path("rows"), validation=0.3, **mapped), context), context  # type: ignore[operator]
        except TunesmithError:
            return None


def assert_adds_up(loaded: tuple[Dataset, Context] | None) -> None:
    if loaded is not None:
        dataset, context = loaded
        names = [*dataset.train.ids, *dataset.validation.ids, *(entry.row for entry in context.ledger.entries)]
        assert len(names) == len(set(names)) == context.ledger.rows_in


@pytest.mark.parametrize("kind", LOADERS)
@CALM
@given(content=st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=12).map(b"".join)))
@example(content=b"\x1f\x8b")
@example(content=b"PAR1PAR1")
@example(content=b"\x1c")
def test_any_bytes(kind: str, content: bytes) -> None:
    assert_adds_up(load(kind, content))


@pytest.mark.parametrize("kind", ["jsonl", "json"])
@CALM
@given(rows=st.lists(ROWS, min_size=1, max_size=6))
def test_any_rows(kind: str, rows: list[dict[str, Any]]) -> None:
    text = "\n".join(map(json.dumps, rows)) if kind == "jsonl" else json.dumps(rows)
    assert_adds_up(load(kind, text.encode()))


@pytest.mark.parametrize("name", FORMATS)
@CALM
@given(row=ROWS)
def test_any_row_of_any_format(name: str, row: dict[str, Any]) -> None:
    try:
        kind, converted = convert(row, name)
    except Unusable as error:
        kind, converted, reason = FORMATS[name].type, {}, error.reason
    else:
        reason = "none"
        assert set(RECORD_COLUMNS[kind]) <= set(converted) <= {*RECORD_COLUMNS[kind], *FURTHER}
    assert kind == FORMATS[name].type
    assert reason.isprintable()
    assert reason


MAPPED = st.fixed_dictionaries(
    {},
    optional={
        "message_keys": st.dictionaries(st.sampled_from(["role", "content", "weight"]), st.sampled_from(["a", "b"])),
        "roles": st.dictionaries(st.sampled_from(["user", "bot"]), st.sampled_from(["assistant", "tool"])),
        "ignore": st.lists(st.sampled_from(["<image>", "images", "content", "weight"]), unique=True).map(tuple),
        "reasoning": st.sampled_from(["keep", "drop"]),
        "greeting": st.sampled_from(["keep", "drop"]),
        "columns": st.dictionaries(
            st.sampled_from(["messages", "history", "tools"]), st.sampled_from(["text", "value"])
        ),
    },
)


@CALM
@given(rows=st.lists(ROWS, min_size=1, max_size=4), mapped=MAPPED)
def test_any_rows_under_any_names(rows: list[dict[str, Any]], mapped: dict[str, Any]) -> None:
    assert_adds_up(load("jsonl", "\n".join(map(json.dumps, rows)).encode(), **mapped))


PIECE = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "a", "{}", "[[]]", "\0", "\ud800"])
)
ANY = st.recursive(
    PIECE, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3))
)


@CALM
@given(
    key=st.sampled_from(sorted({*messages.READ, *messages.REFUSED, *extras.READ, *extras.REFUSED, *extras.WEIGHTS})),
    value=ANY,
    place=st.sampled_from(["row", "user", "assistant", "tool"]),
)
def test_any_value_of_any_key(key: str, value: Any, place: str) -> None:
    turns: dict[str, dict[str, Any]] = {
        "user": {"role": "user", "content": "a"},
        "assistant": {"role": "assistant", "content": "b"},
        "tool": {"role": "tool", "content": "c"},
        "last": {"role": "assistant", "content": "d"},
    }
    row: dict[str, Any] = {"messages": list(turns.values())}
    (row if place == "row" else turns[place])[key] = value
    loaded = load("jsonl", json.dumps(row).encode())
    assert_adds_up(loaded)
    for kept in loaded[0].train.rows if loaded else ():
        for message in kept["messages"]:
            assert message["role"] in ("system", "user", "assistant", "tool")
            assert isinstance(message["content"], str)
            assert set(message) <= CANONICAL
            assert isinstance(message.get("weight", 0.0), float)
            json.dumps(message, allow_nan=False, ensure_ascii=False).encode()
