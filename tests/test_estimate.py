"""What a stage will take: put together from what components tell, shown by `plan`, refused where it cannot fit."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tunesmith import speed as machine
from tunesmith.errors import MemoryExhausted
from tunesmith.estimate import Batch, Block, Packed, Sizes, Speed, Trained, Work, combined
from tunesmith.estimating import check_fits
from tunesmith.rehearsal import picked_rows

SIZES = Sizes(
    layers=2,
    hidden=10,
    intermediate=20,
    heads=2,
    key_heads=2,
    head_size=5,
    vocabulary=100,
    outputs=100,
    tied=True,
    linear={"q_proj": (10, 10), "up_proj": (10, 20)},
    other=50,
    tensors=7,
    bytes_per_parameter=4,
    block=Block(kept=100, moved=500, calls=20),
)
LORA = Trained(modules={"q_proj": 80}, added=80)
WORK = Work(
    steps=10,
    longest=Batch(rows=2, tokens=8, supervised=4),
    typical=Batch(rows=2, tokens=6, supervised=3),
    optimizer=8,
    activations=5000,
    logits=1000,
    saving=100,
    flops=1e9,
    moved=1e6,
    passes=2,
)
SPEED = Speed(flops=1e9, narrow=1e8, attention=5e8, bandwidth=1e6, read=1e-3, narrow_read=1e-2, call=1e-2, process=7000)


def test_the_parts_of_an_adapter() -> None:
    made = combined(SIZES, None, LORA, WORK, SPEED)
    assert SIZES.parameters == 2 * (100 + 200) + 1000 + 50
    assert made.parts == {
        "process": 7000,
        "data": 0,
        "weights": 4 * 1650,
        "adapter": 320,
        "gradients": 320,
        "optimizer": 640,
        "activations": 5000,
        "logits": 1000,
        "held back": 0,
        "checkpoint": 100,
    }
    assert made.peak == 7000 + 6600 + 320 + 640 + 6000
    assert made.phase == "training step"
    assert (made.step_seconds, made.seconds) == (2.0, 20.0)


def test_what_the_c_library_holds_back_comes_on_top_of_the_activations() -> None:
    made = combined(SIZES, None, LORA, WORK, SPEED, held_back=0.8)
    assert made.parts["held back"] == 4000
    assert made.peak == 7000 + 6600 + 320 + 640 + 6000 + 4000
    full = Trained(modules={"all": 1650}, added=0, base_weights=True)
    assert combined(SIZES, None, full, WORK, SPEED, held_back=0.8).parts["held back"] == 4 * 1650
    assert combined(SIZES, None, full, WORK, SPEED).parts["held back"] == 0


def test_gradients_take_the_place_of_activations() -> None:
    full = Trained(modules={"all": 1650}, added=0, base_weights=True)
    made = combined(SIZES, None, full, replace(WORK, activations=10, logits=0, saving=0), SPEED)
    assert made.peak == 7000 + 6600 + 8 * 1650 + 4 * 1650


def test_a_checkpoint_may_be_the_peak() -> None:
    made = combined(SIZES, None, LORA, replace(WORK, saving=90_000), SPEED)
    assert (made.phase, made.peak) == ("checkpoint", 7000 + 6600 + 320 + 640 + 90_000)


def test_packed_weights_are_small_and_take_time() -> None:
    packed = Packed(bytes_per_parameter=0.5, skipped=("up_proj",))
    made = combined(SIZES, packed, LORA, WORK, SPEED)
    assert made.parts["weights"] == 4 * (1650 - 200) + 0.5 * 200
    assert made.step_seconds == pytest.approx(2.0 + 2 * 200 * (0.5 + 8) / 1e6)
    measured = combined(SIZES, packed, LORA, WORK, replace(SPEED, unpack=1e-3))
    assert measured.step_seconds == pytest.approx(2.0 + 2 * 200 * 1e-3)


def test_rows_take_their_part() -> None:
    made, without = (combined(SIZES, None, LORA, WORK, SPEED, data=data) for data in (300, 0))
    assert (made.parts["data"], made.peak, made.floor) == (300, without.peak + 300, without.floor + 300)


def test_a_step_takes_what_its_kinds_of_work_take() -> None:
    work = replace(WORK, narrow=3e8, attention=1e9, read=500, narrow_read=40, calls=25)
    assert SPEED.seconds(work) == pytest.approx(1 + 1 + 3 + 2 + 0.5 + 0.4 + 0.25)
    ahead = replace(SPEED, overlaps=True)
    assert ahead.seconds(work) == pytest.approx(7.9)
    assert ahead.seconds(replace(work, calls=2500)) == pytest.approx(25)


def test_a_machine_is_measured_in_the_shapes_of_a_block(monkeypatch) -> None:
    """What it finds is the machine's: no more than magnitudes is certain."""
    sizes = replace(SIZES, linear={"q": (64, 64), "up": (64, 192)}, hidden=64, intermediate=192, head_size=32)
    monkeypatch.setattr(machine, "SECONDS", 0.01)
    asked = []
    found = machine.measure(sizes, "cpu", lambda shape, device: lambda: asked.append((shape, device)))
    assert set(asked) == {((64, 64), "cpu"), ((192, 64), "cpu")}
    assert found.unpack > 0
    assert not found.overlaps
    assert 0 <= found.read < 1e-6
    assert 0 < found.call < 0.1
    assert found.flops > 1e6
    assert found.narrow > 1e6
    assert found.bandwidth > 1e6
    assert found.attention > 1e6


