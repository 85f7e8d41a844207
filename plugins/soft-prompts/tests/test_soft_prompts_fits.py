"""What does not fit a model is refused by the plan, which knows its configuration alone."""

from __future__ import annotations

import importlib
import json

import pytest

from tunesmith import RecipeError
from tunesmith.plan import make_plan
from tunesmith.recipe import read


@pytest.fixture
def planned(house, monkeypatch):
    """Plans the house's recipe; nothing that loads a model can be imported."""
    make = house.make_registry

    def plan(*sets):
        registry = make()
        for name in ("adalora", "loha", "longlora"):
            registry.add(
                importlib.import_module(f"tunesmith_{name}"), distribution=f"tunesmith-{name}", version="0.1.0"
            )
        return make_plan(read(house.folder / "recipe.toml", sets), registry)

    return plan


TINY = 1024  # positions of the tiny model; its keys have 32 x 16


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("trainer.max_length=1025",), "max_length = 1025, but the model takes 1024"),
        (('adapter={use="lora",rank=17}',), "rank = 17 is over the size of self_attn.k_proj (32 x 16)"),
        (('adapter={use="loha",rank=17}',), "rank = 17 is over the size of self_attn.k_proj"),
        (('adapter={use="lokr",rank=17}',), "rank = 17 is over the size of self_attn.k_proj"),
        (('adapter={use="longlora",rank=17}',), "rank = 17 is over the size of self_attn.k_proj"),
        (('adapter={use="adalora",init_rank=17,target_rank=2}',), "init_rank = 17 is over the size of"),
        (('adapter={use="prompt",virtual_tokens=1024}',), "virtual_tokens = 1024 leaves no room"),
        (('adapter={use="prompt",virtual_tokens=24}', "trainer.max_length=1001"), "takes 1000 tokens"),
        (('trainer={use="sft",optim="nonsense"}',), "there is no optimizer 'nonsense'"),
        (("trainer.arguments.output_dir=x",), "output_dir in"),
    ],
    ids=str,
)
def test_what_a_run_would_refuse_the_plan_refuses(planned, sets, said):
    with pytest.raises(RecipeError) as error:
        planned(*sets)
    assert said in error.value.what
    assert error.value.fix
    assert error.value.where
    assert error.value.setting[-1] in error.value.what


@pytest.mark.parametrize(
    "sets",
    [
        ("trainer.max_length=1024",),
        ('adapter={use="lora",rank=16}',),
        ('adapter={use="lora",rank=20,target_modules=["q_proj"]}',),
        ('adapter={use="lora",rank=20,rank_pattern={k_proj=4,v_proj=4}}',),
        ('adapter={use="prompt",virtual_tokens=24}', "trainer.max_length=1000"),
        ('adapter={use="longlora",scale=2}', "trainer.max_length=2048"),
    ],
    ids=str,
)
def test_what_fits_is_planned(planned, sets):
    assert planned(*sets).stages


def test_a_stage_goes_on_with_the_positions_that_its_adapter_left(house, planned):
    path = house.folder / "recipe.toml"
    model = json.dumps(str(read(path).tree["model"]["source"]))
    stage = '[stages.{0}.data]\nuse = "jsonl"\npath = "rows.jsonl"\n[stages.{0}.trainer]\nuse = "sft"\n'
    path.write_text(
        stage.format("one")
        + f'[stages.one.model]\nsource = {model}\n[stages.one.adapter]\nuse = "prompt"\nvirtual_tokens = 24\n'
        + stage.format("two")
        + 'max_length = 1001\n[stages.two.model]\nfrom = "one"\n'
    )
    with pytest.raises(RecipeError, match="the model takes 1000 tokens") as error:
        planned()
    assert str(error.value.where) == f"{path}:{path.read_text().splitlines().index('max_length = 1001') + 1}"
