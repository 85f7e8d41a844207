"""What `[compare]` and `--adapter` may say, and how a mistake in them is told before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tunesmith import RecipeError, Registry
from tunesmith.comparison.driver import Work
from tunesmith.recipe import read
from tunesmith.schema import recipe_schema

Output = tuple[int, str, str]
TOY = Path(__file__).with_name("test_console_toy.py")
MOVE = '[[compare.adapters]]\nuse = "move"\n'


@pytest.fixture
def toys() -> Registry:
    registry = Registry()
    registry.add_file(TOY)
    return registry


@pytest.fixture
def work(call: Callable[..., Output], tmp_path: Path, toys: Registry) -> Callable[..., Work]:
    """Plan a comparison of toys with this text below the recipe's own."""

    def make(text: str, *adapters: str, **options: Any) -> Work:
        with (tmp_path / "recipe.toml").open("a") as file:
            file.write(text)
        sets = options.pop("sets", ())
        return Work.plan(read(tmp_path / "recipe.toml", sets), toys, adapters, **options)

    return make


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[compare]\nstepps = 3\n", 2, "unknown setting 'stepps' in [compare]"),
        ("[compare]\nsteps = 0\n", 2, "compare.steps = 0"),
        ("compare = 3\n", 1, "must be a table"),
        ("[[compare.adapters]]\nname = 'x'\n", 1, 'needs use = "NAME"'),
        (f"{MOVE}name = 3\n", 3, "must be text"),
        (f"{MOVE}rank = 3\n", 3, "unknown setting 'rank' in [adapter]"),
        (f"{MOVE}set = 3\n", 3, "must be a table"),
        (f"{MOVE}set.trainre.rate = 1\n", 3, "Did you mean 'trainer'?"),
        (f"{MOVE}set.adapter.use = 'move'\n", 3, "It may change: model"),
        (f"{MOVE}set.trainer.rat = 1\n", 3, "Did you mean 'rate'?"),
        (f"{MOVE}set.trainer.rate = 'fast'\n", 3, "trainer.rate"),
        (f"{MOVE}{MOVE}", 3, "two adapters to compare are called 'move'"),
        ("[[compare.adapters]]\nuse = 'moev'\n", 2, "Did you mean 'move'?"),
        (f"[compare]\nsteps = 3\n{MOVE}", 2, "unknown setting 'max_steps' in [trainer]"),
        (f"[compare]\ngeneral.use = 'pears'\n{MOVE}", 2, "pears"),
        (f"[compare]\ngeneral = {{use = 'pairs', path = 'pairs.txt', nothing = 1}}\n{MOVE}", 2, "nothing"),
        (f"[compare]\ngeneral = {{use = 'pairs', path = 'pairs.txt'}}\n{MOVE}", 1, "perplexity"),
        (f"{MOVE}name = 'base'\n", 3, "cannot be called 'base'"),
        (f"[model.adapter]\nuse = 'move'\n{MOVE}", 3, "no model takes this [adapter]"),
        (f"{MOVE}[launcher]\nuse = 'x'\n", 3, "a recipe with a launcher cannot be compared"),
    ],
)
def test_mistakes_are_told_with_their_line_and_nothing_is_run(
    call: Callable[..., Output], tmp_path: Path, text: str, line: int, said: str
) -> None:
    path = tmp_path / "recipe.toml"
    recipe = path.read_text()
    if text.startswith("compare ="):  # a bare key must stand above the tables
        path.write_text(text + recipe)
    else:
        path.write_text(recipe + text)
        line += len(recipe.splitlines())
    code, out, err = call("compare", "recipe.toml")
    assert code in (69, 78)
    assert said in err
    assert f"recipe.toml:{line}\n" in err
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--adapter lora"),
        (("--adapter", 'move "rank'), 2, "No closing quotation"),
        (("--adapter", "move rank"), 2, "KEY=VALUE"),
        (("--adapter", "move", "--only", "mov"), 2, "Did you mean 'move'?"),
        (("--adapter", "moev"), 69, "--adapter moev"),
        (("--adapter", "move rank=3"), 78, "--adapter 'move rank=3'"),
        (("--adapter", "move", "--adapter", "move"), 78, "two adapters"),
        (("--adapter", "move name=base"), 78, "cannot be called 'base'"),
        (("--adapter", "move", "--set", "model.adapter.use=move"), 78, "adapter.use=move: the adapter of [model]"),
        (("--adapter", "move", "--steps", "many"), 2, "--steps"),
    ],
)
def test_mistakes_on_the_command_line(
    call: Callable[..., Output], tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    got, out, err = call("compare", "recipe.toml", *words)
    assert (got, out) == (code, ""), err
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_entries_become_plans(work: Callable[..., Work]) -> None:
    text = f"[compare]\n{MOVE}{MOVE}name = 'Two, faster'\nset.trainer.rate = 0.75\nset.data.validation = 3\n"
    planned = work(text, folder="here")
    first, second = planned.candidates
    assert [(c.name, c.slug) for c in planned.candidates] == [("move", "move"), ("Two, faster", "two-faster")]
    assert first.stage.trainer.settings.rate == 0.5  # type: ignore[attr-defined]
    assert second.stage.trainer.settings.rate == 0.75  # type: ignore[attr-defined]
    assert second.stage.data.settings.validation == 3  # type: ignore[attr-defined]
    assert str(second.plan.run.folder) == "here"
    assert second.plan.recipe.folder == first.plan.recipe.folder
    assert "compare" not in second.plan.recipe.tree
    assert planned.general is None


def test_adapters_on_the_command_line_take_the_place_of_the_recipe_s(work: Callable[..., Work]) -> None:
    planned = work(MOVE, "move trainer.rate=0.25", "move name=b trainer.rate=0.125 trainer.steps=2", only=["b"])
    (candidate,) = planned.candidates
    assert (candidate.name, candidate.changes) == ("b", {"trainer": {"rate": 0.125, "steps": 2}})


def test_names_that_write_alike_have_files_of_their_own(work: Callable[..., Work]) -> None:
    planned = work("", "move name=Base", "move name=lora+", "move name=Lora+", "move name=+")
    assert [c.slug for c in planned.candidates] == ["base-2", "lora-plus", "lora-plus-2", "plus"]


def test_the_base_does_not_depend_on_the_adapters(work: Callable[..., Work]) -> None:
    marks = {work("", *names).base.stages[0].fingerprint for names in (["move"], ["move trainer.rate=0.1", "move"])}
    assert len(marks) == 1
    assert work("", "move", sets=["data.validation=3"]).base.stages[0].fingerprint not in marks


def test_a_recipe_that_measures_nothing_is_refused(work: Callable[..., Work]) -> None:
    with pytest.raises(RecipeError, match="nothing measures 'move'"):
        work("", "move", sets=["evaluate=[]"])


@pytest.fixture
def real(tmp_path: Path, tiny_folder: Path) -> Path:
    """A recipe of first-party components, with two entries."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "recipe.toml").write_text(
        f"""
        model.source = "{tiny_folder}"
        data = {{use = "jsonl", path = "rows.jsonl", validation = 0.5}}
        trainer = {{use = "sft", learning_rate = 1e-3}}
        evaluate = [{{use = "perplexity"}}]
        [compare]
        steps = 7
        [[compare.adapters]]
        use = "lora"
        [[compare.adapters]]
        use = "ia3"
        set.trainer = {{max_steps = 8}}
        """
    )
    return tmp_path / "recipe.toml"


def test_an_entry_that_trains_longer_is_refused(real: Path) -> None:
    with pytest.raises(RecipeError, match=r"'ia3 .*' would train with max_steps = 8, and `steps` .* says 7") as refused:
        Work.plan(read(real), Registry.discover())
    assert refused.value.where == f"{real}:12"
    with pytest.raises(RecipeError, match="would train with epochs = 2"):
        Work.plan(read(real, ["compare.adapters.1.set.trainer={epochs=2}"]), Registry.discover())
    real.write_text(real.read_text().replace("steps = 7", "", 1))
    with pytest.raises(RecipeError, match=r"'ia3 .*' would train with max_steps = 8, 'lora' with None"):
        Work.plan(read(real), Registry.discover())


def test_the_steps_hold_for_an_entry_with_another_trainer(real: Path) -> None:
    trainers = ["compare.adapters.1.set.trainer={use='dpo', max_steps=7}", "compare.adapters.1.set.trainer={use='dpo'}"]
    for change in trainers:
        planned = Work.plan(read(real, [change]), Registry.discover())
        used = [candidate.stage.trainer for candidate in planned.candidates]
        assert [use.component.name for use in used] == ["sft", "dpo"]
        assert [use.settings.max_steps for use in used] == [7, 7]  # type: ignore[attr-defined]


def test_a_change_meets_what_the_presets_say(work: Callable[..., Work], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('[trainer]\nuse = "pull"', "[trainer]\nrate = 0.75"))
    changes = "set.trainer = {use = 'pull', fault = 'raise'}\n"
    (candidate,) = work(f"{MOVE}{changes}", sets=["preset=quick"]).candidates
    settings = candidate.stage.trainer.settings
    assert (settings.rate, settings.fault, settings.steps) == (0.75, "raise", 3)  # type: ignore[attr-defined]


def test_an_entry_may_quantize_its_base_and_the_unadapted_model_stays_dense(real: Path) -> None:
    change = "compare.adapters.1={use='lora', init='loftq', name='loftq', set={quantizer={use='nf4'}}}"
    planned = Work.plan(read(real, [change]), Registry.discover())
    quantizers = [candidate.stage.main_role.quantizer for candidate in planned.candidates]
    assert [use.component.name if use else None for use in quantizers] == [None, "nf4"]
    assert planned.base.stages[0].main_role.quantizer is None


# --- the folder -------------------------------------------------------------------------------
@pytest.mark.parametrize("file", ["comparison.md", "base.json", "comparison.json", "notes.txt"])
def test_a_folder_with_other_files_is_refused(call: Callable[..., Output], tmp_path: Path, file: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / file).write_text('{"mine": 1}')
    code, out, err = call("compare", "recipe.toml", "--adapter", "move", "--to", "mine")
    assert (code, out) == (2, "")
    assert "mine is not empty, and holds no comparison" in err
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {file: '{"mine": 1}'}


@pytest.mark.parametrize("names", [(), ("lock",), ("lock", "jobs/")])
def test_a_folder_in_which_nothing_was_done_yet_is_taken(
    work: Callable[..., Work], tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in ("", *names):
        place = tmp_path / "mine" / name
        if name and not name.endswith("/"):
            place.touch()
        else:
            place.mkdir()
    assert work("", "move", folder=tmp_path / "mine").folder == tmp_path / "mine"


# --- schema -----------------------------------------------------------------------------------
RECIPE: dict[str, Any] = {
    "model": {"source": "toy:one"},
    "data": {"use": "pairs", "path": "pairs.txt"},
    "adapter": {"use": "move"},
    "trainer": {"use": "pull", "steps": 2},
}


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({"adapters": [{"use": "move", "name": "x", "set": {"trainer": {"rate": 0.5}}}], "steps": 4}, True),
        ({"general": {"use": "pairs", "path": "x"}, "measure": {"use": "distance"}}, True),
        ({"adapters": [{"use": "moev"}]}, False),
        ({"adapters": [{"name": "x"}]}, False),
        ({"adapters": [{"use": "move", "rank": 1}]}, False),
        ({"adapters": [{"use": "move", "set": {"adapter": {}}}]}, False),
        ({"steps": 0}, False),
        ({"general": {"use": "pairs"}}, False),
        ({"stepps": 1}, False),
    ],
)
def test_the_schema_knows_the_table(toys: Registry, table: dict[str, Any], good: bool) -> None:
    validator = jsonschema.Draft202012Validator(recipe_schema(toys))
    assert validator.is_valid({**RECIPE, "compare": table}) == good
