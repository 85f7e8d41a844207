"""The plugin as a whole, and what it shows of its mask."""

from __future__ import annotations

import tunesmith_sft
from tunesmith import Records
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_sft import SftSettings
from tunesmith_sft.preview import preview


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_sft)


def test_the_preview_shows_what_is_trained():
    rows = Records([{"prompt": "ab", "completion": "c"}], ["one"])
    shown = preview(rows, "prompt-completion", SftSettings(), tiny_tokenizer())
    assert shown == [[("a", False), ("b", False), ("c", True), ("<|im_end|>", True)]]


def test_the_preview_cuts_as_training_does():
    rows = Records([{"prompt": "ab", "completion": "c" * 9}, {"prompt": "a" * 9, "completion": "b"}], ["one", "two"])
    shown = preview(rows, "prompt-completion", SftSettings(max_length=4), tiny_tokenizer())
    assert [len(row) for row in shown] == [4]
