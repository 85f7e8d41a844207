"""The pipeline of docs/examples/rlhf-gsm8k: its data, and all four stages of its recipe on the tiny model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tunesmith import Context, Registry
from tunesmith.artifact import load_artifact
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.roles import load_roles
from tunesmith.run import Run, start
from tunesmith.stage import load_data
from tunesmith.store import damage

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "rlhf-gsm8k"
REAL = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.fixture(scope="module")
def gsm8k() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gsm8k_example", EXAMPLE / "gsm8k.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gsm8k_example"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the shape of the real ones, of sums small enough for the tiny model."""
    folder = tmp_path_factory.mktemp("gsm8k")
    sums = [(a, b) for a in range(2, 8) for b in range(2, 5)]
    answers = [
        {"question": f"{a}+{b}?", "answer": f"{a}+{b}=<<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"} for a, b in sums
    ]
    solutions = []
    for a, b in sums:
        found = [a + b, a + b + 1, a * b + 9, a + b]
        sides = [{"is_correct": v == a + b, "solution": f"{a}+{b}=<<{a}+{b}={v}>>{v}\nA: {v}"} for v in found]
        sides[3]["solution"] = f"it is {a + b}\nA: {a + b}"
        solutions.append({"question": f"{a}+{b}?", "ground_truth": "", **dict(zip(MODELS, sides, strict=True))})
    for name, rows in (("train", answers), ("model_solutions", solutions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


Go = Callable[..., Run]


@pytest.fixture(scope="module")
def go(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Runs the recipe as it stands on the tiny model and the small files, a few steps a stage."""
    from tunesmith.testing.tiny import tiny_folder

    model = tiny_folder(tmp_path_factory.mktemp("tiny") / "model")
    runs = tmp_path_factory.mktemp("runs")
    small = {
        "trainer.max_steps": 2,
        "trainer.batch_size": 4,
        "data.max_chars": 400,
        "adapter.target_modules": "all-linear",
    }
    sets = [f"run.folder={runs}", "run.device=cpu", "run.threads=1", f"stages.sft.model.source={model}"]
    for stage in ("sft", "reward", "ppo", "dpo"):
        file = "train" if stage == "sft" else "model_solutions"
        values = {**small, "data.path": json.dumps(str(folder / f"{file}.jsonl")), "data.validation": 0.25}
        if stage in ("ppo", "dpo"):
            values |= {"evaluate.0.max_new_tokens": 6}
        if stage == "ppo":
            values |= {"trainer.max_new_tokens": 6, "trainer.micro_batch_size": 4}
        sets += [f"stages.{stage}.{key}={value}" for key, value in values.items()]

    def run(*more: str) -> Run:
        recipe = read(EXAMPLE / "recipe.toml", [*sets, *more])
        registry = Registry.discover(files=recipe.plugin_files)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gc.collect", lambda: 0)  # half a second a call on a heap that holds torch
            return start(make_plan(recipe, registry), registry, SilentReporter())

    return run


@pytest.fixture(scope="module")
def run(go: Go) -> Run:
    return go()


# --- the data ---------------------------------------------------------------------------------
def test_pairs_are_of_correct_over_wrong_and_no_question_is_in_both_halves(gsm8k: ModuleType, folder: Path) -> None:
    settings = gsm8k.Gsm8kSettings(path=folder / "model_solutions.jsonl", rows="pairs", validation=0.25)
    data = gsm8k.load(settings, Context())
    trained, held = ({row["prompt"] for row in records.rows} for records in (data.train, data.validation))
    assert trained
    assert held
    assert not trained & held
    assert len(data.train) + len(data.validation) == 18 * 4
    for row in data.train.rows:
        result = sum(int(part) for part in row["prompt"].rstrip("?\n").split("+"))
        assert row["chosen"].endswith(f"A: {result}")
        assert not row["rejected"].endswith(f"A: {result}")
        assert "<<" not in row["chosen"] + row["rejected"]


def test_people_s_answers_end_as_the_models_do(gsm8k: ModuleType, folder: Path) -> None:
    data = gsm8k.load(gsm8k.Gsm8kSettings(path=folder / "train.jsonl", rows="answers"), Context())
    assert data.train.rows[0] == {"prompt": "2+2?\n", "completion": "2+2=4\nA: 4"}


@pytest.mark.skipif(not REAL.is_dir(), reason="the files of GSM8K are not beside this repository")
def test_the_real_file_gives_2429_pairs(gsm8k: ModuleType) -> None:
    settings = gsm8k.Gsm8kSettings(path=REAL / "model_solutions.jsonl", rows="pairs", validation=0.25)
    context = Context()
    data = gsm8k.load(settings, context)
    ledger = context.ledger.summary()
    assert (ledger["rows_in"], ledger["dropped"]) == (2429, 3), "three pairs repeat another one"
    trained, held = ({row["prompt"] for row in records.rows} for records in (data.train, data.validation))
    assert not trained & held
    assert len(trained) + len(held) == 731


# --- the pipeline -----------------------------------------------------------------------------
def test_all_four_stages_run_and_the_table_is_printed(run: Run) -> None:
    assert list(run.results) == ["sft", "reward", "ppo", "dpo"]
    assert "pair_accuracy" in run.results["reward"].after["measures"]
    for stage in ("ppo", "dpo"):
        before, after = (getattr(run.results[stage], side)["measures"] for side in ("before", "after"))
        assert before["kl"]["value"] == pytest.approx(0.0, abs=1e-4), "the policy starts as the tuned model"
        assert {"reward", "kl", "length", "ended", "pair_accuracy"} <= set(after)
        assert before["reward"] == run.results["ppo"].before["measures"]["reward"], "both start from one policy"
    command = [sys.executable, str(EXAMPLE / "table.py"), str(run.folder)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reward = run.results["ppo"].after["measures"]["reward"]
    (line,) = [line for line in table.splitlines() if line.startswith("| ppo |")]
    assert f"{reward['value']:.2f} [{reward['low']:.2f}, {reward['high']:.2f}]" in line


def test_what_is_unchanged_is_taken_from_the_run_before(run: Run, go: Go) -> None:
    again = go("stages.dpo.trainer.max_steps=1")
    reused = {name: result.reused for name, result in again.results.items()}
    assert reused == {name: str(run.folder / "stages" / name) for name in ("sft", "reward", "ppo")} | {"dpo": None}
    assert not damage(again.results["dpo"].artifact)


def test_policy_reference_reward_and_value_stand_on_one_base(run: Run) -> None:
    registry = Registry.discover(files=[EXAMPLE / "gsm8k.py"])
    stage = run.plan.stage("ppo")
    context = Context(folder=EXAMPLE, device="cpu", registry=registry)
    artifacts = {name: run.results[name].artifact for name in ("sft", "reward")}
    data = load_data(stage, context)
    roles = load_roles(stage, data, artifacts, registry, context)
    measuring = roles.evaluators[0].models
    assert measuring is not None

    def bases() -> dict[str, set[int]]:
        """Where the weights of the embedding are, by role."""
        found = {}
        for name, adapted in {**roles.models, **{f"measuring {n}": m for n, m in measuring.items()}}.items():
            with adapted.use() as model:
                found[name] = {p.data_ptr() for n, p in model.named_parameters() if "embed_tokens" in n}
        return found

    places = bases()
    assert set(places) == {"policy", "reference", "reward", "measuring reward", "measuring reference"}
    assert len({frozenset(place) for place in places.values()}) == 1

    ids = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(ids)
    alone = load_artifact(artifacts["reward"], registry, context)
    with torch.no_grad(), roles.models["reward"].use() as model:
        assert torch.equal(model(ids, attention_mask=mask).logits, alone.model(ids, attention_mask=mask).logits)
    with torch.no_grad(), roles.models["reference"].use() as one:
        first = one(ids).logits
        with measuring["reference"].use() as two:
            assert torch.equal(first, two(ids).logits)
