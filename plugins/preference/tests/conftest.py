"""Recipes on preference rows, on the tiny model, and the same rows as TRL takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Dataset, Records

PAIRS = [{"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": f"no {b}"} for a in range(6) for b in range(6)]


class Recipes:
    """The house's recipe with another trainer and preference rows."""

    def __init__(self, house: Any) -> None:
        self.house = house
        house.rows(PAIRS)

    def sets(self, trainer: str, **settings: Any) -> tuple[str, ...]:
        """What makes the house's recipe one for `trainer`."""
        own = {"learning_rate": 0.01, "batch_size": 4, "max_steps": 6, "save_steps": 2, **settings}
        table = ",".join(f"{key}={json.dumps(value)}" for key, value in {"use": trainer, **own}.items())
        found = (f"trainer={{{table}}}", 'evaluate=[{use="preference-accuracy"}]')
        return (*found, 'data.pairs="unpaired"') if trainer == "kto" else found


@pytest.fixture
def recipes(house: Any) -> Recipes:
    return Recipes(house)


@pytest.fixture
def logged() -> Callable[[Path], list[dict[str, float]]]:
    """The lines of a run's metrics."""
    return lambda run: [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def weights() -> Callable[[Path], str]:
    """The digest of the adapter that a run kept."""
    return lambda run: hashlib.sha256((run / "artifact" / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.fixture
def pairs() -> Callable[[list[Mapping[str, Any]]], Dataset]:
    """A data set of rows of any type, nothing held out."""

    def make(rows: list[Mapping[str, Any]], kind: str = "preference") -> Dataset:
        return Dataset(type=kind, train=Records(rows, [str(i) for i in range(len(rows))]))  # type: ignore[arg-type]

    return make
