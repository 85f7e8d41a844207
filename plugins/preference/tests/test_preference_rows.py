"""Which rows, settings and models the trainers refuse, and how a pair is written as tokens."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tunesmith import Context, DataError, Dataset, Ledger, ModelHandle, RecipeError, Records
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_preference import answers, rows
from tunesmith_preference.accuracy import paired
from tunesmith_preference.settings import DpoSettings, KtoSettings
from tunesmith_transformers.tokens.pairs import encode_pairs

ROW = {"prompt": "1+1=", "chosen": "2", "rejected": "3"}


@pytest.mark.parametrize(
    ("change", "limit", "reason"),
    [
        ({"rejected": "2"}, None, "chosen and rejected are the same tokens"),
        ({"rejected": ""}, None, "'rejected' is empty"),
        ({"chosen": []}, None, "'chosen' is empty"),
        ({"chosen": "22221", "rejected": "22222"}, 8, "identical after the cut at max_length = 8"),
        ({"prompt": "1" * 9}, 8, "the prompt alone fills max_length = 8"),
        ({"margin": "much"}, None, "'margin' is no number"),
        ({"margin": math.inf}, None, "'margin' is not finite"),
        ({"chosen": [{"role": "assistant", "content": "2"}]}, None, "must both be text or both be messages"),
    ],
)  # fmt: skip
def test_what_makes_a_pair_unusable(change, limit, reason):
    from tunesmith.testing import tiny_tokenizer

    ledger = Ledger()
    assert encode_pairs(Records([{**ROW, **change}], ["r"]), tiny_tokenizer(), max_length=limit, ledger=ledger) == []
    (entry,) = ledger.entries
    assert reason in entry.reason
    assert entry.row == "r"


def test_a_pair_that_is_cut_but_still_differs_is_counted():
    from tunesmith.testing import tiny_tokenizer

    ledger = Ledger()
    row = {**ROW, "chosen": "1222222", "rejected": "2"}
    (pair,) = encode_pairs(Records([row], ["r"]), tiny_tokenizer(), max_length=8, ledger=ledger)
    assert (len(pair.chosen.ids), len(pair.rejected.ids)) == (8, 6)
    assert ledger.truncated == 1
    dropped = Ledger()
    records = Records([row], ["r"])
    assert not encode_pairs(records, tiny_tokenizer(), max_length=8, overlong="drop", ledger=dropped)
    assert dropped.reasons() == {"longer than max_length = 8": 1}


def test_conversations_are_rendered_as_serving_does():
    from tunesmith.testing import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    asked = [{"role": "user", "content": "1+1"}]
    said = [{"role": "assistant", "content": text} for text in ("2", "3")]
    row = {"prompt": asked, "chosen": [said[0]], "rejected": [said[1]]}
    (pair,) = encode_pairs(Records([row], ["r"]), tokenizer)
    rendered = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    start = pair.chosen.supervised.index(True)
    assert tokenizer.decode(pair.chosen.ids[:start]) == rendered
    assert pair.chosen.ids[:start] == pair.rejected.ids[:start]
    assert tokenizer.decode(pair.rejected.ids[start:]) == "3<|im_end|>"


def test_single_answers_are_paired_by_prompt():
    content = [
        {"prompt": prompt, "completion": answer, "label": label}
        for prompt, answer, label in (("p", "a", True), ("q", "b", True), ("p", "c", False), ("p", "d", True))
    ]
    found = paired(Records(content, list("1234")))
    assert [(row["chosen"], row["rejected"]) for row in found.rows] == [("a", "c"), ("d", "c")]
    assert list(found.ids) == ["1 over 3", "4 over 3"]


def test_both_answers_are_shown():
    handle = ModelHandle(model=None, tokenizer=tiny_tokenizer(), source="", digest="")
    data = Dataset(type="preference", train=Records([ROW], ["r"]))
    shown = rows.show(data, {"policy": handle}, DpoSettings(), Context())
    texts = [(part.title, [token.text for token in part.tokens if token.weight]) for part in shown]
    assert texts == [("chosen", ["2", "<|im_end|>"]), ("rejected", ["3", "<|im_end|>"])]
    single = {"prompt": "1+1=", "completion": "2", "label": False}
    data = Dataset(type="unpaired-preference", train=Records([single], ["r"]))
    (shown,) = answers.show(data, {"policy": handle}, KtoSettings(), Context())
    assert (shown.title, shown.supervised) == ("unwanted", 2)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ('trainer={use="dpo",loss_type=["sigmoid","sft"],loss_weights=[1.0]}', "1 loss_weights, but 2 losses"),
        ('trainer={use="dpo",loss_type="exo_pair"}', "takes the logarithm of label_smoothing"),
        ('trainer={use="dpo",arguments={adam_beta3=0.9}}', "TrainingArguments has no argument 'adam_beta3'"),
        ('trainer={use="orpo",precompute_reference=true}', "precompute_reference"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_run(recipes, sets, message):
    with pytest.raises(RecipeError, match=message):
        recipes.house.run(sets, 'evaluate=[{use="preference-accuracy"}]')


def test_full_training_without_a_copy_of_the_base_has_no_reference(recipes):
    with pytest.raises(RecipeError, match="keep_base = true"):
        recipes.house.run(*recipes.sets("dpo"), 'adapter={use="full"}')


def test_rows_of_another_type_are_refused(recipes):
    recipes.house.rows([{"prompt": "a", "completion": str(i)} for i in range(8)])
    with pytest.raises(DataError, match="cannot use 'prompt-completion' rows; it takes preference"):
        recipes.house.run(*recipes.sets("dpo"))


def test_a_policy_from_a_reward_stage_is_measured_by_the_other_evaluator(tiny_handle):
    from tunesmith import Dataset
    from tunesmith_preference.accuracy import evaluate
    from tunesmith_preference.settings import AccuracySettings

    data = Dataset(type="preference", train=Records([], []))
    with pytest.raises(RecipeError, match="'scalar' head") as error:
        evaluate(replace(tiny_handle, head="scalar"), data, AccuracySettings(), Context())
    assert json.dumps("reward-accuracy") in str(error.value)
