"""Reading recipes: every mistake is placed, every key is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from tunesmith import Gt, Interval, MissingError, PluginError, RecipeError, Registry, Settings, UsageError
from tunesmith.recipe import Recipe, RunSettings, check_settings, expand, plain, read

TOY = Path(__file__).with_name("toy_core.py")
MINIMAL = """\
[model]
source = "toy:0"
[data]
use = "rows"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str) -> Path:
        (tmp_path / "a.toml").write_text(text, encoding="utf-8")
        return tmp_path / "a.toml"

    return make


@pytest.fixture
def toys() -> Iterator[Registry]:
    registry = Registry()
    registry.add_file(TOY)
    assert registry.problems == []
    yield registry
    sys.modules["tunesmith_local_toy_core"].FAULTS.clear()


# --- files ------------------------------------------------------------------------------------
def test_a_recipe_is_read_with_its_places(write: Write) -> None:
    recipe = read(write(MINIMAL))
    assert recipe.tree == {"model": {"source": "toy:0"}, "data": {"use": "rows"}}
    assert recipe.where("data", "use") == f"{recipe.path}:4"
    assert recipe.where("data", "nothing") == f"{recipe.path}:3"
    assert recipe.where("trainer") == str(recipe.path)


def test_a_mark_at_the_start_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    recipe = read(path)
    assert recipe.tree["model"] == {"source": "toy:0"}
    assert recipe.where("data", "use") == f"{path}:4"


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b'[model]\nsource = "caf\xe9"\n', "the recipe is not UTF-8", 2),
        (b"[model\n", "not valid TOML", 1),
        (b"a = 1\na = 2\n", "not valid TOML", 2),
        (b"run = 1\n\n\nx = \n", "not valid TOML", 4),
        ("[model]".encode("utf-16"), "the recipe is not UTF-8", 1),
    ],
)
def test_what_is_no_recipe_is_said_with_its_line(content: bytes, message: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        read(path)
    assert str(caught.value.where).startswith(str(path))
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("name", ["nothing.toml", "folder", "file/a.toml", "x" * 300])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot read the recipe") as caught:
        read(tmp_path / name)
    assert "tunesmith init" in str(caught.value)


def test_an_empty_file_is_an_empty_recipe(write: Write) -> None:
    assert read(write("")).tree == {}


def test_an_unknown_table_is_named_with_the_nearest(write: Write) -> None:
    with pytest.raises(RecipeError, match="unknown table or key 'trianer'") as caught:
        read(write(f"{MINIMAL}\n[trianer]\nuse = 'x'\n"))
    assert str(caught.value.where).endswith("a.toml:6")
    assert caught.value.fix == "Did you mean 'trainer'?"
    with pytest.raises(RecipeError, match="There are: preset, plugins, run"):
        read(write("zzzz = 1"))


@pytest.mark.parametrize("text", ["plugins = 'x.py'", "plugins = [1]", "plugins = {a = 1}"])
def test_plugin_files_are_a_list_of_names(text: str, write: Write) -> None:
    with pytest.raises(RecipeError, match="`plugins` must be a list of file names"):
        _ = read(write(text)).plugin_files


def test_plugin_files_start_at_the_recipe(write: Write, tmp_path: Path) -> None:
    files = [tmp_path / "one.py", tmp_path / "sub" / "two.py"]
    files[1].parent.mkdir()
    files[0].touch()
    recipe = read(write("\nplugins = ['./one.py', 'sub/two.py']"))
    with pytest.raises(RecipeError, match=r"two\.py does not exist") as caught:
        _ = recipe.plugin_files
    assert str(caught.value.where).endswith("a.toml:2")
    files[1].touch()
    assert recipe.plugin_files == files


def test_the_resolved_recipe_reads_back(write: Write, tmp_path: Path) -> None:
    recipe = read(write(MINIMAL), ["trainer.use=pull", 'data.text="a\\nb"', "evaluate=[{use='distance'}]"])
    (tmp_path / "b.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert read(tmp_path / "b.toml").tree == recipe.tree


# --- --set ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("2e-4", 2e-4), ("true", True), ("false", False), ('"a b"', "a b"), ("'c'", "c"),
        ("plain", "plain"), ("two words", "two words"), ("hub/name-1.0", "hub/name-1.0"), ("", ""), ("a=b", "a=b"),
        ("[1, 2]", [1, 2]), ("{x = 1}", {"x": 1}), ("wheel:a==0.1", "wheel:a==0.1"), ("True", "True"),
    ],
)  # fmt: skip
def test_values_of_every_type_can_be_set(text: str, value: object, write: Write) -> None:
    recipe = read(write(MINIMAL), [f"trainer.some.key={text}"])
    assert recipe.tree["trainer"] == {"some": {"key": value}}
    assert recipe.where("trainer", "some", "key") == f"--set trainer.some.key={text}"


