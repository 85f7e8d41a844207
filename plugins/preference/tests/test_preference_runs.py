"""Whole runs of every trainer on the tiny model: what it learns, its start, its resume, what it keeps."""

from __future__ import annotations

import math

import pytest

TRAINERS = ("dpo", "ipo", "kto", "orpo", "cpo", "simpo")


@pytest.mark.parametrize("name", TRAINERS)
def test_a_run_learns_and_a_stopped_one_ends_in_the_same_bits(recipes, logged, weights, name):
    sets = recipes.sets(name, batch_size=8, eval_steps=2, load_best_model_at_end=True)
    whole = recipes.house.run(*sets)
    lines = logged(whole.folder)
    losses = [line["loss"] for line in lines]
    both = [line for line in lines if {"rewards/chosen", "rewards/rejected"} <= set(line)]  # KTO may draw one kind
    gaps = [line["rewards/chosen"] - line["rewards/rejected"] for line in both]
    assert len(gaps) >= 4
    assert sum(gaps[-2:]) > sum(gaps[:2])  # the wanted answers gain on the others
    measures = whole.results["main"].after["measures"]
    assert {"pair_accuracy", "pair_accuracy_per_token", "general_perplexity"} == set(measures)
    for measure in measures.values():
        assert measure["low"] <= measure["value"] <= measure["high"]
    if name in ("dpo", "kto"):
        assert losses[0] == pytest.approx(math.log(2) if name == "dpo" else 0.5, abs=1e-6)
    part = recipes.house.stopped(3, *sets)
    resumed = recipes.house.resume(part)
    assert resumed.results["main"].facts["kept_step"] == whole.results["main"].facts["kept_step"]
    assert weights(part) == weights(whole.folder)
    lines = [[{**line, "tokens_per_second": 0} for line in logged(run)] for run in (part, whole.folder)]
    assert [line["step"] for line in lines[0]] == [1, 2, 3, 4, 5, 6]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("merged", [True, False])
def test_after_a_tuned_stage_the_policy_starts_at_its_reference(recipes, logged, merged):
    house = recipes.house
    recipe = house.folder / "recipe.toml"
    top, rest = recipe.read_text().split("[model]")
    rest = rest.partition("[[evaluate]]")[0]
    for table in ("data", "adapter", "trainer"):
        rest = rest.replace(f"[{table}]", f"[stages.sft.{table}]")
    adapter = '[stages.dpo.adapter]\nuse = "lora"\nrank = 2' if merged else ""
    recipe.write_text(
        f"""{top}[stages.sft.model]{rest}
        [stages.dpo.model]
        from = "sft"
        [stages.dpo.data]
        use = "jsonl"
        path = "pairs.jsonl"
        {adapter}
        [stages.dpo.trainer]
        use = "dpo"
        max_steps = 2
        """
    )
    (house.folder / "pairs.jsonl").write_text((house.folder / "rows.jsonl").read_text())
    house.rows([{"prompt": f"{a}+1=", "completion": str(a + 1)} for a in range(12)])
    run = house.run()
    first = next(line["loss"] for line in logged(run.folder) if line["stage"] == "dpo")
    gap = run.results["dpo"].facts["reference"]["nats_a_token_from_the_policy_at_the_start"]
    assert (first, gap) == (pytest.approx(math.log(2), abs=1e-6), pytest.approx(0, abs=1e-6))
