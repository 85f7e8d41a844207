"""`tunesmith export` and `tunesmith combine`, on runs of the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.store import damage

RUN = "runs/recipe-001"
BRIEF = {"evaluate": [{"use": "perplexity"}], "trainer.max_steps": 2}


def test_a_run_is_exported_by_the_recipe_and_by_hand(house: Any) -> None:
    house.recipe({**BRIEF, "export": [{"use": "merge", "rows": 4}]})
    ended = house.call("run", "recipe.toml", "--json")
    assert ended.code == 0, ended.err
    stage = json.loads(ended.out)["stages"]["main"]
    assert stage["exports"] == [str(Path(stage["artifact"]).parent / "export" / "merge")]
    assert stage["facts"]["parity"]["passed"] is True
    assert len(stage["facts"]) > 1, "what the trainer told is kept too"
    assert damage(Path(stage["exports"][0])) == []

    refused = house.call("export", RUN)
    assert (refused.code, refused.out) == (78, "")
    assert "exists already" in refused.err
    again = house.call("export", RUN, "--set", "overwrite=true", "--json")
    assert again.code == 0, again.err
    (done,) = json.loads(again.out)["exports"]
    assert done["facts"]["parity"]["rows"] == 4, "the recipe's settings are kept"

    made = house.call("export", RUN, "--use", "adapter", "--to", "out")
    assert (made.code, made.out) == (0, f"{house.folder / 'out'}\n"), made.err
    assert "next: tunesmith" in made.err
    # the run's folder is not needed: an artifact can be exported wherever it lies
    bare = house.call("export", f"{RUN}/artifact", "--use", "merge", "--to", "bare", "--set", "dtype=bfloat16")
    assert (bare.code, bare.out) == (0, f"{house.folder / 'bare'}\n"), bare.err
    assert "8 made-up rows" in bare.err, "an artifact without its run has no data at hand"
    assert json.loads((house.folder / "bare" / "config.json").read_text())["dtype"] == "bfloat16"

    for words, code, said in (
        (("--use", "merge", "--set", "dtyp=float32"), 78, "Did you mean 'dtype'?"),
        (("--use", "merge", "--set", "dtype=float8"), 78, "export.dtype"),
        (("--use", "merg"), 69, "Did you mean 'merge'?"),
        (("--use", "merge", "--to", RUN), 78, "overlaps the artifact"),
        (("--stage", "none"), 2, "there is no stage 'none'"),
    ):
        wrong = house.call("export", RUN, *words)
        assert (wrong.code, wrong.out) == (code, ""), wrong.err
        assert said in wrong.err
        assert "\n  fix: " in wrong.err


def test_a_full_disk_ends_an_export_with_74(house: Any, mounted: Any) -> None:
    house.recipe(BRIEF)
    assert house.call("run", "recipe.toml").code == 0
    place = mounted("size=64k")
    ended = house.call("export", RUN, "--use", "merge", "--to", place / "model")
    assert (ended.code, ended.out) == (74, ""), ended.err
    assert list(place.iterdir()) == []
    none = house.call("export", RUN)
    assert none.code == 2
    assert "no exporter is named" in none.err
    assert "merge" in none.err


def test_runs_are_combined_and_the_sum_is_used(house: Any) -> None:
    for rank in (4, 2):
        house.recipe({**BRIEF, "adapter.rank": rank})
        assert house.call("run", "recipe.toml").code == 0
    made = house.call("combine", f"{RUN}=0.7", "runs/recipe-002=0.3", "--to", "sum")
    assert (made.code, made.out) == (0, "sum\n"), made.err
    assert "next: tunesmith chat sum" in made.err
    assert damage(house.folder / "sum") == []
    asked = house.call("chat", "sum", "--prompt", "1+1=", "--max-new-tokens", "2", "--json")
    assert asked.code == 0, asked.err
    measured = house.call("evaluate", RUN, "--artifact", "sum", "--json")
    assert measured.code == 0, measured.err
    found = json.loads(measured.out)
    assert found["artifact"] == "sum"
    own = json.loads(house.call("evaluate", RUN, "--json").out)
    assert found["measures"]["perplexity"]["n"] == own["measures"]["perplexity"]["n"]
    assert found["measures"]["perplexity"]["value"] != own["measures"]["perplexity"]["value"]
    exported = house.call("export", RUN, "--artifact", "sum", "--use", "merge", "--to", "model", "--json")
    assert exported.code == 0, exported.err
    assert json.loads(exported.out)["exports"][0]["facts"]["parity"]["passed"] is True

    again = house.call(
        "combine", f"{RUN}=1", "sum=-0.5", "--to", "other", "--how", "svd", "--set", "svd_rank=3", "--json"
    )
    assert again.code == 0, again.err
    assert json.loads(again.out)["parts"] == [{"run": RUN, "weight": 1.0}, {"run": "sum", "weight": -0.5}]
    for words, code, said in (
        ((f"{RUN}=0.7", "runs/recipe-002", "--to", "x"), 2, "does not read RUN=WEIGHT"),
        ((f"{RUN}=0.7", "runs/recipe-002=much", "--to", "x"), 2, "does not read RUN=WEIGHT"),
        ((f"{RUN}=0.7", "--to", "x"), 2, "two adapters or more"),
        ((f"{RUN}=0.7", "runs/recipe-002=1", "--to", "sum"), 2, "exists already"),
        ((f"{RUN}=0.7", "runs/recipe-002=1", "--to", "x", "--how", "linear"), 1, "All adapters must have the same r"),
        ((f"{RUN}=0.7", "runs/nothing=1", "--to", "x"), 65, "is not a run folder"),
    ):
        wrong = house.call("combine", *words)
        assert (wrong.code, wrong.out) == (code, ""), wrong.err
        assert said in wrong.err
        assert "\n  fix: " in wrong.err
    assert not (house.folder / "x").exists()


def test_the_sum_of_runs_of_a_local_plugin_finds_it_again(house: Any) -> None:
    house.write(
        "mine.py",
        "from tunesmith import Adapter, hookimpl\n"
        "from tunesmith_lora import LoraSettings\n\n\n"
        "@hookimpl\n"
        "def tunesmith_adapters():\n"
        "    yield Adapter(name='mine', summary='M', factory='tunesmith_lora.adapter:apply', settings=LoraSettings)\n",
    )
    house.recipe({**BRIEF, "plugins": ["mine.py"], "adapter.use": "mine"})
    assert house.call("run", "recipe.toml").code == 0
    made = house.call("combine", f"{RUN}=0.7", f"{RUN}=0.3", "--to", "sum")
    assert made.code == 0, made.err
    asked = house.call("chat", "sum", "--prompt", "1+1=", "--max-new-tokens", "2", "--json")
    assert asked.code == 0, asked.err
    again = house.call("combine", "sum=1", f"{RUN}=1", "--to", "other")
    assert again.code == 0, again.err
    assert "tunesmith export other --use merge" in again.err
    assert "tunesmith evaluate" not in again.err, "a sum has no rows of its own"
    (house.folder / "mine.py").unlink()
    lost = house.call("chat", "sum", "--prompt", "1+1=")
    assert (lost.code, lost.out) == (78, "")
    assert "mine.py does not exist" in lost.err
