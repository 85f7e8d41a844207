"""Whole runs of PPO on the tiny model: they learn, resume to the same bits, and stop where they must."""

from __future__ import annotations

import json

import pytest
import torch

from tunesmith import Context, DataError, NumericalError, PluginError, RecipeError
from tunesmith.artifact import Line, load_artifact, load_base
from tunesmith.store import checkpoints, damage

PROMPTS = [{"prompt": f"{a}{b}"} for a in "abcdefgh" for b in "xy"]
REWARD = """
def share(prompts, completions, rows):
    return [sum(c in "abcdefghijklmnop" for c in text) / max(len(text), 1) for text in completions]

def letters(prompts, completions, rows):
    return [sum("a" <= c <= "z" for c in text) / max(len(text), 1) for text in completions]

def length(prompts, completions, rows):
    assert all(row["prompt"] == prompt for prompt, row in zip(prompts, rows))
    return [float(len(text)) for text in completions]

def nan(prompts, completions, rows):
    return [float("nan") if prompt[-1]["content"] == "ax" else 1.0 for prompt in prompts]

def short(prompts, completions, rows):
    return [1.0]

def raises(prompts, completions, rows):
    if "ax" in [prompt[-1]["content"] for prompt in prompts]:
        raise ValueError("no answer to ax")
    return [0.0] * len(prompts)

CALLS = []

def breaks_later(prompts, completions, rows):
    CALLS.append(1)
    return [0.0] * len(prompts) if len(CALLS) < 3 else None
"""
SETTINGS = {
    "use": "ppo",
    "reward": "./reward.py:share",
    "learning_rate": 0.01,
    "batch_size": 8,
    "micro_batch_size": 4,
    "max_new_tokens": 4,
    "num_ppo_epochs": 2,
    "max_steps": 3,
    "save_steps": 1,
    "missing_eos_reward": "own",
}


@pytest.fixture
def runs(answering):
    return answering(SETTINGS, REWARD, PROMPTS)


def test_a_run_keeps_an_adapter_and_says_what_it_measured(runs):
    run = runs.run()
    assert not damage(run.folder / "artifact")
    lines = runs.logged(run.folder)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {
        "loss", "policy_loss", "value_loss", "reward", "kl", "kl_coef", "entropy", "clip_fraction", "approx_kl",
        "explained_variance", "length", "ended", "learning_rate", "rewards/share/mean", "rewards/share/std",
    } <= set(lines[0])  # fmt: skip
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-4), "the reference is the policy before it is trained"
    assert lines[2]["kl"] > 0
    ledger = run.results["main"].ledger
    assert (ledger["trained"], ledger["dropped"]) == (16, 0)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"kl_control": "adaptive", "kl_target": 0.01, "num_mini_batches": 2}])
def test_a_stopped_run_resumes_to_the_same_bits(runs, step, settings):
    whole = runs.run(**settings)
    part = runs.house.stopped(step, *runs.sets(**settings))
    assert json.loads((part / "state.json").read_text())["status"] == "stopped"
    runs.house.resume(part)
    assert runs.weights(part) == runs.weights(whole.folder)
    assert runs.logged(part) == runs.logged(whole.folder)


@pytest.mark.parametrize("settings", [{"learning_rate": 0.0}, {"cliprange": 0.0, "cliprange_value": 0.0}])
def test_without_a_rate_or_without_a_clip_range_nothing_moves(runs, settings):
    run = runs.run("adapter.dropout=0.0", reward="./reward.py:length", **settings)
    assert runs.logged(run.folder)[0]["reward"] > 0
    assert all(not tensor.any() for name, tensor in runs.trained(run.folder).items() if "lora_B" in name)
    assert [line["kl"] for line in runs.logged(run.folder)] == pytest.approx([0.0] * 3, abs=1e-5)


