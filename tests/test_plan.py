"""Planning: everything is found, checked and tied together before a model is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, MissingError, PluginError, RecipeError, Registry, TunesmithError
from tunesmith.plan import Plan, make_plan
from tunesmith.recipe import read

TOY = Path(__file__).with_name("toy_core.py")

SINGLE = """\
[model]
source = "toy:0"
[data]
use = "rows"
[adapter]
use = "shift"
[trainer]
use = "pull"
[[evaluate]]
use = "distance"
"""

PIPELINE = """\
[stages.second]
model.from = "first"
data.use = "rows"
trainer.use = "pull"
[stages.first]
model.source = "toy:0"
data.use = "rows"
adapter.use = "shift"
trainer.use = "pull"
"""

DUO = """\
[stages.sft]
model.source = "toy:0"
data.use = "rows"
adapter.use = "shift"
trainer.use = "pull"
[stages.duo]
models.policy.from = "sft"
models.reward.source = "toy:3"
data.use = "rows"
trainer.use = "duo"
"""

Planning = Callable[..., Plan]


@pytest.fixture
def toys() -> Iterator[Registry]:
    registry = Registry()
    registry.add_file(TOY)
    assert registry.problems == []
    yield registry
    faults().clear()


def faults() -> dict[str, Any]:
    return sys.modules["tunesmith_local_toy_core"].FAULTS


@pytest.fixture
def planned(tmp_path: Path, toys: Registry) -> Planning:
    def make(text: str, *sets: str, registry: Registry = toys) -> Plan:
        path = tmp_path / "a.toml"
        path.write_text(text)
        return make_plan(read(path, sets), registry)

    return make


def line_of(text: str, part: str) -> int:
    return 1 + text[: text.index(part)].count("\n")


# --- one stage --------------------------------------------------------------------------------
def test_a_recipe_without_stages_is_one_stage(planned: Planning) -> None:
    plan = planned(SINGLE, "run.seed=7")
    (stage,) = plan.stages
    assert stage.name == "main"
    assert plan.stage("main") is stage
    assert plan.run.seed == 7
    assert list(stage.roles) == ["model"]
    assert stage.main_role.model is not None
    assert stage.main_role.model.component.name == "toy", "found by what it claims"
    assert stage.main_role.adapter is not None
    assert [use.component.name for use in stage.uses()] == ["rows", "toy", "shift", "pull", "distance"]
    assert set(plan.plugins) == {"local"}


def test_a_plan_is_json(planned: Planning) -> None:
    plan = planned(PIPELINE, "stages.first.data.path=rows.txt", "launcher.use=here")
    described = json.loads(json.dumps(plan.describe()))
    assert described == plan.describe()
    assert [stage["name"] for stage in described["stages"]] == ["first", "second"]
    assert described["stages"][0]["data"]["settings"]["path"] == "rows.txt"
    assert described["stages"][1]["roles"][0]["from"] == "first"
    assert described["launcher"]["name"] == "here"


@pytest.mark.parametrize("table", ["data", "trainer", "adapter", "model"])
def test_a_missing_table_is_named(table: str, planned: Planning) -> None:
    text = "".join(f"[{part}" for part in SINGLE.split("[") if part and not part.startswith((f"{table}]", "evaluate")))
    with pytest.raises(RecipeError, match=rf"\[{table}\] is missing") as caught:
        planned(text.replace("[]", ""))
    assert caught.value.fix


def test_an_empty_recipe_says_what_to_begin_with(planned: Planning) -> None:
    with pytest.raises(RecipeError, match=r"\[data\] is missing"):
        planned("")


@pytest.mark.parametrize(
    ("assignment", "error", "message"),
    [
        ("adapter=3", RecipeError, '[adapter] needs use = "NAME"'),
        ("adapter={}", RecipeError, '[adapter] needs use = "NAME"'),
        ("adapter.use=3", RecipeError, "Installed adapters: shift, distant"),
        ("adapter.use=shfit", MissingError, "Did you mean 'shift'"),
        ("adapter.use=adalora", MissingError, "pip install tunesmith-adalora"),
        ("adapter.use=distant", MissingError, "needs no_such_library, not installed here"),
        ("adapter.rnk=3", RecipeError, "Did you mean 'rank'"),
        ("adapter.rank=0", RecipeError, "adapter.rank = 0: input should be greater than 0"),
        ("data=[]", RecipeError, '[data] needs use = "NAME"'),
        ("trainer='pull'", RecipeError, '[trainer] needs use = "NAME"'),
        ("evaluate={use='distance'}", RecipeError, "`evaluate` is a list: write [[evaluate]]"),
        ("evaluate.0.use=nothing", MissingError, "no evaluator named 'nothing'"),
        ("export=[{use='copy'}]", RecipeError, "export.0.path is required"),
        ("run=3", RecipeError, "[run] must be a table"),
        ("run.sed=3", RecipeError, "Did you mean 'seed'"),
        ("models=3", RecipeError, "[models] must be a table"),
        ("models.model.source=x", RecipeError, "[model] and [models.model] both name the model"),
        ("models.policy.source=x", RecipeError, "trainer 'pull' has no role 'policy'"),
        ("model=3", RecipeError, "[model] must be a table"),
        ("model={}", RecipeError, "[model] needs `source`"),
        ("model.source=hub/name", MissingError, "no installed model source understands 'hub/name'"),
        ("model.use=toi", MissingError, "Did you mean 'toy'"),
        ("model.from=first", RecipeError, "beside `from`"),
        ("stages={}", RecipeError, "stands beside [stages]"),
        ("launcher.use=ray", MissingError, "no launcher named 'ray'"),
        ("preset=3", RecipeError, "a preset is a name"),
    ],
)
def test_mistakes_are_found_without_running(
    assignment: str, error: type[TunesmithError], message: str, planned: Planning
) -> None:
    with pytest.raises(error) as caught:
        planned(SINGLE, assignment)
    assert message in str(caught.value)
    assert caught.value.where, "every mistake has a place"


def test_mistakes_are_placed_at_their_line(planned: Planning) -> None:
    text = SINGLE.replace('use = "shift"', 'use = "shift"\nrank = "many"')
    with pytest.raises(RecipeError) as caught:
        planned(text)
    assert str(caught.value.where).endswith(f"a.toml:{line_of(text, 'rank')}")


def test_a_model_source_may_be_named_or_claimed(planned: Planning, toys: Registry) -> None:
    never = planned(SINGLE, "model.use=never").stages[0].main_role.model
    assert never is not None
    assert never.component.name == "never"
    faults()["claims"] = lambda: 0
    with pytest.raises(MissingError, match="installed model sources: toy, never"):
        planned(SINGLE)


@pytest.mark.parametrize("place", ["claims", "check"])
@pytest.mark.parametrize("fault", [lambda *_: 1 / 0, lambda *_: sys.exit(2)])
def test_a_plugin_that_fails_while_planning_is_named(place: str, fault: Callable[[], Any], planned: Planning) -> None:
    faults()[place] = fault
    with pytest.raises(PluginError, match=r"'(toy|rows)' of local \w+ failed: (ZeroDivisionError|SystemExit)"):
        planned(SINGLE)


def test_what_a_check_finds_passes_unchanged(planned: Planning) -> None:
    def missing(device: str) -> None:
        raise DataError("there is no file x")

    faults()["check"] = missing
    with pytest.raises(DataError, match="there is no file x"):
        planned(SINGLE)


def test_what_a_check_says_is_in_the_plan_and_decides_nothing(planned: Planning) -> None:
    silent = planned(SINGLE)
    assert silent.describe()["stages"][0]["notes"] == []
    faults()["check"] = lambda device: (f"{word} on {device}" for word in ("slow", "slow", "small"))
    said = planned(SINGLE)
    assert said.describe()["stages"][0]["notes"] == [
        {"kind": "loader", "name": "rows", "note": "slow on auto"},
        {"kind": "loader", "name": "rows", "note": "small on auto"},
    ]
    assert said.stages[0].fingerprint == silent.stages[0].fingerprint


@pytest.mark.parametrize("wrong", ["a sentence", [3], 7])
def test_a_check_that_returns_no_sentences_is_named(wrong: Any, planned: Planning) -> None:
    faults()["check"] = lambda device: wrong
    with pytest.raises(PluginError, match="the check of loader 'rows' of local .* returned .*; the contract says"):
        planned(SINGLE)


# --- arguments of the wrapped library ---------------------------------------------------------
def test_arguments_are_checked_without_importing_the_library(
    planned: Planning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_arguments.py").write_text(
        "import heavy_library_that_is_not_there\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Arguments:\n    warmup_steps: int = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    planned(SINGLE, "trainer.arguments.warmup_steps=3")
    with pytest.raises(RecipeError, match="Arguments has no argument 'warmup_stps'") as caught:
        planned(f"{SINGLE}[trainer.arguments]\nwarmup_stps = 3\n")
    assert caught.value.fix == "Did you mean 'warmup_steps'?"
    assert str(caught.value.where).endswith("a.toml:12")
    assert "toy_arguments" not in sys.modules


def test_arguments_of_an_unreadable_class_are_left_to_it(planned: Planning) -> None:
    planned(SINGLE, "trainer.arguments.anything=3")


# --- roles ------------------------------------------------------------------------------------
def test_roles_fall_back_to_the_policy_with_its_adapter_off(planned: Planning) -> None:
    plan = planned(DUO)
    roles = plan.stage("duo").roles
    assert list(roles) == ["policy", "reference", "reward"]
    assert (roles["policy"].stage, roles["policy"].carry) == ("sft", "continue")
    assert roles["reference"].shares == "policy"
    assert roles["reward"].model is not None
    assert roles["reward"].adapter is None
    assert roles["reward"].role.head == "scalar"
    assert plan.stage("duo").needs == ("sft",)


def test_a_role_that_is_not_given_is_named(planned: Planning) -> None:
    with pytest.raises(RecipeError, match=r"\[stages.duo.models.reward\] is missing"):
        planned(DUO.replace('models.reward.source = "toy:3"\n', ""))


def test_an_optional_role_may_be_left_out(planned: Planning) -> None:
    assert "value" not in planned(DUO).stage("duo").roles
    given = planned(DUO, "stages.duo.models.value.source=toy:4", "stages.duo.models.value.adapter.use=shift")
    assert given.stage("duo").roles["value"].adapter is not None


def test_the_stage_s_adapter_is_for_trainable_roles_only(planned: Planning) -> None:
    text = DUO.replace('models.policy.from = "sft"', 'models.policy.source = "toy:1"\nadapter.use = "shift"')
    roles = planned(f"{text}quantizer.use = 'rough'\n").stage("duo").roles
    assert roles["policy"].adapter is not None
    assert roles["reward"].adapter is None
    assert roles["reward"].quantizer is not None
    own = planned(text, "stages.duo.models.reward.adapter.use=shift").stage("duo").roles
    assert own["reward"].adapter is not None


@pytest.mark.parametrize(("kind", "name"), [("adapter", "shift"), ("quantizer", "rough")])
def test_a_stage_s_part_that_no_model_takes_is_refused(kind: str, name: str, planned: Planning) -> None:
    text = f"{SINGLE.replace('[adapter]', '[model.adapter]')}[model.quantizer]\nuse = 'rough'\n"
    roles = planned(text).stages[0].roles
    assert (roles["model"].adapter, roles["model"].quantizer) != (None, None)
    both = f"{text}[{kind}]\nuse = '{name}'\n"
    with pytest.raises(RecipeError, match=rf"no model takes this \[{kind}\]: each that could has its own") as caught:
        planned(both)
    assert str(caught.value.where).endswith(f"a.toml:{line_of(both, f'[{kind}]')}")
    (detail,) = caught.value.details
    assert detail.endswith(f"a.toml:{line_of(both, f'[model.{kind}]')}: the {kind} of [model]")
    assert caught.value.fix


def test_a_part_that_one_of_several_models_takes_is_used(planned: Planning) -> None:
    text = DUO.replace('models.policy.from = "sft"', 'models.policy.source = "toy:1"')
    sets = ["models.policy.adapter={use='shift', rank=2}", "adapter.use=shift", "models.value.source=toy:4"]
    roles = planned(text, *(f"stages.duo.{item}" for item in sets)).stage("duo").roles
    assert [roles[name].adapter.settings.rank for name in ("policy", "value")] == [2, 1]  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"no model takes this \[stages.duo.adapter\]"):
        planned(text, *(f"stages.duo.{item}" for item in sets[:2]))


# --- stages -----------------------------------------------------------------------------------
def test_stages_come_in_the_order_that_they_need(planned: Planning) -> None:
    assert [stage.name for stage in planned(PIPELINE).stages] == ["first", "second"]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["stages.first.model={from='second'}"], "start from each other"),
        (["stages.second.model.from=second"], "stage 'second' starts from itself"),
        (["stages.second.model.from=fist"], "there is no earlier stage 'fist'"),
        (["stages.second.model.from=3"], "there is no earlier stage 3"),
        (["stages.second.model.rank=3"], "unknown setting 'rank' beside `from`"),
        (["stages.second.model.carry=drop"], "carry = 'drop' does not fit"),
        (["stages.second.model.carry=merge"], "carry = 'merge' does not fit"),
        (["stages.second.adapter.use=shift", "stages.second.model.carry=continue"], "does not fit"),
        (["stages.second.quantizer.use=rough"], "keeps that stage's quantizer"),
        (["stages.second.trianer.use=x"], "Did you mean 'trainer'"),
        (["stages.second=3"], "[stages.second] must be a table"),
        (["stages=3"], "[stages] must be a table"),
        (["stages={}"], "[stages] is empty"),
        (["evaluate=[{use='distance'}]"], "[evaluate] stands beside [stages]"),
        (["data.use=rows"], "[data] stands beside [stages]"),
        (["preset=quick"], "stands beside [stages]"),
    ],
)
def test_stages_that_do_not_fit(sets: list[str], message: str, planned: Planning) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(PIPELINE, *sets)
    assert message in str(caught.value)


def test_a_plan_says_where_models_stand_on_different_bases(planned: Planning) -> None:
    def said(*sets: str) -> list[str]:
        return [note["note"] for note in planned(DUO, *sets).stage("duo").notes()]

    (note,) = said()
    assert note == ("2 bases, each with weights of its own in memory: policy on toy:0; reward on toy:3")
    assert said("stages.duo.models.reward.source=toy:0") == []
    same = ("stages.duo.models.reward.source=toy:0", "stages.duo.models.value={source='toy:0', adapter={use='shift'}}")
    assert said(*same) == []
    (note,) = said(same[0], "stages.duo.models.policy.carry=merge", "stages.duo.adapter.use=shift")
    assert note.endswith("policy on toy:0 with stage sft merged; reward on toy:0")
    (note,) = said(same[0], "stages.duo.models.reward.quantizer.use=rough")
    assert note.endswith("policy on toy:0; reward on toy:0 in rough")
    assert planned(DUO).stage("duo").fingerprint == planned(DUO).stage("duo").fingerprint


@pytest.mark.parametrize("name", ["../x", "a/b", "main", "a b", ".x", "é", ""])
def test_a_stage_s_name_is_a_folder_s_name(name: str, planned: Planning) -> None:
    with pytest.raises(RecipeError, match="a stage cannot be called"):
        planned(PIPELINE.replace("stages.second", f'stages."{name}"'))


@pytest.mark.parametrize(
    ("sets", "carry", "adapter"),
    [
        ([], "continue", False),
        (["stages.second.model.carry=continue"], "continue", False),
        (["stages.second.adapter.use=shift"], "merge", True),
        (["stages.second.adapter.use=shift", "stages.second.model.carry=merge"], "merge", True),
    ],
)
def test_an_earlier_stage_goes_on_or_is_merged(sets: list[str], carry: str, adapter: bool, planned: Planning) -> None:
    role = planned(PIPELINE, *sets).stage("second").main_role
    assert (role.stage, role.carry, role.adapter is not None) == ("first", carry, adapter)


# --- fingerprints -----------------------------------------------------------------------------
def prints(plan: Plan) -> list[str]:
    return [stage.fingerprint for stage in plan.stages]


def test_words_and_order_change_no_fingerprint(planned: Planning) -> None:
    first = prints(planned(SINGLE))
    tables = ["[".join(("", part)) for part in SINGLE.replace("[[evaluate]]", "[evaluate]").split("[") if part]
    turned = "# a comment\n" + "\n\n".join(reversed(tables)).replace("[evaluate]", "[[evaluate]]")
    assert prints(planned(turned)) == first
    assert prints(planned(SINGLE, "adapter.rank=1", "trainer.rate=0.5")) == first, "defaults may be written out"
    assert prints(planned(SINGLE, "run.name=x", "run.max_lost_rows=0.5", "run.folder=elsewhere")) == first


@pytest.mark.parametrize(
    "assignment",
    ["adapter.rank=2", "trainer.steps=5", "run.seed=43", "data.count=9", "model.source=toy:1", "evaluate=[]"],
)
def test_what_decides_the_result_changes_the_fingerprint(assignment: str, planned: Planning) -> None:
    assert prints(planned(SINGLE, assignment)) != prints(planned(SINGLE))


@pytest.mark.parametrize("place", ["path", "more.0"])
def test_the_content_of_data_counts_and_not_its_date(place: str, planned: Planning, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a b c d")
    sets = ["data.more=['']"] if place == "more.0" else []
    first = prints(planned(SINGLE, *sets, f"data.{place}=rows.txt"))
    (tmp_path / "rows.txt").touch()
    assert prints(planned(SINGLE, *sets, f"data.{place}=rows.txt")) == first
    (tmp_path / "rows.txt").write_text("a b c e")
    assert prints(planned(SINGLE, *sets, f"data.{place}=rows.txt")) != first


def test_the_content_of_a_file_counts_in_which_a_setting_names_a_function(planned: Planning, tmp_path: Path) -> None:
    sets = ["trainer.use=pairs", "trainer.arguments.reward=./reward.py:score"]
    found = []
    for body in ("return 1", "return 2", "return 1"):
        (tmp_path / "reward.py").write_text(f"def score():\n    {body}\n")
        found.append(prints(planned(SINGLE, *sets)))
    assert found[0] == found[2] != found[1]


def test_the_version_of_a_plugin_counts(planned: Planning, toys: Registry) -> None:
    module = sys.modules["tunesmith_local_toy_core"]
    found = []
    for version in ("1", "1", "2"):
        registry = Registry()
        registry.add(module, name="toy", distribution="tunesmith-toy", version=version)
        found.append(prints(planned(SINGLE, registry=registry)))
    assert found[0] == found[1] != found[2]


def test_a_later_stage_changes_with_the_earlier_one_and_not_the_other_way_round(planned: Planning) -> None:
    first, second = prints(planned(PIPELINE))
    changed = prints(planned(PIPELINE, "stages.first.trainer.steps=9"))
    assert (changed[0] != first, changed[1] != second) == (True, True)
    later = prints(planned(PIPELINE, "stages.second.trainer.steps=9"))
    assert (later[0] == first, later[1] != second) == (True, True)


# --- cost -------------------------------------------------------------------------------------
def test_planning_imports_no_heavy_library(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SINGLE)
    code = (
        "import sys; from pathlib import Path\n"
        "from tunesmith.registry import Registry; from tunesmith.recipe import read\n"
        "from tunesmith.plan import make_plan\n"
        f"registry = Registry.discover(files=[Path({str(TOY)!r})])\n"
        f"make_plan(read(Path({str(tmp_path / 'a.toml')!r})), registry)\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the models of evaluators -------------------------------------------------------------------
MEASURED = f"""{PIPELINE}
[[stages.second.evaluate]]
use = "against"
models.reference.from = "first"
"""


def test_an_evaluator_s_models_tie_its_stage_to_earlier_ones(planned: Planning) -> None:
    text = MEASURED.replace('model.from = "first"', 'model.source = "toy:0"\nadapter.use = "shift"')
    plan = planned(text)
    assert [stage.name for stage in plan.stages] == ["first", "second"], "the order that the evaluator asks for"
    second = plan.stage("second")
    assert second.needs == ("first",)
    assert second.evaluators[0].describe()["roles"][0]["from"] == "first"
    changed = planned(text, "stages.first.trainer.steps=5").stage("second")
    assert changed.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("", r"\[stages.second.evaluate.0.models.reference\] is missing: evaluator 'against' needs it"),
        ("models.referee.from = 'first'", "evaluator 'against' has no role 'referee'"),
        ("models.reference.from = 'frist'", "there is no earlier stage 'frist'"),
        ("models.reference = 'first'", r"\[stages.second.evaluate.0.models.reference\] must be a table"),
    ],
)
def test_a_model_that_an_evaluator_lacks_is_named(models: str, said: str, planned: Planning) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        planned(MEASURED.replace('models.reference.from = "first"', models))
    assert error.value.fix
    assert str(error.value.where).partition("a.toml:")[2]


def test_only_an_evaluator_with_roles_takes_models(planned: Planning) -> None:
    with pytest.raises(RecipeError, match="unknown setting 'models'"):
        planned(SINGLE + "models.reference.source = 'toy:0'\n")
