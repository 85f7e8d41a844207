"""Which parameters move: grouped by module and block, found without reading weights, and printed by `plan --probe`."""

from __future__ import annotations

import json

import pytest

from tunesmith.errors import RecipeError, UsageError
from tunesmith.probe import Group, grouped


def sizes(*moving: str) -> dict[str, tuple[int, bool]]:
    names = [
        "embed.weight",
        *(f"layers.{n}.{part}" for n in range(4) for part in ("q.weight", "q.bias")),
        "norm.weight",
    ]
    return {name: (10, any(name.startswith(start) for start in moving)) for name in names}


def test_neighbouring_blocks_that_are_alike_are_one_group() -> None:
    assert grouped(sizes("layers.2.", "layers.3.", "norm")) == (
        Group("embed", 0, 10, ()),
        Group("layers.0-1.*", 0, 40, ()),
        Group("layers.2-3.*", 40, 0, ("q.weight", "q.bias")),
        Group("norm", 10, 0, ("weight",)),
    )


def test_a_block_that_differs_stands_alone_and_names_what_moves() -> None:
    assert grouped(sizes("layers.1.q.bias")) == (
        Group("embed", 0, 10, ()),
        Group("layers.0.*", 0, 20, ()),
        Group("layers.1.*", 10, 10, ("q.bias",)),
        Group("layers.2-3.*", 0, 40, ()),
        Group("norm", 0, 10, ()),
    )


def test_a_parameter_outside_of_any_module_is_its_own_group() -> None:
    assert grouped({"scale": (1, True)}) == (Group("scale", 1, 0, ("scale",)),)


# --- whole plans on the tiny model ----------------------------------------------------------------
@pytest.fixture(autouse=True)
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is looked at here; the steps that `--probe` tries besides are tests/test_estimate.py's."""

    def untried(*arguments: object) -> None:
        raise UsageError("no steps are tried here")

    monkeypatch.setattr("tunesmith.console.plan_estimate.rehearse", untried)


def probed(house, adapter, **changes):
    house.recipe({"adapter": adapter, **changes})
    ended = house.call("plan", "recipe.toml", "--probe", "--json")
    assert ended.code == 0, ended.err
    ((found,),) = [stage["probe"] for stage in json.loads(ended.out)["stages"]]
    return found


# hidden 32, keys and values 16, inner 64: 9,280 parameters a block; 259 tokens, two norms of 32 in a block, one behind
BLOCK = 32 * 32 * 2 + 32 * 16 * 2 + 32 * 64 * 3 + 64
HEAD = 259 * 32


@pytest.mark.parametrize(
    ("adapter", "moving"),
    [
        (
            {"use": "full"},
            {"model.embed_tokens": HEAD, "model.layers.0-1.*": 2 * BLOCK, "model.norm": 32, "lm_head": HEAD},
        ),
        ({"use": "head"}, {"lm_head": HEAD}),
        ({"use": "last-layers", "layers": 1}, {"model.layers.1.*": BLOCK, "model.norm": 32, "lm_head": HEAD}),
        ({"use": "regex", "pattern": "mlp.up"}, {"model.layers.0-1.*": 2 * 32 * 64}),
        ({"use": "lora", "rank": 2, "init": "pissa"}, {"model.layers.0-1.*": 2 * 2 * (64 + 48 + 48 + 64 + 3 * 96)}),
        ({"use": "prompt", "virtual_tokens": 4}, {"prompt_encoder.default.embedding": 4 * 32}),
    ],
)
def test_what_moves_is_found_without_reading_weights(house, adapter, moving) -> None:
    found = probed(house, adapter)
    assert {group["name"]: group["moves"] for group in found["groups"] if group["moves"]} == moving
    assert found["moves"] == sum(moving.values())
    assert not found["loaded"]
    assert found["memory"] == 4 * found["total"] + 12 * found["moves"]


def test_stages_that_go_on_and_that_merge_are_probed(house) -> None:
    first = {key: house.content[key] for key in ("model", "data", "adapter", "trainer")}
    rest = {"data": first["data"], "trainer": first["trainer"]}
    house.content = {
        "run": house.content["run"],
        "stages": {
            "first": first,
            "on": {"model": {"from": "first"}, **rest},
            "new": {"model": {"from": "on"}, "adapter": {"use": "head"}, **rest},
        },
    }
    house.recipe()
    ended = house.call("plan", "recipe.toml", "--probe")
    assert ended.code == 0, ended.err
    assert ended.out.count("lora moves 4,096 of 39,264 parameters (10.43%)") == 2
    assert ended.out.count("head moves 8,288 of 35,168 parameters (23.57%)") == 1
    assert "self_attn.q_proj, self_attn.k_proj" in ended.out
    assert not house.runs.exists()


def test_an_adapter_that_does_not_fit_is_refused(house) -> None:
    house.recipe({"adapter.rank": 40})
    ended = house.call("plan", "recipe.toml", "--probe")
    assert ended.code == RecipeError.exit_code
    assert "rank = 40 is over the size of" in ended.err
