"""Whole runs on the tiny model: perplexity before and after, and a resumed run that ends in the same bits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tunesmith import RecipeError, Stopped
from tunesmith.console.talk import Sampling, Talk

ADAPTERS = {
    "prompt": 'use = "prompt"\nvirtual_tokens = 6',
    "prefix": 'use = "prefix"\nvirtual_tokens = 6',
    "projected": 'use = "prefix"\nvirtual_tokens = 6\nprojection = true\nprojection_size = 8',
    "p-tuning": 'use = "p-tuning"\nvirtual_tokens = 6\nencoder = "lstm"\nlstm_dropout = 0.1',
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_run_and_its_exact_resume(recipe, stop_at_three, digests, name):
    recipe.adapter = ADAPTERS[name]
    whole = recipe.run("whole").folder
    result = json.loads((whole / "result.json").read_text())
    before, after = (result[when]["measures"]["perplexity"]["value"] for when in ("before", "after"))
    assert after < before

    with pytest.raises(Stopped):
        recipe.run("cut", stop_at_three)
    cut = recipe.newest("cut")
    recipe.resume(cut)
    assert digests(cut / "artifact") == digests(whole / "artifact")
    computed = {"prompt_encoder.safetensors"} if name in ("projected", "p-tuning") else set()
    assert set(digests(whole / "artifact")) == {"adapter_model.safetensors"} | computed


def test_chat_answers_with_the_prompt_in_front(recipe):
    adapted = recipe.adapted(recipe.run("whole").folder)
    heard: list[str] = []
    talk = Talk(replace(adapted.handle, model=adapted.model), Sampling(4, 0.0, 1))
    assert talk.ask("1+1=", heard.append) == "".join(heard)
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"]


def test_rows_over_what_is_left_of_the_context_are_refused(recipe):
    recipe.trainer = "max_length = 1020"
    with pytest.raises(RecipeError, match="max_length = 1020, but the model takes 1018 tokens"):
        recipe.run("long")


def test_checkpointing_is_refused_for_a_prefix_and_works_for_a_prompt(recipe):
    recipe.trainer = "activation_checkpointing = true"
    assert (recipe.run("prompt").folder / "result.json").is_file()
    recipe.adapter = ADAPTERS["prefix"]
    with pytest.raises(RecipeError, match="cannot be trained with activation checkpointing"):
        recipe.run("prefix")
