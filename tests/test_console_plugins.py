"""Commands about plugins, the schema of recipes, first recipes and the doctor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith import RecipeError
from tunesmith.console import listing_cache, main
from tunesmith.console.options import Options
from tunesmith.console.plugins_list import Chosen, listing, show

TOY = Path(__file__).with_name("test_console_toy.py")
FIELDS = {"name", "kind", "summary", "distribution", "version", "state", "reason"}

Output = tuple[int, str, str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, with no plugin installed but those that a test writes into `site/`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config"))
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    from importlib import metadata

    every = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda **_: every(path=[str(site)]))
    return tmp_path


@pytest.fixture
def call(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    def invoke(*words: str) -> Output:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return invoke


def install(home: Path, name: str, source: str) -> None:
    """A distribution with one module that is a plugin, as pip leaves it."""
    module = f"{name.replace('-', '_')}_{home.name.replace('-', '_')}"  # no test may meet another's module
    (home / "site" / f"{module}.py").write_text(source)
    info = home / "site" / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[tunesmith]\n{name.removeprefix('tunesmith-')} = {module}\n")


ADAPTER = """
from tunesmith import Adapter, hookimpl

@hookimpl
def tunesmith_adapters():
    yield Adapter(name="{name}", summary="Does {name}", factory="m:f")
