"""What a model takes besides tokens travels from the row into the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tunesmith import Adapted, Column, RecipeError, Records
from tunesmith_transformers.tokens.batching import ColumnCollator, collate
from tunesmith_transformers.tokens.encoding import contract, encode
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.settings import EvaluationSettings

COLUMNS = {"kinds": Column(read=lambda row: row["kind"], examples=(0, 1))}
RECORDS = Records([{"text": "ab", "kind": 1}, {"text": "cde", "kind": 0}], ["rows:1", "rows:2"])


def test_columns_are_read_from_the_row_and_put_into_the_batch(tiny_handle):
    encoded = encode(RECORDS, "text", tiny_handle.tokenizer, columns=COLUMNS)
    assert [row.columns for row in encoded] == [{"kinds": 1}, {"kinds": 0}]
    batch = collate(encoded, pad_token_id=0)
    assert torch.equal(batch["kinds"], torch.tensor([1, 0]))
    assert batch["input_ids"].shape == (2, 4)


def test_without_columns_nothing_is_added_and_the_digest_tells_them_apart(tiny_handle):
    plain = encode(RECORDS, "text", tiny_handle.tokenizer)
    assert set(collate(plain, pad_token_id=0)) == {"input_ids", "attention_mask", "labels"}
    with_columns = encode(RECORDS, "text", tiny_handle.tokenizer, columns=COLUMNS)
    first, second = (contract(rows, tiny_handle.tokenizer)["digest"] for rows in (plain, with_columns))
    assert first != second


def test_another_collator_never_sees_the_columns():
    def rest(rows):
        return {"seen": [sorted(row) for row in rows]}

    batch = ColumnCollator(rest, ["kinds"])([{"input_ids": [1], "kinds": 3}, {"input_ids": [2], "kinds": 4}])
    assert batch["seen"] == [["input_ids"], ["input_ids"]]
    assert torch.equal(batch["kinds"], torch.tensor([3, 4]))


class WithoutColumns:
    """A trainer whose dataset holds tokens only."""

    def __init__(self):
        from datasets import Dataset

        self.train_dataset = Dataset.from_dict({"input_ids": [[1, 2]]})


def test_a_trainer_that_does_not_carry_them_is_refused(tiny_handle, context):
    class Trainer(Durable, WithoutColumns):
        pass

    with pytest.raises(RecipeError, match="needs kinds in every batch, which this trainer does not provide"):
        Trainer(
            adapted=Adapted(replace(tiny_handle, columns=COLUMNS)), context=context, evaluation=EvaluationSettings()
        )
