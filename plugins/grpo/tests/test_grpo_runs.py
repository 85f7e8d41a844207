"""Whole runs of GRPO and RLOO on the tiny model: they learn, resume to the same bits, and stop where they must."""

from __future__ import annotations

import json

import pytest

import tunesmith_grpo
import tunesmith_reward
from tunesmith import DataError, NumericalError, PluginError, RecipeError
from tunesmith.store import checkpoints, damage

PROMPTS = [{"prompt": f"{a}{b}"} for a in "abcdefgh" for b in "xy"]
REWARD = """
def share(prompts, completions, rows):
    return [sum(c in "abcdefghijklmnop" for c in text) / max(len(text), 1) for text in completions]

def flat(prompts, completions, rows):
    return [0.5] * len(prompts)

def nan(prompts, completions, rows):
    return [float("nan") if prompt[-1]["content"] == "ax" else 1.0 for prompt in prompts]

def short(prompts, completions, rows):
    return [1.0]

def raises(prompts, completions, rows):
    if "ax" in [prompt[-1]["content"] for prompt in prompts]:
        raise ValueError("no answer to ax")
    return [0.0] * len(prompts)
"""
SETTINGS = {
    "use": "grpo",
    "reward": "./reward.py:share",
    "learning_rate": 0.01,
    "batch_size": 4,
    "num_generations": 4,
    "micro_batch_size": 8,
    "max_new_tokens": 4,
    "max_steps": 3,
    "save_steps": 1,
}


@pytest.fixture
def runs(answering):
    return answering(SETTINGS, REWARD, PROMPTS)


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_grpo)


@pytest.mark.parametrize("use", ["grpo", "rloo"])
def test_a_stopped_run_resumes_to_the_same_bits_and_says_what_it_measured(runs, use):
    settings = {
        "use": use,
        "num_iterations": 2,
        "num_mini_batches": 2,
        "reward": ["./reward.py:share", "length"],
        "reward_weights": [1.0, 0.5],
        "length_max": 2,
        "length_slack": 4,
    }
    whole = runs.run(**settings)
    assert not damage(whole.folder / "artifact")
    lines = runs.logged(whole.folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {
        "loss", "reward", "rewards/share/mean", "rewards/length/mean", "reward_std", "frac_reward_zero_std", "kl",
        "entropy", "clip_fraction", "approx_kl", "length", "ended", "learning_rate", "grad_norm",
    } <= set(lines[0])  # fmt: skip
    for line in lines:
        assert line["reward"] == pytest.approx(line["rewards/share/mean"] + 0.5 * line["rewards/length/mean"])
        assert line["updates"] == 4
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-4), "the reference is the policy before it is trained"
    assert lines[2]["kl"] != 0
    part = runs.house.stopped(2, *runs.sets(**settings))
    assert json.loads((part / "state.json").read_text())["status"] == "stopped"
    runs.house.resume(part)
    assert runs.weights(part) == runs.weights(whole.folder)
    assert runs.logged(part) == runs.logged(whole.folder)


@pytest.mark.parametrize(
    "settings",
    [{"learning_rate": 0.0}, {"epsilon": 0.0, "beta": 0.0}, {"use": "rloo", "epsilon": 0.0, "beta": 0.0}],
)
def test_without_a_rate_or_without_a_clip_range_nothing_moves(runs, settings):
    run = runs.run(max_steps=2, **settings)
    assert runs.logged(run.folder)[0]["reward"] > 0
    assert all(not tensor.any() for name, tensor in runs.trained(run.folder).items() if "lora_B" in name)


def test_groups_without_a_signal_are_counted_named_and_said(runs):
    run = runs.run(reward="./reward.py:flat", beta=0.0, max_steps=2)
    assert [line["frac_reward_zero_std"] for line in runs.logged(run.folder)] == [1.0, 1.0]
    facts = run.results["main"].facts
    assert (facts["groups"], facts["groups_without_signal"], len(facts["first_without_signal"])) == (8, 8, 5)
    assert all(row.startswith("rows.jsonl:") for row in facts["first_without_signal"])
    assert all(not tensor.any() for name, tensor in runs.trained(run.folder).items() if "lora_B" in name)
    events = (run.folder / "events.jsonl").read_text()
    assert events.count("all have the same reward, in every group of step 1") == 1
    assert "in every group of step 2" not in events


