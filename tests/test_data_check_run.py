"""`tunesmith data check` finds what a run finds: its counts are the run's ledger, for every trainer and record type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, Registry
from tunesmith.console.data_check import fates
from tunesmith.context import Context, SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe
from tunesmith.run import start
from tunesmith.spec import Trainer
from tunesmith.stage import load_data
from tunesmith.tokenized import encode

REGISTRY = Registry.discover()
TRAINERS = {entry.component.name: entry.component for entry in REGISTRY.entries("trainer")}
ONLINE = ("ppo", "grpo", "rloo")
LONG = "a long tale " * 12
ANSWERS = ["red", "green", "blue", "grey", LONG, "red"]
ASKED = ["one?", "two?", "three?", "four?", "five?", LONG * 2]
TURNS = [
    [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    for asked, answer in zip(ASKED, ANSWERS, strict=True)
]
PAIRS = list(zip(ASKED, ANSWERS, strict=True))
#: Rows of each type: most are good, one is cut, one is lost when it is tokenized, one when it is read.
ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": text} for text in (*ANSWERS, "<|im_end|> within", "")],
    "prompt-completion": [*({"prompt": asked, "completion": answer} for asked, answer in PAIRS), {"prompt": "x"}],
    "messages": [*({"messages": turns} for turns in TURNS), {"messages": []}],
    "preference": [
        *({"prompt": asked, "chosen": answer, "rejected": f"no {answer}"} for asked, answer in PAIRS),
        {"prompt": "six?", "chosen": "same", "rejected": "same"},
        {"prompt": "seven?", "chosen": LONG, "rejected": LONG + "but"},
    ],
    "unpaired-preference": [
        *(
            {"prompt": asked, "completion": answer, "label": place % 2 == 0}
            for place, (asked, answer) in enumerate(PAIRS)
        ),
        {"prompt": "six?", "completion": LONG, "label": True},
        {"prompt": "six?", "completion": LONG + "but", "label": False},
    ],
    "prompt": [*({"prompt": asked} for asked in ASKED), {"prompt": ""}],
    "text-label": [{"text": text, "label": ("one", "two")[place % 2]} for place, text in enumerate((*ANSWERS, ""))],
    "text-labels": [
        *({"text": text, "labels": ["one", "two"][: place % 3]} for place, text in enumerate(ANSWERS)),
        {"text": "", "labels": ["one"]},
    ],
    "tokens-tags": [
        *({"tokens": ["say", *text.split()], "tags": ["O", *["B"] * len(text.split())]} for text in ANSWERS),
        {"tokens": ["say"], "tags": []},
    ],
}
CASES = [(name, kind) for name, trainer in TRAINERS.items() for kind in trainer.accepts]


def plan_of(trainer: Trainer, kind: str, source: Path, folder: Path, **more: Any) -> Any:
    """A plan of one step, on rows of a type that come four times, so that enough are left."""
    rows = [{**row, "number": number} for number in range(4) for row in ROWS[kind]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "score.py").write_text("def score(prompts, completions, rows):\n    return [1.0 for _ in completions]\n")
    data: dict[str, Any] = {
        "use": "jsonl",
        "path": "rows.jsonl",
        "format": kind,
        "duplicates": "keep",
        "validation": 0.1,
    }
    settings: dict[str, Any] = {"max_steps": 1, "batch_size": 4, "max_length": 64, **more}
    if trainer.name in ONLINE:
        settings |= {"max_new_tokens": 4, "reward": "./score.py:score"}
    tree = {
        "run": {"device": "cpu", "folder": "runs", "max_lost_rows": 0.9, "verdict": False},
        "data": data,
        "adapter": {"use": "lora", "rank": 2},
        "trainer": {"use": trainer.name, **settings},
        "models": {
            role.name: {"source": str(source)} for role in trainer.roles if not role.default and not role.optional
        },
    }
    return make_plan(Recipe(tree, base=folder), REGISTRY)


def checked(plan: Any, cache: Path) -> Context:
    """What `data check` does, and the ledger in its context."""
    context = Context(seed=plan.run.seed, device="cpu", folder=plan.recipe.folder, cache=cache)
    context = context.with_(max_lost_rows=plan.run.max_lost_rows)
    encode(plan, plan.stages[0], load_data(plan.stages[0], context), context)
    return context


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gc.collect", lambda: 0)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # the disk's time decides nothing here


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_counts_are_those_of_the_run(name: str, kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    plan = plan_of(TRAINERS[name], kind, tiny_folder, tmp_path)
    found = json.loads(json.dumps(fates(checked(plan, tmp_path / "other").ledger)))["ledger"]
    run = json.loads(json.dumps(start(plan, REGISTRY, SilentReporter()).results["main"].ledger))
    if name in ONLINE:  # what is cut there are answers, which the run draws
        run |= {key: found[key] for key in run if key.startswith("truncated")}
    assert found == run
    assert found["dropped"] > 0
    assert found["rows_in"] == found["trained"] + found["held_out"] + found["dropped"]


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("sft", "messages", {"max_length": 8}),
        ("dpo", "preference", {"overlong": "drop", "max_length": 8}),
        ("classify", "text-label", {"sample_weight": "lacking"}),
        ("grpo", "prompt", {"max_length": 5}),
    ],
)
def test_what_a_run_refuses_is_refused_in_its_words(
    name: str, kind: str, settings: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    plan = plan_of(TRAINERS[name], kind, tiny_folder, tmp_path, **settings)
    with pytest.raises(DataError, match="no row is left after tokenization") as found:
        checked(plan, tmp_path / "other")
    with pytest.raises(DataError) as run:
        start(plan, REGISTRY, SilentReporter())
    assert (found.value.what, found.value.details) == (run.value.what, run.value.details)
