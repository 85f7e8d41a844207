"""`tunesmith find-lr` on toy components, this file among them: what is kept, what is refused, and how a test ends.

The toy trainer descends (1 - w)**2 from w = 0, so after steps at rates r the loss is the product of all (1 - 2 r)**2:
it falls where r comes near a half, and grows without bound above 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from tunesmith import Context, Ge, Gt, NumericalError, Settings, Trainer, TrainResult, hookimpl
from tunesmith.rates.curve import rising

Output = tuple[int, str, str]


# --- a plugin of this file ----------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class DescendSettings(Settings):
    """Settings of `descend`."""

    learning_rate: Annotated[float, Ge(0)] = 0.01
    """Rate of the descent."""
    max_steps: Annotated[int, Gt(0)] = 4
    """Steps."""
    logging_steps: Annotated[int, Gt(0)] = 1
    """Steps between reports."""
    fault: str = ""
    """`deaf`: the rate is the recipe's; `early`: half of the steps; `skips`: every other one is told; `breaks`: from
    step 30 on; `nothing`: from the first step on; `flat`: nothing is learned."""
    arguments: dict[str, Any] | None = None
    """Of the library below."""


def descend(models: dict[str, Any], data: Any, settings: DescendSettings, context: Context) -> TrainResult:
    weight = next(iter(models.values())).model.weight
    total = settings.max_steps
    for step in range(total // 2 if settings.fault == "early" else total):
        factor = context.schedule(step) if context.schedule and settings.fault != "deaf" else 1.0
        rate, loss = settings.learning_rate * factor, (1 - weight.value) * (1 - weight.value)
        if settings.fault == "nothing" or (settings.fault == "breaks" and step == 29):
            raise NumericalError("the loss is nan")
        if settings.fault != "flat":
            weight.value += 2 * rate * (1 - weight.value)
        if settings.fault != "skips" or step % 2:
            context.reporter.progress(step + 1, total, {"loss": loss, "learning_rate": rate})
    (context.stage_folder / "kept").touch()
    return TrainResult(steps=total, total_steps=total, metrics={}, seconds=0.01)


def plain(models: dict[str, Any], data: Any, settings: Settings, context: Context) -> TrainResult:
    raise AssertionError("it is refused before it is called")


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    kinds = {"settings": DescendSettings, "rate": "learning_rate"}
    yield Trainer(name="descend", summary="Descends", factory=descend, **kinds)  # type: ignore[arg-type]
    yield Trainer(name="plain", summary="Follows nothing", factory=plain, settings=DescendSettings)


# --- the tests ----------------------------------------------------------------------------------
@pytest.fixture
def find(call: Callable[..., Output], tmp_path: Path) -> Callable[..., Output]:
    """Find the rate of `descend` with the recipe of the toys."""
    recipe = (tmp_path / "recipe.toml").read_text().replace('use = "pull"', 'use = "descend"')
    (tmp_path / "recipe.toml").write_text(recipe.replace("plugins = [", f"plugins = [{json.dumps(__file__)}, "))
    return lambda *words: call("find-lr", "recipe.toml", *words)


def found(output: Output) -> dict[str, Any]:
    assert output[0] == 0, output[2]
    return json.loads(output[1])


def fault(name: str) -> tuple[str, str]:
    return "--set", f"trainer.fault={name}"


def test_every_step_is_taken_at_its_rate_until_the_loss_diverges(find: Callable[..., Output]) -> None:
    done = found(find("--json", "--low", "1e-3", "--high", "1e3", "--steps", "61"))
    taken = len(done["points"])
    weight = 0.0
    for point, rate in zip(done["points"], rising(1e-3, 1e3, 61), strict=False):
        assert point["learning_rate"] == pytest.approx(rate, rel=1e-12)
        assert point["loss"] == pytest.approx((1 - weight) ** 2, rel=1e-9)
        weight += 2 * rate * (1 - weight)
    assert taken < 61
    assert done["diverged"] == done["points"][-1]["learning_rate"] > 1
    assert (done["setting"], done["current"], done["steps"]) == ("trainer.learning_rate", 0.01, 61)
    # the logarithm of the loss falls by 4 r a step, the loss itself fastest where the sum of all 4 r so far is near 1
    assert 1e-3 < done["rate"] < 0.5
    assert done["range"][0] == done["rate"] < done["range"][1]


def test_the_folder_holds_the_recording_the_summary_and_the_picture_and_nothing_else(
    find: Callable[..., Output], tmp_path: Path
) -> None:
    done = found(find("--json", "--low", "1e-3", "--high", "1e3"))
    folder = Path(done["folder"])
    assert folder == Path("runs/recipe-find-lr")
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"find-lr.{ending}" for ending in ("json", "jsonl", "md", "svg")),
        "lock",
    ]
    lines = [json.loads(line) for line in (folder / "find-lr.jsonl").read_text().splitlines()]
    assert lines == [{key: point[key] for key in ("step", "learning_rate", "loss")} for point in done["points"]]
    assert json.loads((folder / "find-lr.json").read_text()) == done
    assert f"trainer.learning_rate = {done['rate']:g}" in (folder / "find-lr.md").read_text()
    picture = (folder / "find-lr.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<circle") >= len(done["points"]) // 2
    assert [path.name for path in Path("runs").iterdir()] == ["recipe-find-lr"]
    again = found(find("--json", "--low", "1e-3", "--high", "1e3"))
    assert again == done
    (folder / ".staging-killed").mkdir()
    assert find(*fault("deaf"))[0] == 69
    assert sorted(path.name for path in folder.iterdir()) == ["find-lr.jsonl", "lock"]  # no summary of other steps


def test_the_console_says_what_to_write_and_what_comes_next(find: Callable[..., Output]) -> None:
    code, out, err = find("--low", "1e-3", "--high", "1e3", "--set", "data.validation=3")
    assert code == 0, err
    assert "suggested" in out
    assert "write into the recipe: trainer.learning_rate = " in out
    assert "diverged" in out
    assert "next: tunesmith run recipe.toml --set data.validation=3 --set trainer.learning_rate=" in err


def test_a_loss_that_is_not_finite_ends_the_test_and_is_no_error(find: Callable[..., Output]) -> None:
    done = found(find("--json", "--high", "0.9", *fault("breaks")))
    assert len(done["points"]) == 29
    assert done["diverged"] == pytest.approx(rising(1e-7, 0.9, 60)[29])


def test_where_no_rate_can_be_told_none_is(find: Callable[..., Output]) -> None:
    done = found(find("--json", *fault("flat")))
    assert (done["rate"], done["range"]) == (None, None)
    assert "nothing is learned" in done["reason"]
    code, out, err = find(*fault("flat"))
    assert code == 0
    assert "none: the loss does not fall" in out
    assert "write into the recipe" not in out
    assert "learning_rate" not in err.partition("next:")[2]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--low", "1e-2", "--high", "1e-2"), 2, "cannot rise from 0.01 to 0.01"),
        (("--low", "0"), 2, "cannot rise from 0 to 1"),
        (("--high", "inf"), 2, "cannot rise"),
        (("--high", "nan"), 2, "cannot rise"),
        (("--steps", "19"), 2, "too few"),
        (("--stage", "sft"), 2, "there is no stage 'sft'"),
        (("--set", "trainer.use=plain"), 2, "names no `rate`"),
        (("--set", "trainer.learning_rate=0"), 78, "cannot be multiplied"),
        (("--set", "trainer.arguments={learning_rate=0.1}"), 78, "wins over [trainer] learning_rate"),
        (("--to", "."), 2, "holds other files"),
        (("--to", "pairs.txt"), 74, "a file, not a folder"),
        (fault("nothing"), 70, "the loss is nan"),
        (fault("deaf"), 69, "took step 2 at a learning rate of 0.01"),
        (fault("early"), 69, "the loss of 30 of 60 steps"),
        (fault("skips"), 69, "reported step 2 of 60 where step 1 of 60 was due"),
    ],
)
def test_what_is_wrong_is_said(find: Callable[..., Output], words: tuple[str, ...], code: int, said: str) -> None:
    ended = find(*words)
    assert (ended[0], ended[1]) == (code, ""), ended[2]
    assert said in ended[2]
    assert "Traceback" not in ended[2]
    if code in (2, 78):
        assert not Path("runs").exists()


def test_a_trainer_whose_rate_is_no_setting_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="its rate 'speed' is no setting"):
        Trainer(name="wrong", summary="Wrong", factory=descend, settings=DescendSettings, rate="speed")


def test_losses_that_are_infinite_are_kept_as_null(find: Callable[..., Output], monkeypatch: Any) -> None:
    monkeypatch.setattr("tunesmith.rates.curve.TIMES", math.inf)
    done = found(find("--json", "--low", "1", "--high", "1e30", "--steps", "60"))
    assert done["diverged"] is not None
    lines = (Path(done["folder"]) / "find-lr.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["loss"] is None
    assert len(lines) == len(done["points"]) + 1
