"""Preference losses on a mixture of experts: the balancing loss stands beside them, as in TRL."""

from __future__ import annotations

import json
import math

import pytest


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_the_balancing_loss_is_added_once(recipes, logged, experts_folder, name):
    sets = recipes.sets(name, max_steps=1, learning_rate=1e-9)
    run = recipes.house.run(
        *sets, f"model.source={json.dumps(str(experts_folder))}", "run.verdict=false", "evaluate=[]"
    )
    (line,) = logged(run.folder)
    start = math.log(2) if name == "dpo" else 0.5
    assert 1 < line["aux_loss"] < 4
    assert line["loss"] == pytest.approx(start + 0.5 * line["aux_loss"], rel=1e-5)
