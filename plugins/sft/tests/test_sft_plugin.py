"""The plugin as a whole, and what it shows of its mask."""

from __future__ import annotations

import tunesmith_sft
from tunesmith import Context, Dataset, ModelHandle, Records
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_sft import SftSettings
from tunesmith_sft.rows import show


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_sft)


def shown(*rows, **settings):
    """What is shown of some rows, and the ledger."""
    context = Context()
    data = Dataset(type="prompt-completion", train=Records(rows, [str(number) for number in range(len(rows))]))
    handle = ModelHandle(model=None, tokenizer=tiny_tokenizer(), source="", digest="")
    return show(data, {"model": handle}, SftSettings(**settings), context), context.ledger


def test_what_is_shown_is_what_is_trained():
    (row,), _ = shown({"prompt": "ab", "completion": "c"})
    assert [(token.text, token.weight) for token in row.tokens] == [("a", 0), ("b", 0), ("c", 1), ("<|im_end|>", 1)]


def test_what_is_shown_is_cut_as_training_does():
    rows, ledger = shown({"prompt": "ab", "completion": "c" * 9}, {"prompt": "a" * 9, "completion": "b"}, max_length=4)
    assert [(row.row, len(row.tokens)) for row in rows] == [("0", 4)]
    assert [(end.row, end.fate, end.tokens) for end in ledger.entries] == [("0", "truncated", 8), ("1", "dropped", 0)]


def test_a_character_of_several_tokens_is_shown_whole():
    (row,), _ = shown({"prompt": "\u4f60", "completion": "\u597d\U0001f642"})
    assert "".join(token.text for token in row.tokens if token.weight) == "\u597d\U0001f642<|im_end|>"
    assert "".join(token.text for token in row.tokens if not token.weight) == "\u4f60"
    assert len(row.tokens) == 3 + 3 + 4 + 1
