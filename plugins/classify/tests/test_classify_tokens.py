"""Labelled rows as tokens, kept by their content."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith import Context, Ledger, Records
from tunesmith.context import SilentReporter
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_classify.encode import encode, encode_kept
from tunesmith_classify.settings import ClassifySettings

INDEX = {"card": 0, "cash": 1, "loan": 2}
ROWS: dict[str, list[dict[str, Any]]] = {
    "text-label": [
        {"text": "my card is lost and I want a new one", "label": "card", "weight": 2.0},
        {"text": "cash", "label": "cash", "weight": 0.5},
        {"text": "a label that the model lacks", "label": "other", "weight": 1.0},
        {"text": "no weight", "label": "loan", "weight": -1.0},
    ],
    "text-labels": [{"text": "both of them", "labels": ["card", "loan"]}, {"text": "neither", "labels": []}],
    "tokens-tags": [{"tokens": ["a", "new", "card"], "tags": ["cash", "cash", "card"]}],
}


def records(kind: str) -> Records:
    return Records(ROWS[kind], [f"row-{n}" for n in range(len(ROWS[kind]))])


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def kept(context: Context, kind: str, settings: ClassifySettings, index: dict[str, int]) -> tuple[Any, Ledger, bool]:
    heard, ledger = Heard(), Ledger()
    own = context.with_(reporter=heard, ledger=ledger)
    handle: Any = SimpleNamespace(tokenizer=tiny_tokenizer(), columns={})
    found = encode_kept(records(kind), kind, handle, index, settings, 12, own)
    return found, ledger, any("in the cache" in line for line in heard.said)


@pytest.mark.parametrize(("kind", "weight"), [*((kind, None) for kind in ROWS), ("text-label", "weight")])
def test_rows_come_back_as_they_were(context: Context, kind: str, weight: str | None) -> None:
    settings = ClassifySettings(token_cache="always", sample_weight=weight)
    ledger = Ledger()
    wanted = encode(records(kind), kind, tiny_tokenizer(), INDEX, max_length=12, ledger=ledger, weight=weight)
    assert wanted
    for again in (False, True):
        found, own, out_of_cache = kept(context, kind, settings, INDEX)
        assert found == wanted
        assert own.entries == ledger.entries
        assert out_of_cache is again


def test_other_labels_make_another_entry(context: Context) -> None:
    settings = ClassifySettings(token_cache="always")
    first, _, _ = kept(context, "text-label", settings, INDEX)
    turned, _, out_of_cache = kept(context, "text-label", settings, {"loan": 0, "cash": 1, "card": 2})
    assert not out_of_cache
    # rows weigh by their own `weight` where no column is named; -1 is none
    assert [(item.target, item.count) for item in first] == [((0,), 2.0), ((1,), 0.5)]
    assert [(item.target, item.count) for item in turned] == [((2,), 2.0), ((1,), 0.5)]