def test_answers_that_do_not_end_can_be_left_out_and_are_refused_where_all_are(runs):
    runs.house.rows([{"prompt": "ay"}, {"prompt": "hy"}])  # after these the tiny model hardly ever ends
    with pytest.raises(RecipeError, match="no answer of the first step ends within max_new_tokens = 1"):
        runs.run("data.conversational=false", mask_truncated_completions=True, max_new_tokens=1, batch_size=1)
    run = runs.run("data.conversational=false", missing_eos_reward=-1.0, max_steps=1)
    (line,) = runs.logged(run.folder)
    assert line["ended"] < 0.5
    assert "do not end within max_new_tokens = 4 and get a reward of -1" in (run.folder / "events.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nan", NumericalError, r"gave nan for the answer to row rows.jsonl:\d+"),
        ("short", PluginError, "gave 1 numbers for 64 answers"),
        ("raises", PluginError, r"failed on row rows.jsonl:1: ValueError: no answer to ax"),
    ],
)
def test_a_reward_function_that_fails_is_named_with_its_row(runs, name, error, said):
    with pytest.raises(error, match=said):
        runs.run(reward=f"./reward.py:{name}", batch_size=16)
    assert not (runs.house.newest() / "artifact").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss_type": "cispo"}, "epsilon_high, which is not set"),
        ({"reward": "exact"}, "does not name a function"),
        ({"num_generations": 1}, "num_generations"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_the_plan(runs, settings, said):
    with pytest.raises(RecipeError, match=said):
        runs.run(**settings)
    assert not (runs.house.folder / "runs").exists()


def test_rows_without_room_or_without_a_right_answer_are_dropped_and_counted(runs):
    rows = [{"prompt": row["prompt"], "completion": "#### 12"} for row in PROMPTS]
    runs.house.rows([*rows, {"prompt": "a" * 30, "completion": "#### 1"}, {"prompt": "b", "completion": "####"}])
    plain = ("data.conversational=false", "run.max_lost_rows=0.2")
    run = runs.run(*plain, reward="exact-answer", max_length=20, max_steps=1)
    ledger = run.results["main"].ledger
    assert (ledger["trained"], ledger["dropped"]) == (16, 2)
    assert set(ledger["dropped_reasons"]) == {
        "the prompt and max_new_tokens = 4 are over max_length = 20",
        "no right answer in its completion (answer_column, and keep in [data])",
    }
    assert runs.logged(run.folder)[0]["rewards/exact-answer/mean"] == 0.0
    runs.house.rows(PROMPTS)
    with pytest.raises(DataError, match="none of the 16 rows can be used"):
        runs.run(reward="exact-answer")


def test_a_reward_model_of_an_earlier_stage_scores_beside_a_function(runs):
    house = runs.house
    model = (house.folder / "recipe.toml").read_text().split("source = ")[1].split("\n")[0]
    head = (house.folder / "recipe.toml").read_text().split("[model]")[0]
    pairs = [{**row, "chosen": "abc", "rejected": "xyz"} for row in PROMPTS]
    (house.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    house.rows([{**row, "completion": "ab"} for row in PROMPTS])
    values = {**SETTINGS, "reward": ["model", "./reward.py:share"], "max_steps": 2}
    trainer = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    (house.folder / "recipe.toml").write_text(
        f"""{head}
[stages.sft]
model.source = {model}
data = {{ use = "jsonl", path = "rows.jsonl" }}
adapter = {{ use = "lora", rank = 4 }}
trainer = {{ use = "sft", learning_rate = 0.05, batch_size = 4, max_steps = 4 }}
[stages.reward]
model.source = {model}
data = {{ use = "jsonl", path = "pairs.jsonl" }}
adapter = {{ use = "lora", rank = 4 }}
trainer = {{ use = "reward", batch_size = 4, max_steps = 2 }}
[stages.grpo]
models.policy.from = "sft"
models.reward.from = "reward"
data = {{ use = "jsonl", path = "rows.jsonl" }}
trainer = {{ {trainer} }}
"""
    )
    run = house.run(plugins=(tunesmith_reward,))
    first, second = runs.logged(run.folder)[-2:]
    assert first["kl"] == pytest.approx(0.0, abs=1e-4), "the tuned model, and not the bare base, is the reference"
    assert first["rewards/model/std"] > 0
    assert first["reward"] == pytest.approx(first["rewards/model/mean"] + first["rewards/share/mean"], abs=1e-5)
    assert second["kl"] != first["kl"]


def test_an_unsound_policy_stops_the_run_and_leaves_the_last_good_checkpoint(runs):
    with pytest.raises(NumericalError):
        runs.run(learning_rate=1e30, max_grad_norm=0.0, max_steps=4)
    assert len(checkpoints(runs.house.newest() / "checkpoints")) <= 1
