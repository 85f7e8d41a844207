"""The study of Optuna: it learns, gives up, goes on after a crash, and says what mattered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith import Context
from tunesmith.search.space import Choice, Range
from tunesmith_optuna import OptunaSettings
from tunesmith_optuna.study import OptunaStudy, open_study

SPACE = (
    Range("trainer.learning_rate", 1e-5, 1e-1, log=True),
    Range("trainer.batch_size", 4, 16, step=4),
    Choice("adapter.targets", (["q_proj"], ["q_proj", "v_proj"])),
)


def opened(folder: Path, seed: int = 1, **settings: object) -> OptunaStudy:
    return open_study(SPACE, OptunaSettings(**settings), Context(seed=seed, stage_folder=folder))  # type: ignore[arg-type]


def loss(rate: float) -> float:
    """Least at 1e-3."""
    import math

    return (math.log10(rate) + 3) ** 2


def searched(study: OptunaStudy, trials: int) -> list[float]:
    rates = []
    for _ in range(trials):
        trial = study.ask()
        rates.append(trial.values["trainer.learning_rate"])
        study.tell(trial.number, "done", loss(rates[-1]))
    return rates


def test_values_are_of_the_space(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for _ in range(12):
        values = study.ask().values
        assert 1e-5 <= values["trainer.learning_rate"] <= 1e-1
        assert values["trainer.batch_size"] in (4, 8, 12, 16)
        assert values["adapter.targets"] in (["q_proj"], ["q_proj", "v_proj"])
        assert json.loads(json.dumps(values)) == values


def test_it_comes_nearer_than_chance_does(tmp_path: Path) -> None:
    """The mean loss of the later half, over three seeds each: tpe against random."""
    means = {}
    for sampler in ("tpe", "random"):
        late = []
        for seed in range(3):
            folder = tmp_path / f"{sampler}-{seed}"
            folder.mkdir()
            late += [loss(rate) for rate in searched(opened(folder, seed, sampler=sampler), 24)[12:]]
        means[sampler] = sum(late) / len(late)
    assert means["tpe"] < means["random"]


def test_what_was_asked_survives(tmp_path: Path) -> None:
    study = opened(tmp_path)
    searched(study, 3)
    begun = study.ask()
    study.report(begun.number, 10, 0.5)
    again = opened(tmp_path)
    assert [trial.outcome for trial in again.trials()] == ["done", "done", "done", "open"]
    assert again.trials()[3].values == begun.values
    again.tell(begun.number, "failed", None)
    assert again.trials()[3].outcome == "failed"
    assert again.ask().number == 4


def test_a_trial_behind_the_median_is_given_up(tmp_path: Path) -> None:
    study = opened(tmp_path, startup_trials=2)
    for _ in range(3):
        trial = study.ask()
        assert not study.report(trial.number, 1, 0.1)
        study.tell(trial.number, "done", 0.1)
    behind, ahead = study.ask(), study.ask()
    assert study.report(behind.number, 1, 0.9)
    assert not study.report(ahead.number, 1, 0.05)
    study.tell(behind.number, "pruned", 0.9)
    assert study.trials()[behind.number].outcome == "pruned"
    never = opened(tmp_path, startup_trials=2, pruner="none")
    trial = never.ask()
    assert not never.report(trial.number, 1, 0.9)


def test_the_key_that_decided_is_named(tmp_path: Path) -> None:
    study = opened(tmp_path, sampler="random")
    assert study.importances() == {}
    searched(study, 40)
    shares = study.importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda key: shares[key]) == "trainer.learning_rate"
