"""Tokens that are kept by their content: pairs come back as they were, and so does the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith import Context, Ledger, Records
from tunesmith.context import SilentReporter
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens import pairs

ROWS = [
    {"prompt": f"question {n}", "chosen": f"a good answer to {n}" + " and more" * (n % 3), "rejected": f"no {n}"}
    for n in range(8)
]
ROWS[2]["rejected"] = ROWS[2]["chosen"]  # dropped: both are the same
ROWS[4] = {**ROWS[4], "margin": 0.5}
ROWS[5] = {**ROWS[5], "margin": "much"}  # dropped: no number


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def encoded(context: Context, rows: list[dict[str, Any]], **options: Any) -> tuple[list[pairs.Pair], Ledger, list[str]]:
    heard, ledger = Heard(), Ledger()
    own = context.with_(reporter=heard, ledger=ledger)
    records = Records(rows, [f"row-{n}" for n in range(len(rows))])
    found = token_cache.encode_pairs(records, tiny_tokenizer(), own, keep="always", **options)
    return found, ledger, heard.said


@pytest.mark.parametrize("options", [{}, {"max_length": 24}, {"max_length": 24, "overlong": "drop"}])
def test_pairs_come_back_as_they_were(context: Context, options: dict[str, Any]) -> None:
    ledger = Ledger()
    records = Records(ROWS, [f"row-{n}" for n in range(len(ROWS))])
    wanted = pairs.encode_pairs(records, tiny_tokenizer(), ledger=ledger, **options)
    for said in ([], ["tokens: those of 8 rows are in the cache, unchanged"]):
        found, own, heard = encoded(context, ROWS, **options)
        assert found == wanted
        assert own.entries == ledger.entries
        assert heard == said
    assert ledger.dropped >= 2


def test_whatever_decides_the_tokens_makes_another_entry(context: Context) -> None:
    encoded(context, ROWS)
    for rows, options in (
        (ROWS[:-1], {}),
        ([*ROWS[:-1], {**ROWS[-1], "chosen": "another"}], {}),
        ([*ROWS[:-1], {**ROWS[-1], "margin": 1.0}], {}),
        (ROWS, {"max_length": 30}),
    ):
        assert encoded(context, rows, **options)[2] == []
    assert encoded(context, ROWS)[2] != []
