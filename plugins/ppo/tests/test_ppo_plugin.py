"""The plugin as a whole, and the order in which prompts are answered."""

from __future__ import annotations

import tunesmith_ppo
from tunesmith_ppo.prompts import Order


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_ppo)


def test_every_prompt_comes_once_before_one_comes_again_and_in_another_order_then():
    order = Order(10, 4, seed=3)
    found = [index for step in range(1, 6) for index in order.of_step(step)]
    assert sorted(found[:10]) == sorted(found[10:]) == list(range(10))
    assert found[:10] != found[10:]
    assert Order(10, 4, seed=3).of_step(4) == order.of_step(4), "a resumed run goes on as it would have"
    assert Order(10, 4, seed=4).of_step(1) != order.of_step(1)


def test_a_batch_may_be_larger_than_the_data():
    found = Order(3, 7, seed=0).of_step(1)
    assert sorted(found[:3]) == sorted(found[3:6]) == [0, 1, 2]
    assert len(found) == 7
