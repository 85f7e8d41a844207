"""The words of other tools: a recipe that has them is told what does the same here."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from tunesmith.recipe import RunSettings
from tunesmith.registry import Registry
from tunesmith.schema import KEYS
from tunesmith.words import advice, words

RECIPE = 78


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("trainer.cutoff_len", 512, "It is called 'max_length' here."),
        ("trainer.sequence_len", 512, "It is called 'max_length' here."),
        ("trainer.warmup_ratio", 0.1, "'warmup_steps' here (a number below 1 is a share of all steps)."),
        ("trainer.num_train_epochs", 1.0, "It is called 'epochs' here."),
        ("trainer.per_device_train_batch_size", 4, "It is called 'batch_size' here."),
        ("trainer.micro_batch_size", 4, "It is called 'batch_size' here."),
        ("trainer.gradient_checkpointing", True, "It is called 'activation_checkpointing' here."),
        ("trainer.train_on_inputs", True, "It is called 'supervise' here (true is \"all\")."),
        ("trainer.sample_packing", True, "It is called 'packing' here."),
        ("trainer.bf16", True, "It is 'dtype' in [model] here (true is \"bfloat16\")."),
        ("trainer.val_set_size", 0.1, "It is 'validation' in [data] here (a share of the rows)."),
        ("trainer.lora_r", 8, "It is 'rank' in [adapter] here."),
        ("trainer.load_in_4bit", True, "It is 'use' in [quantizer] here (true is \"nf4\")."),
        ("trainer.output_dir", "out", "It is 'folder' in [run] here."),
        ("trainer.deepspeed", "ds.json", "Training is one process on one device"),
        ("adapter.lora_r", 8, "It is called 'rank' here."),
        ("adapter.r", 8, "It is called 'rank' here."),
        ("adapter.lora_alpha", 8, "It is called 'alpha' here."),
        ("adapter.lora_dropout", 0.1, "It is called 'dropout' here."),
        ("adapter.lora_target_modules", ["q_proj"], "It is called 'target_modules' here."),
        ("adapter.finetuning_type", "lora", "It is called 'use' here"),
        ("data.val_set_size", 0.1, "It is called 'validation' here (a share of the rows)."),
        ("data.dataset", "x", "It is called 'path' here"),
        ("model.base_model", "x", "It is called 'source' here."),
        ("model.template", "qwen", "'chat_template' here"),
        ("run.output_dir", "out", "It is called 'folder' here."),
        ("base_model", "x", "It is 'source' in [model] here."),
        ("lora_r", 8, "It is 'rank' in [adapter] here."),
        ("num_epochs", 3, "It is 'epochs' in [trainer] here."),
        ("datasets", [], "It is 'path' in [data] here"),
        ("per_device_eval_batch_size", 8, "It is 'batch_size' in [[evaluate]] here"),
        ("trainer.arguments", {"lora_r": 8}, "It is 'rank' in [adapter] here."),
    ],
    ids=str,
)
def test_a_word_of_another_tool_is_answered_with_ours(house: Any, key: str, value: Any, said: str) -> None:
    house.recipe({key: value})
    message = house.refused(
        RECIPE, repr(next(iter(value)) if isinstance(value, dict) else key.rpartition(".")[2]), before_the_run=True
    )
    assert said in " ".join(message.split())


def test_every_word_names_a_setting_that_there_is() -> None:
    """Of a component of that kind here, or of the engine."""
    registry = Registry.discover()
    ours: dict[str, set[str]] = {"run": {item.name for item in fields(RunSettings)}}
    for key, kind in KEYS.items():
        ours[key] = {"use"}
        for entry in registry.entries(kind):
            ours[key] |= {item.name for item in fields(entry.component.settings)}
    for word, (setting, note) in words().items():
        table, _, name = setting.partition(".")
        assert note or setting, word
        if setting:
            assert name in ours[table], word


def test_a_slip_is_still_answered_with_the_nearest_name() -> None:
    assert advice("rnk", ["rank", "alpha"], ("adapter",)) == "Did you mean 'rank'?"
    assert advice("epoch", ["epochs"], ("trainer",)) == "Did you mean 'epochs'?"
    assert advice("nothing_like", ["rank"], ("adapter",), "It takes: rank.") == "It takes: rank."


def test_a_word_for_a_setting_that_this_component_lacks_gets_no_wrong_advice() -> None:
    assert advice("lora_r", ["scale"], ("adapter",), "It takes: scale.") == "It takes: scale."