def test_measuring_a_large_block_makes_it_once(monkeypatch) -> None:
    """Eight blocks of a model of billions of parameters would not fit beside it."""
    monkeypatch.setattr(machine, "SECONDS", 0.0)
    monkeypatch.setattr(machine, "BEYOND_CACHES", 4 * 100)
    made = []

    def unpack(shape, device):
        made.append(shape)
        return lambda: None

    machine.measure(SIZES, "cpu", unpack)
    assert made == [(10, 10), (20, 10)]


def test_rows_that_are_tried_are_padded_as_all_rows_are() -> None:
    """Grouped by length, the 24 rows of twelve steps are padded no more than 4,000 rows are."""
    tokens = [20 + (row * 7919) % 100 + (100 if row % 97 == 0 else 0) for row in range(4000)]
    longest, spread = picked_rows(tokens, 2)
    assert [tokens[row] for row in longest] == sorted(tokens, reverse=True)[:2]
    assert len(spread) == len(set(spread)) == 24
    assert sum(tokens[row] for row in spread) / 24 == pytest.approx(sum(tokens) / 4000, rel=0.02)
    found = sorted(tokens[row] for row in spread)
    padded = sum(2 * max(pair) for pair in zip(found[::2], found[1::2], strict=True)) / 24
    assert padded == pytest.approx(sum(tokens) / 4000, rel=0.02)
    assert len(picked_rows(tokens, 8)[1]) == 48


@pytest.mark.parametrize(("count", "a_step"), [(1, 4), (3, 4), (4, 4), (9, 4)])
def test_few_rows_are_tried_as_far_as_there_are(count: int, a_step: int) -> None:
    longest, spread = picked_rows(list(range(1, count + 1)), a_step)
    assert len(longest) == a_step
    assert 1 <= len(spread) <= max(a_step, count)
    assert set(longest + spread) <= set(range(count))


def test_without_a_measured_machine_there_is_no_time() -> None:
    made = combined(SIZES, None, LORA, WORK, None)
    assert made.seconds is None
    assert made.parts["process"] == 0


def test_the_speed_of_this_machine_is_kept_by_what_decides_it(tmp_path) -> None:
    machine.keep(tmp_path, SIZES, "cpu", 2, SPEED)
    assert machine.known(tmp_path, SIZES, "cpu", 2) == SPEED
    assert machine.known(tmp_path, SIZES, "cpu", 1) is None
    assert machine.known(tmp_path, replace(SIZES, hidden=12), "cpu", 2) is None
    machine.keep(tmp_path, SIZES, "cpu", 2, replace(SPEED, unpack=0.5, call=3), "nf4")
    assert machine.known(tmp_path, SIZES, "cpu", 2, "nf4") == replace(SPEED, unpack=0.5, call=3)
    assert machine.known(tmp_path, SIZES, "cpu", 2) == replace(SPEED, call=3)
    assert machine.known(tmp_path, SIZES, "cpu", 2, "int8") == replace(SPEED, call=3)
    (tmp_path / machine.FILE).write_text("{")
    assert machine.known(tmp_path, SIZES, "cpu", 2) is None