def test_the_reward_rises_on_a_reward_that_is_known_in_closed_form(runs):
    run = runs.run(
        'adapter={use="full",keep_base=true}',  # the tiny model's hidden states are too short for LoRA
        reward="./reward.py:letters",
        max_steps=12,
        batch_size=32,
        micro_batch_size=16,
        num_mini_batches=2,
        save_steps=100,
        learning_rate=0.002,
        value_learning_rate=0.02,
        lr_scheduler_type="constant",
        num_ppo_epochs=4,
        kl_coef=0.01,
        temperature=1.0,
    )
    rewards = [line["reward_with_penalties"] for line in runs.logged(run.folder)]  # at most 1
    assert sum(rewards[-3:]) / 3 > 2 * rewards[0] > 0, rewards


def model_of(house):
    """The model folder as the recipe writes it."""
    return (house.folder / "recipe.toml").read_text().split("source = ")[1].split("\n")[0]


def scorer_of(house):
    """A folder with the same model under a scalar head, as the recipe writes it."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source, folder = json.loads(model_of(house)), house.folder / "scorer"
    if not folder.is_dir():
        torch.manual_seed(3)
        AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return json.dumps(str(folder))


def test_a_model_whose_head_nothing_trained_is_no_reward(runs):
    with pytest.raises(DataError, match="has no 'scalar' head: its scores would be random") as caught:
        runs.run(f"models.reward.source={model_of(runs.house)}", reward=None, max_steps=1)
    assert caught.value.details == ("drawn at random: score.weight",)


def test_a_reward_model_scores_at_the_last_token(runs):
    model = scorer_of(runs.house)
    run = runs.run(f"models.reward.source={model}", reward=None, max_steps=1)
    (line,) = runs.logged(run.folder)
    assert line["reward"] != 0.0
    valued = runs.run(
        f"models.reward.source={model}", f"models.value.source={model}", reward=None, max_steps=2, num_mini_batches=2
    )
    first, second = runs.logged(valued.folder)
    assert first["reward"] == pytest.approx(line["reward"], rel=1e-5)
    assert second["value_loss"] != first["value_loss"]
    with pytest.raises(RecipeError, match="there are two rewards"):
        runs.run(f"models.reward.source={model}")
    with pytest.raises(RecipeError, match="there is no reward"):
        runs.run(reward=None)


def test_scores_of_a_reward_model_are_centred_on_the_rows_own_answers(runs):
    house = runs.house
    pairs = [{"prompt": row["prompt"], "chosen": row["prompt"][::-1], "rejected": "no"} for row in PROMPTS]
    house.rows(pairs)
    sets = (f"models.reward.source={scorer_of(house)}", "data.conversational=false")
    raw = runs.run(*sets, reward=None, center_rows=0, max_steps=1)
    centred = runs.run(*sets, reward=None, max_steps=2)
    shift = centred.results["main"].facts["reward_shift"]
    assert "reward_shift" not in raw.results["main"].facts
    before, after = (runs.logged(run.folder)[0]["reward"] for run in (raw, centred))
    assert before - after == pytest.approx(shift, abs=1e-3)

    registry = house.make_registry()
    folder = house.folder / "answers"
    folder.mkdir()
    (use,) = [role.model for role in raw.plan.stages[0].roles.values() if role.role.name == "reward"]
    handle = load_base(Line("scalar", folder, use), registry, Context(device="cpu", seed=42))
    own = []
    for row in pairs:  # one by one, by hand
        ids = [*handle.tokenizer(row["prompt"])["input_ids"], *handle.tokenizer(row["chosen"])["input_ids"]]
        ids.append(handle.tokenizer.eos_token_id)
        with torch.no_grad():
            own.append(float(handle.model.score(handle.model.model(torch.tensor([ids])).last_hidden_state)[0, -1, 0]))
    assert shift == pytest.approx(sum(own) / len(own), abs=1e-3)

    part = house.stopped(1, *runs.sets(*sets, reward=None, max_steps=2))
    house.resume(part)
    assert runs.weights(part) == runs.weights(centred.folder)


def test_a_run_with_a_value_model_resumes_to_the_same_bits(runs):
    house = runs.house
    model = model_of(house)
    sets = runs.sets(f"models.value.source={model}", "adapter.rank=2")
    whole = house.run(*sets)
    training = whole.results["main"].training  # of the policy, which is kept, and not of the value model
    assert (training["trainable_parameters"], training["parameters"]) == (2_048, 35_168 + 2_048)
    part = house.stopped(2, *sets)
    house.resume(part)
    assert runs.weights(part) == runs.weights(whole.folder)
    assert runs.logged(part) == runs.logged(whole.folder)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nan", NumericalError, r"gave nan for the answer to row rows.jsonl:\d+"),
        ("short", PluginError, "gave 1 numbers for 8 answers"),
        ("raises", PluginError, r"failed on row rows.jsonl:1: ValueError: no answer to ax"),
    ],
)
def test_a_reward_function_that_fails_is_named_with_its_row(runs, name, error, said):
    with pytest.raises(error, match=said):
        runs.run(reward=f"./reward.py:{name}", batch_size=8 if name == "short" else 16)
    assert not (runs.house.newest() / "artifact").exists()


def test_what_was_learned_before_a_reward_function_failed_is_kept(runs):
    with pytest.raises(PluginError, match="TypeError"):
        runs.run(reward="./reward.py:breaks_later", save_steps=10)
    (kept,) = checkpoints(runs.house.newest() / "checkpoints")
    assert kept.name == "step-000002"
    assert not damage(kept)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("./reward.py", "does not name a function"),
        ("./absent.py:score", "there is no file"),
        ("./reward.py:scores", r"reward.py has no 'scores'"),
        ("no_such_module_here:score", "there is no module"),
    ],
)
def test_a_reward_that_is_not_there_is_refused_by_the_plan(runs, reference, said):
    with pytest.raises(RecipeError, match=said):
        runs.run(reward=reference)
    assert not (runs.house.folder / "runs").exists()


def test_prompts_without_room_for_an_answer_are_dropped_or_refused(runs):
    runs.house.rows([*PROMPTS, {"prompt": "a" * 30}])
    run = runs.run("data.conversational=false", "run.max_lost_rows=0.1", max_length=20, max_steps=1)
    ledger = run.results["main"].ledger
    assert (ledger["trained"], ledger["dropped"]) == (16, 1)
    with pytest.raises(DataError, match="none of the 17 rows can be used"):
        runs.run(max_length=5)
    with pytest.raises(RecipeError, match="the model takes 1024 tokens"):
        runs.run(max_length=5000)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "ab", "completion": "cd"},
        {"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]},
    ],
)
def test_the_prompts_of_other_rows_serve_too(runs, row):
    runs.house.rows(
        [{key: row[key] for key in row}] * 1 + [json.loads(json.dumps(row).replace("ab", c)) for c in "xyz"]
    )
    run = runs.run(max_steps=1, batch_size=4, reward="./reward.py:share")
    assert run.results["main"].ledger["trained"] == 4


def test_training_ends_at_the_bound_of_the_divergence(runs):
    run = runs.run(max_kl=1e-3, max_steps=6, learning_rate=0.05)
    result = run.results["main"]
    assert result.facts["stopped_on_kl"]["kl"] > 1e-3
    assert result.training["steps"] < 6
    held = runs.run(target_kl=1e-9, num_ppo_epochs=4, max_steps=1, reward="./reward.py:length")
    assert runs.logged(held.folder)[0]["updates"] == 2, "the first update starts from a ratio of 1"


def test_a_policy_that_never_ends_its_answers_is_counted_and_refused(runs):
    runs.house.rows([{"prompt": "ay"}, {"prompt": "hy"}])  # after these the tiny model's likeliest token ends nothing
    cut = {"max_new_tokens": 1, "batch_size": 2, "max_steps": 4, "temperature": 0.01, "max_unended_steps": 3}
    with pytest.raises(RecipeError, match="of the last 3 steps, up to step 3, ends within max_new_tokens = 1"):
        runs.run(**cut, missing_eos_reward=-1.0)
    assert checkpoints(runs.house.newest() / "checkpoints")[-1].name == "step-000002", "what was learned is kept"
    run = runs.run(**cut)
    ledger = run.results["main"].ledger
    assert ledger["truncated_reasons"] == {"an answer did not end within max_new_tokens = 1": 2}
    assert (run.folder / "ledger.jsonl").read_text().count('"detail": "4 answers"') == 2


def test_an_unsound_policy_stops_the_run_and_leaves_the_last_good_checkpoint(runs):
    with pytest.raises(NumericalError):
        runs.run(learning_rate=1e30, max_grad_norm=0.0, max_steps=4)
    assert len(checkpoints(runs.house.newest() / "checkpoints")) <= 1


def test_the_artifact_gives_back_the_policy(runs):
    run = runs.run()
    adapted = load_artifact(run.folder / "artifact", runs.house.make_registry(), Context(device="cpu"))
    ids = torch.tensor([[5, 6, 7]])
    after = adapted.model(ids).logits
    with adapted.disabled() as base:
        assert not torch.equal(base(ids).logits, after)


def test_a_policy_that_goes_on_from_a_stage_is_compared_with_that_stage(runs):
    house = runs.house
    model, scorer = model_of(house), scorer_of(house)
    house.rows([{"prompt": row["prompt"], "completion": "ab"} for row in PROMPTS])
    head = (house.folder / "recipe.toml").read_text().split("[model]")[0]
    trainer = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {**SETTINGS, "max_steps": 2}.items())
    (house.folder / "recipe.toml").write_text(
        f"""{head}
