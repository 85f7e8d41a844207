"""`tunesmith search` on toy components, this file among them: trials that are runs, given up, failed, gone on with.

The rate of the toy trainer is what is searched: the nearer to 1, the nearer the model comes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, Measure, NumericalError, Searcher, Settings, Trainer, TrainResult, hookimpl
from tunesmith.errors import DiskError, LockedError, MemoryExhausted
from tunesmith.recipe import Recipe
from tunesmith.search.space import Choice, Range, Space, read_space
from tunesmith.search.study import Outcome, Trial
from tunesmith.store import write_json

Output = tuple[int, str, str]
LIMITS = {
    "disk": DiskError("no space is left", fix="Free some space."),
    "memory": MemoryExhausted("memory has ended", fix="Lower the batch size."),
    "lock": LockedError("another process holds it", fix="Wait for it."),
}
RATES = (0.2, 0.9, 0.1, 0.5, 0.95, 0.3)


# --- a plugin of this file ----------------------------------------------------------------------
class Listed:
    """Tries `RATES` in order and gives up what is more than a half away after the second step."""

    def __init__(self, space: Space, folder: Path) -> None:
        self.keys = [one.key for one in space]
        self.path = folder / "listed.json"
        self.known = [Trial(**one) for one in json.loads(self.path.read_text())] if self.path.is_file() else []

    def ask(self) -> Trial:
        number = len(self.known)
        trial = Trial(number=number, values=dict.fromkeys(self.keys, RATES[number % len(RATES)]))
        self._keep([*self.known, trial])
        return trial

    def report(self, number: int, step: int, value: float) -> bool:
        return step >= 2 and value > 0.5

    def tell(self, number: int, outcome: Outcome, value: float | None) -> None:
        self._keep([replace(t, outcome=outcome, value=value) if t.number == number else t for t in self.known])

    def trials(self) -> Sequence[Trial]:
        return self.known

    def importances(self) -> Mapping[str, float]:
        return {key: 1 / len(self.keys) for key in self.keys}

    def _keep(self, trials: list[Trial]) -> None:
        write_json(self.path, [asdict(trial) for trial in trials])
        self.known = trials


def open_study(space: Space, settings: Settings, context: Context) -> Listed:
    return Listed(space, context.stage_folder)


@dataclass(frozen=True, kw_only=True)
class WatchedSettings(Settings):
    """Settings of `watched`."""

    rate: float = 0.5
    """Share of the way to 1 that one step goes."""
    fault: str = ""
    """What goes wrong: `numbers` always, `signal` and the limits of a machine where a file `once` is there."""


def train(models: dict[str, Any], data: Any, settings: WatchedSettings, context: Context) -> TrainResult:
    if settings.fault == "numbers":
        raise NumericalError("the loss is nan", fix="Lower the rate.")
    if settings.fault in LIMITS and (context.folder / "once").exists():
        (context.folder / "once").unlink()
        raise LIMITS[settings.fault]
    if settings.fault == "signal" and (context.folder / "once").exists():
        (context.folder / "once").unlink()
        os.kill(os.getpid(), signal.SIGINT)
    weight = next(iter(models.values())).model.weight
    for step in range(1, 5):
        weight.value += settings.rate * (1 - weight.value)
        assert context.held_out is not None
        context.held_out.report(step, {"distance": Measure(value=1 - weight.value, better="lower", n=2)})
    stopped = context.stop.signal_number
    return TrainResult(steps=4, total_steps=4, metrics={}, seconds=0.01, stopped=stopped)


@hookimpl
def tunesmith_searchers() -> Iterator[Searcher]:
    yield Searcher(name="listed", summary="Tries a list", factory=open_study)


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    yield Trainer(name="watched", summary="Pulls and reports", factory=train, settings=WatchedSettings)


# --- the tests ----------------------------------------------------------------------------------
SPACE = "trainer.rate = { low = 0.1, high = 0.95 }"


@pytest.fixture
def search(call: Callable[..., Output], tmp_path: Path) -> Callable[..., Output]:
    """Search the recipe with `watched` and `listed`."""
    recipe = (tmp_path / "recipe.toml").read_text().replace('use = "pull"', 'use = "watched"')
    recipe = recipe.replace("plugins = [", f"plugins = [{json.dumps(__file__)}, ")

    def invoke(*words: str, space: str = SPACE) -> Output:
        (tmp_path / "recipe.toml").write_text(
            f'{recipe}[search]\nuse = "listed"\ntrials = 5\n[search.space]\n{space}\n'
        )
        return call("search", "recipe.toml", *words)

    return invoke


def found(output: Output) -> dict[str, Any]:
    assert output[0] == 0, output[2]
    return json.loads(output[1])


def test_every_trial_is_a_run_and_the_best_recipe_is_kept(search: Callable[..., Output], call: Any) -> None:
    done = found(search("--json"))
    assert [trial["values"]["trainer.rate"] for trial in done["trials"]] == list(RATES[:5])
    assert [trial["outcome"] for trial in done["trials"]] == ["pruned", "done", "pruned", "done", "done"]
    assert (done["measure"], done["better"], done["best"]["number"]) == ("distance", "lower", 4)
    assert done["best"]["value"] == pytest.approx(0.05**4)
    assert done["trials"][0]["value"] == pytest.approx(0.8**2)
    folder = Path(done["folder"])
    assert json.loads((folder / "search.json").read_text()) == done
    assert "0.95" in (folder / "search.md").read_text()
    assert (folder / "search.svg").read_text().startswith("<svg")
    assert call("run", done["best_recipe"])[0] == 0
    (again,) = json.loads(call("runs", "runs/recipe-best-001", "--json")[1])
    assert again["measure"]["after"] == pytest.approx(done["best"]["value"])


def test_a_search_goes_on_with_more_trials_and_knows_its_space(search: Callable[..., Output]) -> None:
    first = found(search("--json", "--trials", "2"))
    more = found(search("--json", "--trials", "4"))
    assert more["trials"][:2] == first["trials"]
    assert len(more["trials"]) == 4
    code, _, err = search(space="trainer.rate = { low = 0.2, high = 0.95 }")
    assert code == 65
    assert "another space" in err


def test_a_trial_that_was_interrupted_is_gone_on_with(search: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    code, _, err = search("--set", "trainer.fault=signal")
    assert code == 130
    assert "The same command goes on" in err
    assert "tunesmith resume" not in err
    done = found(search("--json", "--set", "trainer.fault=signal"))
    assert [trial["outcome"] for trial in done["trials"]] == ["pruned", "done", "pruned", "done", "done"]
    assert done["trials"][0]["run"].endswith("trial-0001-001")


@pytest.mark.parametrize(("fault", "expected"), [("disk", 74), ("memory", 71), ("lock", 75)])
def test_a_limit_of_the_machine_is_no_failed_trial(
    fault: str, expected: int, search: Callable[..., Output], tmp_path: Path
) -> None:
    (tmp_path / "once").touch()
    code, _, err = search("--set", f"trainer.fault={fault}")
    assert code == expected
    assert "The same command then goes on with this trial." in err
    done = found(search("--json", "--set", f"trainer.fault={fault}"))
    assert [trial["outcome"] for trial in done["trials"]] == ["pruned", "done", "pruned", "done", "done"]
    assert [trial["error"] for trial in done["trials"]] == [None] * 5


def test_a_trial_that_was_killed_before_its_manifest_runs_again(search: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    assert search("--set", "trainer.fault=signal")[0] == 130
    (run,) = tmp_path.rglob("trial-0001-*")
    (run / "manifest.json").unlink()
    done = found(search("--json", "--set", "trainer.fault=signal"))
    assert [trial["outcome"] for trial in done["trials"]] == ["pruned", "done", "pruned", "done", "done"]
    assert len(list(run.parent.glob("trial-0001-*"))) == 1


@pytest.mark.parametrize("change", ["run.seed=7", "data.validation=3", "trainer.fault=numbers", "evaluate=[]"])
def test_a_search_goes_on_with_the_same_recipe_only(change: str, search: Callable[..., Output]) -> None:
    found(search("--json", "--trials", "1"))
    code, _, err = search("--trials", "2", "--set", change)
    assert code in (65, 78), err
    if change != "evaluate=[]":
        assert "a search of another recipe" in err
        assert change.partition("=")[0].partition(".")[2] in err
    assert found(search("--json", "--trials", "2"))["trials"][1]["outcome"] == "done"


def test_trials_that_fail_are_counted_and_three_at_the_start_end_it(search: Callable[..., Output]) -> None:
    code, _, err = search("--set", "trainer.fault=numbers")
    assert code == 65
    assert "the first 3 trials all failed" in err
    assert "the loss is nan" in err
    assert "Traceback" not in err


def test_the_table_names_the_best_and_what_comes_next(search: Callable[..., Output]) -> None:
    code, out, err = search()
    assert code == 0, err
    assert "3 done · 2 pruned" in out
    assert "100%  trainer.rate" in out
    assert "recipe-best.toml" in err


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("trainer.rat = { low = 0.1, high = 0.9 }", "unknown setting 'rat'"),
        ("trainer.rate = 0.5", "a range or choices are needed"),
        ("trainer.rate = { low = 2, high = 1 }", "the lower one first"),
        ("trainer.rate = { low = 0, high = 1, log = true }", "`low` above 0"),
        ("trainer.rate = { low = 0.1, high = 1, step = 3 }", "no more than the range"),
        ("trainer.rate = { low = 1, high = 9, step = 0.5 }", "is an integer"),
        ("trainer.rate = { choices = [1] }", "two or more values"),
        ("trainer.rate = { lo = 1, high = 9 }", "unknown key 'lo'"),
        ("run.seed = { low = 1, high = 9 }", "cannot be searched"),
        ("", "nothing says what shall vary"),
    ],
)
def test_a_space_that_is_wrong_is_refused_before_anything_runs(
    search: Callable[..., Output], space: str, said: str
) -> None:
    code, out, err = search(space=space)
    assert (code, out) == (78, "")
    assert said in err
    assert "recipe.toml:" in err
    assert "fix: " in err
    assert not Path("runs").exists()


def test_a_recipe_without_a_search_says_how_to_write_one(call: Callable[..., Output]) -> None:
    code, _, err = call("search", "recipe.toml")
    assert code == 78
    assert "[search.space]" in err


def test_ranges_and_choices_are_read() -> None:
    space = {"trainer": {"rate": {"low": 1e-4, "high": 1e-2, "log": True}, "steps": {"low": 1, "high": 9, "step": 2}}}
    space["adapter"] = {"use": {"choices": ["lora", "full"]}}
    rate, steps, adapter = read_space(Recipe({}), space)
    assert rate == Range("trainer.rate", 1e-4, 1e-2, log=True)
    assert isinstance(steps, Range)
    assert (steps.integer, steps.step) == (True, 2)
    assert adapter == Choice("adapter.use", ("lora", "full"))