"""


# --- list -------------------------------------------------------------------------------------
def test_list_shows_every_state(call: Callable[..., Output], home: Path) -> None:
    install(home, "tunesmith-good", ADAPTER.format(name="good"))
    install(home, "tunesmith-bad", "raise RuntimeError('broken on purpose')")
    install(home, "tunesmith-off", "raise RuntimeError('must not be imported')")
    assert call("plugins", "disable", "off")[0] == 0
    code, out, _ = call("plugins", "list", "--json", "--file", str(TOY))
    assert code == 0
    found = {(item["kind"], item["name"]): item for item in json.loads(out)}
    assert all(set(item) == FIELDS for item in found.values())
    good = found["adapter", "good"]
    assert good == {
        "name": "good",
        "kind": "adapter",
        "summary": "Does good",
        "distribution": "tunesmith-good",
        "version": "1.2",
        "state": "ready",
        "reason": None,
    }
    assert found["plugin", "bad"]["state"] == "broken"
    assert "RuntimeError: broken on purpose" in found["plugin", "bad"]["reason"]
    assert found["plugin", "off"]["state"] == "disabled"
    assert "plugins enable off" in found["plugin", "off"]["reason"]
    assert found["adapter", "distant"]["state"] == "missing"
    assert "no_such_package" in found["adapter", "distant"]["reason"]
    out = call("plugins", "list", "--file", str(TOY))[1]
    assert all(word in out for word in ("good", "bad", "off", "distant", "disabled", "broken", "missing", "ready"))


def test_list_of_one_kind(call: Callable[..., Output]) -> None:
    trainers = json.loads(call("plugins", "list", "--json", "--kind", "trainer", "--file", str(TOY))[1])
    assert [item["name"] for item in trainers] == ["pull", "blind"]
    code, _, err = call("plugins", "list", "--kind", "trianer")
    assert (code, "Did you mean 'trainer'?" in err) == (2, True)


def test_list_says_when_nothing_is_installed(call: Callable[..., Output]) -> None:
    code, out, err = call("plugins", "list")
    assert (code, out) == (0, "")
    assert "pip install" in err


def test_list_names_plugins_that_only_observe_and_names_taken_twice(call: Callable[..., Output], home: Path) -> None:
    observer = "from tunesmith import hookimpl\n\n@hookimpl\ndef tunesmith_run_started(plan): ...\n"
    install(home, "tunesmith-watch", observer)
    install(home, "tunesmith-one", ADAPTER.format(name="same"))
    install(home, "house", ADAPTER.format(name="same"))
    found = json.loads(call("plugins", "list", "--json")[1])
    assert [item["name"] for item in found if item["kind"] == "observer"] == ["watch"]
    reasons = {item["distribution"]: item["reason"] for item in found if item["name"] == "same"}
    assert 'use = "house/same"' in reasons["house"]
    assert 'use = "one/same"' in reasons["tunesmith-one"]


def test_a_plugin_can_be_left_out_for_one_command(call: Callable[..., Output], home: Path) -> None:
    install(home, "tunesmith-good", ADAPTER.format(name="good"))
    for words in (("--no-plugin", "good", "plugins", "list"), ("plugins", "list", "--no-plugin=tunesmith-good")):
        (item,) = json.loads(call(*words, "--json")[1])
        assert item["state"] == "disabled"
    (item,) = json.loads(call("plugins", "list", "--json")[1])
    assert item["state"] == "ready"


# --- the kept listing -------------------------------------------------------------------------
def test_a_listing_is_kept_until_a_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(home, "tunesmith-good", ADAPTER.format(name="good"))
    registry = Options().registry()
    found = listing(registry)
    assert listing_cache.load(()) is None
    listing_cache.save((), registry, found)
    assert listing_cache.load(()) == found
    assert listing_cache.load(("good",)) is None
    monkeypatch.setenv("TUNESMITH_DISABLE", "good")
    assert listing_cache.load(()) is None
    monkeypatch.delenv("TUNESMITH_DISABLE")
    (module,) = (home / "site").glob("*.py")
    module.write_text(ADAPTER.format(name="better"))
    assert listing_cache.load(()) is None


@pytest.mark.parametrize("change", ["install", "disable", "cut"])
def test_a_listing_is_made_again_after(change: str, home: Path) -> None:
    registry = Options().registry()
    listing_cache.save((), registry, [])
    assert listing_cache.load(()) == []
    if change == "install":
        install(home, "tunesmith-good", ADAPTER.format(name="good"))
    elif change == "disable":
        (home / "config").mkdir()
        (home / "config" / "plugins.toml").write_text('disabled = ["x"]\n')
    else:
        (kept,) = (home / "cache" / "listings").iterdir()
        kept.write_bytes(kept.read_bytes()[:40])
    assert listing_cache.load(()) is None


def test_a_listing_with_a_broken_plugin_is_not_kept(home: Path) -> None:
    install(home, "tunesmith-bad", "raise RuntimeError('broken on purpose')")
    registry = Options().registry()
    listing_cache.save((), registry, listing(registry))
    assert listing_cache.load(()) is None


def test_the_kept_listing_is_what_a_new_process_prints(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Options().registry()
    monkeypatch.delitem(sys.modules, "tunesmith.registry")  # as in a new process
    listing_cache.save((), registry, [{"name": "kept", "kind": "adapter"}])
    chosen = Chosen()
    chosen.as_json = True
    assert show(Options(), chosen) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "kept", "kind": "adapter"}]


# --- show, enable, disable, check, new --------------------------------------------------------
def test_show_tells_settings_with_their_meaning(call: Callable[..., Output]) -> None:
    (shown,) = json.loads(call("plugins", "show", "pull", "--file", str(TOY), "--json")[1])
    steps = shown["settings"][0]
    assert steps == {
        "name": "steps",
        "type": "int > 0",
        "required": False,
        "default": 4,
        "doc": "How many steps to take.",
    }
    assert shown["accepts"] == ["prompt-completion"]
    out = call("plugins", "show", "pairs", "--file", str(TOY))[1]
    assert "required" in out
    assert "How many rows are held out, from the end." in out
    assert len(json.loads(call("plugins", "show", "test_console_toy", "--file", str(TOY), "--json")[1])) == 8


def test_show_of_an_unknown_name(call: Callable[..., Output], home: Path) -> None:
    code, _, err = call("plugins", "show", "pul", "--file", str(TOY))
    assert (code, "Did you mean 'pull'?" in err) == (69, True)
    install(home, "tunesmith-bad", "raise RuntimeError('broken on purpose')")
    code, _, err = call("plugins", "show", "bad")
    assert code == 69
    assert "broken on purpose" in err


def test_disable_and_enable_are_remembered(call: Callable[..., Output], home: Path) -> None:
    install(home, "tunesmith-good", ADAPTER.format(name="good"))
    code, _, err = call("plugins", "disable", "goood")
    assert (code, "Did you mean 'good'?" in err) == (69, True)
    assert call("plugins", "disable", "tunesmith-good")[0] == 0
    assert json.loads(call("plugins", "list", "--json")[1])[0]["state"] == "disabled"
    assert call("plugins", "enable", "tunesmith-good")[0] == 0
    assert json.loads(call("plugins", "list", "--json")[1])[0]["state"] == "ready"


def test_check_of_a_broken_plugin_fails_by_name(call: Callable[..., Output], home: Path) -> None:
    install(home, "tunesmith-bad", "raise RuntimeError('broken on purpose')")
    code, out, err = call("plugins", "check", "bad")
    assert code == 69
    assert "FAIL" in out
    assert "broken on purpose" in " ".join(out.split())
    assert "fails" in err
    code, out, _ = call("plugins", "check", "bad", "--json")
    assert code == 69
    assert any(not result["ok"] for result in json.loads(out))


def test_new_writes_a_package_and_refuses_to_overwrite(call: Callable[..., Output], home: Path) -> None:
    code, out, err = call("plugins", "new", "tunesmith-mine", "--kind", "loader")
    assert code == 0
    assert all(Path(line).is_file() for line in out.splitlines())
    assert "pip install -e tunesmith-mine" in err
    assert call("plugins", "new", "tunesmith-mine")[0] == 2
    assert call("plugins", "new", "my_method.py")[:2] == (0, "my_method.py\n")
    assert call("plugins", "new", "tunesmith-x", "--kind", "adaptor")[0] == 2


# --- init ---
def test_init_refuses_to_overwrite_and_names_what_to_install(call: Callable[..., Output], home: Path) -> None:
    (home / "recipe.toml").write_text("mine")
    code, _, err = call("init")
    assert (code, "--force" in err) == (2, True)
    code, _, err = call("init", "--force")
    assert code == 69
    assert "pip install tunesmith-data" in err
    assert (home / "recipe.toml").read_text() == "mine"
    code, _, err = call("init", "new.toml", "--data", "rows.csv")
    assert (code, "tunesmith-data" in err) == (69, True)


# --- doctor -----------------------------------------------------------------------------------
def test_doctor_reports_the_machine_and_broken_plugins(call: Callable[..., Output], home: Path) -> None:
    code, out, _ = call("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["cpus_usable"] >= 1
    assert found["problems"] == []
    assert found["cache"]["folder"] == str(home / "cache")
    install(home, "tunesmith-bad", "raise RuntimeError('broken on purpose')")
    code, out, err = call("doctor")
    assert code == 69
    assert "broken on purpose" in out
    assert "plugins disable bad" in err


def test_doctor_finds_damage_and_what_still_serves(call: Callable[..., Output], home: Path) -> None:
    from tunesmith.folder import RunFolder
    from tunesmith.store import commit_folder, write_file

    run = home / "run-001"
    run.mkdir()
    folder = RunFolder(run)
    folder.write_recipe("")
    folder.write_manifest({"plan": {"stages": [{"name": "main"}]}})
    folder.set_state("running")
    for step in (1, 2):
        commit_folder(run / "checkpoints" / f"step-{step:06d}", lambda place: write_file(place / "w", "x"))
    assert json.loads(call("doctor", str(run), "--json")[1])["damaged"] == 0
    (run / "checkpoints" / "step-000002" / "w").write_text("y")
    code, out, err = call("doctor", str(run), "--json")
    found = json.loads(out)
    assert code == 65
    assert found["usable"]["main"]["checkpoint"].endswith("step-000001")
    assert [item["problems"] != [] for item in found["items"]] == [False, True]
    assert "tunesmith resume" in err
    assert "step-000001" in call("doctor", str(run))[1]


def test_a_broken_list_of_disabled_plugins_is_named(call: Callable[..., Output], home: Path) -> None:
    (home / "config").mkdir()
    (home / "config" / "plugins.toml").write_text("disabled = [")
    code, _, err = call("plugins", "list")
    assert code == RecipeError.exit_code
    assert "plugins.toml" in err