def test_later_assignments_and_list_entries_win(write: Write) -> None:
    text = f"{MINIMAL}\n[[evaluate]]\nuse = 'a'\n[[evaluate]]\nuse = 'b'\n"
    recipe = read(write(text), ["data.use=x", "data.use=y", "evaluate.1.use=c", "evaluate.0.n=3"])
    assert recipe.tree["data"]["use"] == "y"
    assert recipe.tree["evaluate"] == [{"use": "a", "n": 3}, {"use": "c"}]
    assert recipe.where("evaluate", 0, "n") == "--set evaluate.0.n=3"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trainer.epochs", "does not read KEY=VALUE"),
        ("=3", "does not read KEY=VALUE"),
        ("trainer..epochs=3", "does not read KEY=VALUE"),
        ("data.use.deeper=3", "data.use is a value, not a table"),
        ("data.use.deeper.still=3", "data.use is a value, not a table"),
        ("evaluate.7.use=x", "there is no entry 7 in evaluate"),
        ("evaluate.7=x", "evaluate has no entry 7"),
        ("evaluate.x=1", "evaluate has no entry 'x'"),
        ("evaluate.²=1", "evaluate has no entry '²'"),
    ],
)
def test_a_wrong_assignment_is_a_usage_error(assignment: str, message: str, write: Write) -> None:
    with pytest.raises(UsageError, match=message):
        read(write(f"{MINIMAL}\n[[evaluate]]\nuse = 'a'\n"), [assignment])


def test_an_unknown_key_that_was_set_names_the_assignment(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        read(write(MINIMAL), ["trianer.use=x"])
    assert caught.value.where == "--set trianer.use=x"


# --- presets ----------------------------------------------------------------------------------
def expanded(path: Path, toys: Registry, *sets: str) -> Recipe:
    return expand(read(path, sets), toys)


def test_a_preset_fills_in_and_the_recipe_s_own_keys_win(write: Write, toys: Registry) -> None:
    recipe = expanded(write(f"preset = 'quick'\n{MINIMAL}[trainer]\nsteps = 9\n"), toys)
    assert recipe.tree["adapter"] == {"use": "shift", "rank": 7}
    assert recipe.tree["trainer"] == {"use": "pull", "steps": 9, "rate": 0.25}
    assert "preset" not in recipe.tree
    assert recipe.where("adapter", "rank") == "preset quick"
    assert recipe.where("trainer", "rate") == "preset quick"
    assert str(recipe.where("trainer", "steps")).endswith("a.toml:7")


def test_a_table_that_uses_something_else_is_left_alone(write: Write, toys: Registry) -> None:
    recipe = expanded(write(f"preset = 'quick'\n{MINIMAL}[adapter]\nuse = 'lora'\n"), toys)
    assert recipe.tree["adapter"] == {"use": "lora"}
    assert recipe.tree["trainer"]["use"] == "pull"


def test_a_preset_takes_settings_and_several_merge_in_order(write: Write, toys: Registry) -> None:
    assert expanded(write("preset = {use = 'quick', steps = 5}"), toys).tree["trainer"]["steps"] == 5
    both = expanded(write("preset = [{use = 'quick', steps = 6}, 'quick']"), toys)
    assert both.tree["trainer"]["steps"] == 6


def test_what_is_set_wins_over_a_preset(write: Write, toys: Registry) -> None:
    recipe = expanded(write("preset = 'quick'"), toys, "adapter.rank=2")
    assert recipe.tree["adapter"]["rank"] == 2
    assert recipe.where("adapter", "rank") == "--set adapter.rank=2"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("preset = 3", RecipeError, "a preset is a name or a table with `use`"),
        ("preset = {steps = 3}", RecipeError, "a preset is a name or a table with `use`"),
        ("preset = 'quik'", MissingError, "Did you mean 'quick'"),
        ("preset = 'qlora'", MissingError, "pip install tunesmith-qlora"),
        ("preset = {use = 'quick', stps = 3}", RecipeError, "unknown setting 'stps' in .preset."),
        ("preset = {use = 'quick', steps = '3'}", RecipeError, "preset.steps = "),
    ],
)
def test_a_wrong_preset_is_placed(
    text: str, error: type[Exception], message: str, write: Write, toys: Registry
) -> None:
    with pytest.raises(error, match=message) as caught:
        expanded(write(f"\n{text}"), toys)
    assert "a.toml:2" in str(caught.value)


def fail() -> Any:
    raise KeyError("oops")


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (fail, PluginError, "preset 'quick' of local .* failed: KeyError: 'oops'"),
        (lambda: sys.exit(3), PluginError, "failed: SystemExit: 3"),
        (lambda: None, PluginError, "returned NoneType; the contract says a partial recipe"),
        (lambda: {"trianer": {}}, RecipeError, "preset quick: unknown table or key 'trianer'"),
        (lambda: {"run": {"seed": 3}}, RecipeError, "preset quick: unknown table or key 'run'"),
    ],
)
def test_a_preset_that_fails_names_its_plugin(
    fault: Callable[[], Any], error: type[Exception], message: str, write: Write, toys: Registry
) -> None:
    sys.modules["tunesmith_local_toy_core"].FAULTS["preset"] = fault
    with pytest.raises(error, match=message):
        expanded(write("preset = 'quick'"), toys)