def test_rows_that_were_looked_at_count_and_are_named_first(monkeypatch) -> None:
    made = combined(SIZES, None, LORA, replace(WORK, activations=90_000), SPEED)
    settings = SimpleNamespace(batch_size=4, activation_checkpointing=False)
    stage = SimpleNamespace(trainer=SimpleNamespace(settings=settings), main_role=SimpleNamespace(quantizer=None))
    plan = SimpleNamespace(run=SimpleNamespace(memory_check="refuse", device="cpu"))
    monkeypatch.setattr("tunesmith.estimating.available", lambda device: (100_000, "left"))
    assert "it may not fit" in (check_fits(made, stage, plan, margin=0.15) or "")  # type: ignore[arg-type]
    monkeypatch.setattr("tunesmith.estimating.available", lambda device: (80_000, "left"))
    with pytest.raises(MemoryExhausted) as error:
        check_fits(made, stage, plan, margin=0.15)  # type: ignore[arg-type]
    for setting in (
        "Lower [trainer] batch_size",
        "gradient_accumulation_steps",
        "max_length",
        "activation_checkpointing",
    ):
        assert setting in str(error.value)
    monkeypatch.setattr("tunesmith.estimating.available", lambda device: (900_000, "left"))
    assert check_fits(made, stage, plan, margin=0.15) is None  # type: ignore[arg-type]


# --- plans ----------------------------------------------------------------------------------------
def told(house, *more: str):
    ended = house.call("plan", "recipe.toml", "--json", *more)
    (stage,) = json.loads(ended.out)["stages"]
    return ended, stage["estimate"]


def test_a_plan_says_what_moves_and_what_it_takes(house) -> None:
    house.recipe({"adapter": {"use": "lora", "rank": 2}})
    ended, found = told(house)
    assert ended.code == 0, ended.err
    assert found["trainable"] == found["modules"]["self_attn.q_proj"] + sum(
        count for name, count in found["modules"].items() if name != "self_attn.q_proj"
    )
    assert found["parts"]["weights"] == 4 * 35_168
    assert found["assumed"]
    assert found["fits"]
    shown = house.call("plan", "recipe.toml").out
    assert "at the peak" in shown
    assert "self_attn.q_proj" in shown


def test_what_nobody_tells_is_said_to_be_unknown(house) -> None:
    house.recipe({"adapter": {"use": "prompt", "virtual_tokens": 4}})
    ended, found = told(house)
    assert ended.code == 0
    assert "does not say what it trains" in found["unknown"]
    assert "no estimate of memory and time" in house.call("plan", "recipe.toml").out


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"trainer.batch_size": 8, "trainer.max_length": 512}, "[quantizer]"),  # rows that are assumed do not count
        ({"adapter": {"use": "full"}, "trainer.batch_size": 1, "trainer.max_length": 2}, 'an adapter such as "lora"'),
    ],
)
def test_what_cannot_fit_is_refused_with_the_setting_to_change(house, monkeypatch, changes, advice) -> None:
    monkeypatch.setattr("tunesmith.estimating.available", lambda device: (1000, "available on this machine"))
    house.recipe(changes)
    ended, found = told(house)
    assert ended.code == MemoryExhausted.exit_code
    assert not found["fits"]
    assert "cannot fit" in ended.err
    assert advice in ended.err.replace("\n", " ")
    ended = house.call("run", "recipe.toml")
    assert ended.code == MemoryExhausted.exit_code
    assert "cannot fit" in ended.err
    assert house.call("plan", "recipe.toml", "--set", 'run.memory_check="off"').code == 0
    warned = house.call("plan", "recipe.toml", "--set", 'run.memory_check="warn"')
    assert warned.code == 0
    assert "it may not fit" in warned.out.replace("\n", " ")


def test_a_few_real_steps_are_measured_and_kept_for_later_plans(house) -> None:
    """The one test that trains: in a process of its own, on the tiny model."""
    house.recipe({"adapter": {"use": "lora", "rank": 2}, "trainer.batch_size": 2})
    ended, found = told(house, "--probe")
    assert ended.code == 0, ended.err
    measured = {row["what"]: row for row in found["measured"]}
    assert {"process", "with the model", "peak", "a step", "whole training"} == set(measured)
    peak, loaded = measured["peak"]["measured"], measured["with the model"]["measured"]
    assert peak >= loaded >= measured["process"]["measured"] > 2**27
    for row in measured.values():
        assert row["difference"] == pytest.approx(row["estimate"] / row["measured"] - 1)
    assert not found["assumed"]
    again = told(house)[1]
    assert not again["assumed"]
    assert again["seconds"] == pytest.approx(found["seconds"])
    assert not house.runs.exists()