[stages.sft]
model.source = {model}
data = {{ use = "jsonl", path = "rows.jsonl" }}
adapter = {{ use = "lora", rank = 4 }}
trainer = {{ use = "sft", learning_rate = 0.05, batch_size = 4, max_steps = 4 }}
[stages.ppo]
models.policy.from = "sft"
models.reward.source = {scorer}
data = {{ use = "jsonl", path = "rows.jsonl" }}
trainer = {{ {trainer.replace('reward = "./reward.py:share", ', "")} }}
"""
    )
    run = house.run()
    first, second = runs.logged(run.folder)[-2:]
    assert first["kl"] == pytest.approx(0.0, abs=1e-4), "the tuned model, and not the bare base, is the reference"
    assert second["kl"] != first["kl"]


def test_the_best_reward_is_kept_and_ends_the_run_early_to_the_same_bits(runs):
    """With the direction turned around the first measurement stays the best."""
    settings = {"max_steps": 6, "save_steps": 6, "save_total_limit": 1, "eval_steps": 1, "greater_is_better": False}
    settings |= {"early_stopping_patience": 2, "early_stopping_threshold": 9, "load_best_model_at_end": True}
    run = runs.run(**settings)
    result = run.results["main"]
    lines = [json.loads(line) for line in (run.folder / "evaluations.jsonl").read_text().splitlines()]
    rewards = [line["measures"]["reward"]["value"] for line in lines]
    assert rewards == pytest.approx([line["reward"] for line in runs.logged(run.folder)])
    assert (result.training["steps"], result.training["total_steps"]) == (3, 6)  # no step is ahead by 9
    best = 1 + rewards.index(min(rewards))
    assert result.facts["kept_step"] == result.facts["best_step"] == best
    assert {f"step-{best:06d}", "step-000003"} == {path.name for path in checkpoints(run.folder / "checkpoints")}
    part = runs.house.stopped(2, *runs.sets(**settings))
    runs.house.resume(part)
    assert runs.weights(part) == runs.weights(run.folder)
    assert [json.loads(line) for line in (part / "evaluations.jsonl").read_text().splitlines()] == lines