def test_a_mistake_that_a_preset_makes_is_placed_at_the_preset(write: Write, toys: Registry) -> None:
    sys.modules["tunesmith_local_toy_core"].FAULTS["preset"] = lambda: {"adapter": {"use": "shift", "rank": Path("x")}}
    recipe = expanded(write("preset = 'quick'"), toys)
    entry = toys.find("adapter", "shift")
    with pytest.raises(RecipeError, match="preset quick: adapter.rank"):
        check_settings(entry.component.settings, {"rank": recipe.tree["adapter"]["rank"]}, recipe, ("adapter",))


# --- settings ---------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Demo(Settings):
    rank: Annotated[int, Gt(0)]
    rate: float = 0.1
    share: Annotated[float, Interval(ge=0, le=1)] = 0.5
    flag: bool = False
    name: str = "x"
    path: Path | None = None
    held: float | Path = 0.1
    mode: Literal["a", "b"] = "a"
    targets: tuple[str, ...] | Literal["all"] = ("q",)
    inner: Inner = field(default_factory=Inner)
    extra: dict[str, int] = field(default_factory=dict)


def checked(write: Write, text: str) -> Demo:
    recipe = read(write(f"[adapter]\n{text}\n"))
    return check_settings(Demo, recipe.tree["adapter"], recipe, ("adapter",))


def test_toml_values_become_what_the_fields_say(write: Write) -> None:
    found = checked(
        write,
        "rank = 4\nrate = 2\npath = 'a/b'\nheld = 'v.jsonl'\n"
        "targets = ['q', 'v']\ninner = {depth = 3}\nextra = {a = 1}",
    )
    assert found == Demo(
        rank=4,
        rate=2.0,
        path=Path("a/b"),
        held=Path("v.jsonl"),
        targets=("q", "v"),
        inner=Inner(depth=3),
        extra={"a": 1},
    )
    assert isinstance(found.rate, float)
    assert plain(found)["path"] == "a/b"
    assert checked(write, "rank = 1\ntargets = 'all'\nheld = 0.5").targets == "all"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rank = '4'", 'adapter.rank = "4": input should be a valid integer'),
        ("rank = true", "adapter.rank = true: input should be a valid integer"),
        ("rank = 4.0", "adapter.rank = 4.0: "),
        ("rank = 0", "adapter.rank = 0: input should be greater than 0"),
        ("rank = [4]", "adapter.rank = [4]: "),
        ("rank = 1\nrate = '2e-4'", 'adapter.rate = "2e-4": input should be a valid number'),
        ("rank = 1\nrate = true", "adapter.rate = true: "),
        ("rank = 1\nshare = 1.5", "adapter.share = 1.5: input should be less than or equal to 1"),
        ("rank = 1\nshare = nan", "adapter.share is nan; a finite number is needed"),
        ("rank = 1\nflag = 1", "adapter.flag = 1: input should be a valid boolean"),
        ("rank = 1\nname = 3", "adapter.name = 3: input should be a valid string"),
        ("rank = 1\nmode = 'c'", "adapter.mode = \"c\": input should be 'a' or 'b'"),
        ("rank = 1\ninner = [1]", "adapter.inner = [1]: "),
        ("rank = 1\ninner = {depth = 'x'}", 'adapter.inner.depth = "x": input should be a valid integer'),
        ("rank = 1\ntargets = ['q', 3]", "adapter.targets.1 = 3: input should be a valid string"),
        ("rank = 1\nextra = {a = 'x'}", 'adapter.extra.a = "x": input should be a valid integer'),
    ],
)
def test_a_wrong_value_is_placed_and_explained(line: str, message: str, write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(write, line)
    assert message in str(caught.value)
    assert str(caught.value.where).endswith(f"a.toml:{line.count(chr(10)) + 2}")
    assert "float" not in str(caught.value).partition(":")[0]


def test_a_setting_of_several_types_is_one_mistake(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(write, "rank = 1\nheld = [1]")
    assert caught.value.what.startswith("adapter.held = [1]: input should be a valid number, or input should be")
    assert caught.value.details == ()


def test_every_mistake_of_a_table_is_told_at_once(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(write, "rate = 'x'\nflag = 2")
    assert "adapter.rank is required" in str(caught.value)
    assert "a.toml:2: adapter.rate" in str(caught.value)
    assert "a.toml:3: adapter.flag" in str(caught.value)


def test_an_unknown_setting_is_named_with_the_nearest(write: Write) -> None:
    with pytest.raises(RecipeError, match=r"unknown setting 'rnak' in \[adapter\]") as caught:
        checked(write, "rank = 1\nrnak = 2")
    assert str(caught.value.where).endswith("a.toml:3")
    assert caught.value.fix == "Did you mean 'rank'?"
    with pytest.raises(RecipeError, match="It takes: rank, rate, share"):
        checked(write, "rank = 1\nzzzzzz = 2")
    with pytest.raises(RecipeError, match="It takes no settings"):
        check_settings(Settings, {"a": 1}, Recipe({}), ("x",))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True])
def test_the_seed_is_a_whole_number_that_every_library_takes(seed: object) -> None:
    with pytest.raises(RecipeError, match="run.seed"):
        check_settings(RunSettings, {"seed": seed}, Recipe({}), ("run",))
