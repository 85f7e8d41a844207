"""`tunesmith find-lr` on the tiny model: a trainer that says that it follows a rate by step does so, to the digit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith import Registry
from tunesmith.rates.curve import rising

STEPS, LOW, HIGH = 20, 1e-4, 1e-1
PAIRS = [{"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": f"no {b}"} for a in range(6) for b in range(6)]
LABELS = [{"text": f"{'aaab' if n % 2 else 'zzzy'} {n}", "label": "card" if n % 2 else "cash"} for n in range(36)]
TAGS = [{"tokens": ["aa", "zz", f"a{n}"], "tags": ["A", "Z", "A"]} for n in range(36)]
#: Rows that each trainer takes, and what it needs besides.
FOLLOWING: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any]]] = {
    "sft": (None, {}),
    "reward": (PAIRS, {}),
    "dpo": (PAIRS, {}),
    "ipo": (PAIRS, {}),
    "kto": (PAIRS, {"data.pairs": "unpaired"}),
    "orpo": (PAIRS, {}),
    "cpo": (PAIRS, {}),
    "simpo": (PAIRS, {}),
    "classify": (LABELS, {}),
    "classify-tokens": (TAGS, {}),
}


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The rates of all groups at each step that an optimizer takes."""
    from torch.optim import AdamW

    seen: list[list[float]] = []
    step: Callable[..., Any] = AdamW.step

    def noted(optimizer: Any, *arguments: Any, **options: Any) -> Any:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *arguments, **options)

    monkeypatch.setattr(AdamW, "step", noted)
    return seen


def find(house: Any, trainer: str, changes: dict[str, Any]) -> dict[str, Any]:
    rows, needed = FOLLOWING[trainer]
    if rows is not None:
        house.rows(rows)
    recipe = house.recipe({"trainer.use": trainer, "evaluate": [], **needed, **changes})
    ended = house.call("find-lr", recipe, "--low", str(LOW), "--high", str(HIGH), "--steps", str(STEPS), "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_the_trainers_that_say_so_are_those_tried_here() -> None:
    said = {entry.component.name for entry in Registry.discover().entries("trainer") if entry.component.rate}  # type: ignore[attr-defined]
    assert said == set(FOLLOWING)


@pytest.mark.parametrize("trainer", FOLLOWING)
def test_a_trainer_follows_the_rate_of_every_step_in_all_groups(
    trainer: str, house: Any, rates: list[list[float]]
) -> None:
    """LoRA+ gives B sixteen times the rate of A; warm-up and schedule of the recipe play no part."""
    changes = {"trainer.warmup_steps": 5, "trainer.lr_scheduler_type": "cosine", "adapter.lora_plus_ratio": 16.0}
    done = find(house, trainer, changes)
    assert len(rates) == len(done["points"])
    for groups, rate in zip(rates, rising(LOW, HIGH, STEPS), strict=False):
        assert sorted(set(groups)) == pytest.approx([rate, 16 * rate], rel=1e-12)


def test_a_test_starts_as_a_run_does_and_leaves_nothing_to_take_over(house: Any) -> None:
    done = find(house, "sft", {})
    (folder,) = house.runs.iterdir()
    assert str(folder) == done["folder"]
    assert not [path for path in folder.rglob("*") if path.suffix not in (".json", ".jsonl", ".md", ".svg", "")]
    assert {path.name for path in folder.iterdir() if not path.suffix} == {"lock"}
    ran = house.call("run", house.recipe({"evaluate": [], "trainer.learning_rate": LOW, "trainer.max_steps": STEPS}))
    assert ran.code == 0, ran.err
    first = json.loads((house.runs / "recipe-001" / "metrics.jsonl").read_text().splitlines()[0])
    assert done["points"][0]["loss"] == first["loss"]
    assert json.loads(house.call("runs", house.runs, "--json").out)[0]["run"].endswith("recipe-001")


def test_a_later_stage_starts_from_what_a_run_kept_of_the_earlier(house: Any) -> None:
    shared = {key: house.content.pop(key) for key in ("model", "data", "adapter", "trainer", "evaluate")}
    house.write("pairs.jsonl", "".join(f"{json.dumps(row)}\n" for row in PAIRS))
    sft = {**shared, "evaluate": []}
    trainer = {**shared["trainer"], "use": "dpo"}
    dpo = {
        "model": {"from": "sft"},
        "data": {"use": "jsonl", "path": "pairs.jsonl"},
        "trainer": trainer,
        "evaluate": [],
    }
    recipe = house.recipe({"stages": {"sft": sft, "dpo": dpo}})
    words = ("find-lr", recipe, "--stage", "dpo", "--steps", str(STEPS), "--high", "0.01", "--json")
    refused = house.call(*words)
    assert refused.code == 2
    assert "starts from stage 'sft', which no run in" in refused.err
    assert house.call("run", recipe).code == 0
    ended = house.call(*words)
    assert ended.code == 0, ended.err
    done = json.loads(ended.out)
    assert (done["stage"], done["setting"]) == ("dpo", "stages.dpo.trainer.learning_rate")
    assert done["folder"].endswith("recipe-dpo-find-lr")
