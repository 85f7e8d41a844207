"""Finding plugins: real distributions in a folder on sys.path, so that the discovery code itself runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith import Adapter, MissingError, RecipeError, Registry, hookimpl
from tunesmith.registry import disabled_plugins, set_disabled

ADAPTER = """
import tunesmith
from tunesmith import Adapter, hookimpl

@hookimpl
def tunesmith_adapters():
    yield Adapter(name="{name}", summary="s", factory="a:b")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with one module on sys.path; only such distributions are discovered."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *(path for path in sys.path if "site-packages" not in path)])
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TUNESMITH_DISABLE", raising=False)
    before = set(sys.modules)

    def make(
        distribution: str,
        text: str | None,
        *,
        points: str | None = None,
        version: str = "1.0",
        metadata: str | None = None,
    ) -> None:
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)  # another test may have met a real one of that name
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        if metadata:
            (info / "METADATA").write_text(metadata)
        name = distribution.removeprefix("tunesmith-")
        (info / "entry_points.txt").write_text(points or f"[tunesmith]\n{name} = {module}\n")
        if text is not None:
            (site / f"{module}.py").write_text(text)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(registry: Registry) -> list[str]:
    return [entry.component.name for entry in registry.entries()]


def test_plugins_come_in_the_order_of_distribution_and_name(install: Install) -> None:
    for name in ("zeta", "alpha", "mid"):
        install(f"tunesmith-{name}", ADAPTER.format(name=name))
    install(
        "tunesmith-beta",
        ADAPTER.format(name="b-two"),
        points="[tunesmith]\nz = tunesmith_beta\na = tunesmith_beta_a\n",
    )
    registry = Registry.discover()
    assert [(plugin.distribution, plugin.name) for plugin in registry.plugins] == [
        ("tunesmith-alpha", "alpha"),
        ("tunesmith-beta", "a"),
        ("tunesmith-beta", "z"),
        ("tunesmith-mid", "mid"),
        ("tunesmith-zeta", "zeta"),
    ]
    assert names(registry) == ["alpha", "b-two", "mid", "zeta"]
    assert registry.plugins[0].version == "1.0"
    assert registry.plugins[0].location == "tunesmith_alpha"


HEAD = "from tunesmith import Adapter, Loader, hookimpl\n"
BROKEN = {
    "import crash": ("1/0", "ZeroDivisionError: division by zero"),
    "syntax": ("def f(:", "SyntaxError"),
    "exit at import": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "panic": ("class Panic(BaseException): pass\nraise Panic('rust')", "Panic: rust"),
    "message that fails": (
        "class Odd(Exception):\n    def __str__(self): return 1/0\nraise Odd()",
        "Odd: (its message cannot be shown: ZeroDivisionError)",
    ),
    "missing dependency": ("import no_such_library", "No module named 'no_such_library'"),
    "hook raises": (f"{HEAD}@hookimpl\ndef tunesmith_adapters(): raise KeyError('x')", "KeyError: 'x'"),
    "generator raises": (
        f"{HEAD}@hookimpl\ndef tunesmith_adapters():\n"
        "    yield Adapter(name='ok', summary='s', factory='a:b')\n    raise OSError('late')",
        "OSError: late",
    ),
    "bad record": (
        f"{HEAD}@hookimpl\ndef tunesmith_adapters(): yield Adapter(name='Not Kebab', summary='s', factory='a:b')",
        "kebab-case",
    ),
    "wrong record": (
        f"{HEAD}@hookimpl\ndef tunesmith_adapters(): yield Loader(name='x', summary='s', factory='a:b')",
        "tunesmith_adapters yielded Loader; it must yield Adapter records",
    ),
    "single record": (
        f"{HEAD}@hookimpl\ndef tunesmith_adapters(): return Adapter(name='x', summary='s', factory='a:b')",
        "tunesmith_adapters must yield Adapter records, not Adapter",
    ),
    "none": (f"{HEAD}@hookimpl\ndef tunesmith_adapters(): return None", "not NoneType"),
    "text": (f"{HEAD}@hookimpl\ndef tunesmith_adapters(): return 'lora'", "not str"),
    "name twice": (
        f"{HEAD}@hookimpl\ndef tunesmith_adapters():\n"
        "    for _ in range(2): yield Adapter(name='x', summary='s', factory='a:b')",
        "yields two adapters named 'x'",
    ),
    "misspelt": (
        f"{HEAD}@hookimpl\ndef tunesmith_adaptors(): return ()",
        "tunesmith_adaptors is not a hook of tunesmith; did you mean tunesmith_adapters?",
    ),
    "invented": (f"{HEAD}@hookimpl\ndef frobnicate(): return ()", "frobnicate is not a hook of tunesmith; there are:"),
    "unmarked": (f"{HEAD}def tunesmith_adapters(): return ()", "tunesmith_adapters is not marked with"),
    "unmarked and misspelt": (
        f"{HEAD}def tunesmith_adaptors(): return ()",
        "tunesmith_adaptors is not marked with @tunesmith.hookimpl and is not a hook; did you mean tunesmith_adapters?",
    ),
    "unknown argument": (f"{HEAD}@hookimpl\ndef tunesmith_step(loss): pass", "loss"),
    "empty": ("", "implements no hook"),
    "too new": (f"{HEAD}tunesmith_api_level = 99\n" + ADAPTER.format(name="x"), "needs API level 99"),
    "level of a wrong type": (f"{HEAD}tunesmith_api_level = '1'\n" + ADAPTER.format(name="x"), "TypeError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_reported_and_harms_no_other(case: str, install: Install) -> None:
    text, expected = BROKEN[case]
    install("tunesmith-aaa", ADAPTER.format(name="first"))
    install("tunesmith-broken", text)
    install("tunesmith-zzz", ADAPTER.format(name="last"))
    registry = Registry.discover()
    assert names(registry) == ["first", "last"]
    (problem,) = registry.problems
    assert problem.plugin.distribution == "tunesmith-broken"
    assert not problem.disabled
    assert expected in problem.reason
    assert registry.manager.list_name_plugin()
    assert not registry.manager.has_plugin("tunesmith-broken/broken")
    with pytest.raises(MissingError, match="plugin tunesmith-broken is broken: "):
        registry.find("adapter", "anything")


def test_an_entry_point_to_nothing_is_a_problem(install: Install) -> None:
    install("tunesmith-gone", None)
    install("tunesmith-half", ADAPTER.format(name="x"), points="[tunesmith]\nhalf = tunesmith_half:nothing\n")
    registry = Registry.discover()
    assert [problem.plugin.name for problem in registry.problems] == ["gone", "half"]
    assert "No module named 'tunesmith_gone'" in registry.problems[0].reason
    assert "AttributeError" in registry.problems[1].reason


@pytest.mark.parametrize("what", ["no metadata", "no name", "bad line"])
def test_damaged_metadata_of_one_distribution_is_a_problem(what: str, install: Install) -> None:
    install("tunesmith-good", ADAPTER.format(name="good"))
    if what == "bad line":
        install("tunesmith-bad", ADAPTER.format(name="bad"), points="[tunesmith]\nno equals sign\n")
    else:
        install("tunesmith-bad", ADAPTER.format(name="bad"), metadata="" if what == "no metadata" else "Version: 1\n")
    registry = Registry.discover()
    assert names(registry) == ["good"]
    assert [problem.plugin.distribution for problem in registry.problems] == ["tunesmith-bad"]
    assert "metadata is damaged" in registry.problems[0].reason


def test_a_damaged_distribution_that_is_no_plugin_is_ignored(install: Install) -> None:
    install("other", "", points="[console_scripts]\nno equals sign\n", metadata="")
    assert Registry.discover().problems == []


def test_of_a_distribution_that_is_installed_twice_the_first_counts(install: Install) -> None:
    install("tunesmith-x", ADAPTER.format(name="x"))
    install("tunesmith-x", None, version="2.0")
    assert len(Registry.discover().plugins) == 1


# --- blocking ---------------------------------------------------------------------------------
@pytest.mark.parametrize("spelling", ["tunesmith-trap", "tunesmith_trap", "trap", " Trap "])
@pytest.mark.parametrize("way", ["argument", "environment", "for good"])
def test_a_blocked_plugin_is_never_imported(
    way: str, spelling: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tunesmith-ok", ADAPTER.format(name="ok"))
    install("tunesmith-trap", f"open({str(tmp_path / 'imported')!r}, 'w')\n" + ADAPTER.format(name="trap"))
    disable: tuple[str, ...] = ()
    if way == "argument":
        disable = (spelling,)
    elif way == "environment":
        monkeypatch.setenv("TUNESMITH_DISABLE", f"other,{spelling},")
    else:
        set_disabled(spelling, True)
    registry = Registry.discover(disable=disable)
    assert names(registry) == ["ok"]
    assert not (tmp_path / "imported").exists()
    assert "tunesmith_trap" not in sys.modules
    (problem,) = registry.problems
    assert problem.disabled
    assert problem.plugin.distribution == "tunesmith-trap"


def test_what_is_disabled_for_good_can_be_enabled(install: Install) -> None:
    assert disabled_plugins() == []
    assert set_disabled("lora", True) == ["lora"]
    assert set_disabled("full", True) == ["full", "lora"]
    assert set_disabled("LoRA", False) == ["full"]
    assert disabled_plugins() == ["full"]


@pytest.mark.parametrize("text", ["disabled = 3", "disabled = 'lora'", "disabled = [1]", "not toml", "\udcff"])
def test_a_damaged_list_of_disabled_plugins_is_named(text: str, install: Install, tmp_path: Path) -> None:
    set_disabled("x", True)
    path = tmp_path / "config" / "plugins.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecipeError, match="cannot read the list of disabled plugins") as caught:
        Registry.discover()
    assert caught.value.where == str(path)


# --- names ------------------------------------------------------------------------------------
def test_two_plugins_with_one_name_are_an_error_only_when_it_is_used(install: Install) -> None:
    install("tunesmith-lora", ADAPTER.format(name="lora"))
    install("tunesmith-house", ADAPTER.format(name="lora"))
    install("stranger", ADAPTER.format(name="other"))
    registry = Registry.discover()
    assert registry.problems == []
    assert registry.get(Adapter, "other").name == "other"
    with pytest.raises(RecipeError, match="2 plugins offer the adapter 'lora'") as caught:
        registry.find("adapter", "lora", where="a.toml:3")
    assert caught.value.where == "a.toml:3"
    assert caught.value.fix is not None
    assert '`use = "house/lora"`' in caught.value.fix
    assert caught.value.details == ("house/lora  (tunesmith-house 1.0)", "lora/lora  (tunesmith-lora 1.0)")
    assert registry.find("adapter", "house/lora").plugin.distribution == "tunesmith-house"
    assert registry.find("adapter", "lora/lora").plugin.distribution == "tunesmith-lora"


def test_two_plugins_of_one_distribution_are_told_apart(install: Install, tmp_path: Path) -> None:
    for file in ("one", "two"):
        (tmp_path / f"{file}.py").write_text(ADAPTER.format(name="same"))
    registry = Registry.discover(files=[tmp_path / "one.py", tmp_path / "two.py"])
    with pytest.raises(RecipeError, match='`use = "one/same"`'):
        registry.find("adapter", "same")
    assert registry.find("adapter", "two/same").plugin.name == "two"


def test_an_unknown_name_says_which_package_has_it(install: Install) -> None:
    install("tunesmith-lora", ADAPTER.format(name="lora"))
    registry = Registry.discover()
    with pytest.raises(MissingError, match="Install it: pip install tunesmith-adalora") as caught:
        registry.find("adapter", "adalora", where="a.toml:9")
    assert str(caught.value).startswith("a.toml:9: there is no adapter named 'adalora' here")
    assert "installed adapters: lora" in str(caught.value)
    with pytest.raises(MissingError, match="Did you mean 'lora'"):
        registry.find("adapter", "lorra")
    with pytest.raises(MissingError, match="`tunesmith plugins list`"):
        registry.find("adapter", "zzzz")
    with pytest.raises(MissingError, match="installed trainers: none"):
        registry.find("trainer", "lora")


def test_an_unknown_name_says_what_is_disabled_or_broken(install: Install) -> None:
    install("tunesmith-adalora", "1/0")
    install("tunesmith-loha", ADAPTER.format(name="loha"))
    registry = Registry.discover(disable=["loha"])
    with pytest.raises(MissingError, match="pip install --force-reinstall tunesmith-adalora"):
        registry.find("adapter", "adalora")
    with pytest.raises(MissingError, match="Enable it: tunesmith plugins enable loha"):
        registry.find("adapter", "loha")


def test_what_a_component_requires_is_looked_up_without_importing(install: Install, tmp_path: Path) -> None:
    (tmp_path / "site" / "marker_library.py").write_text("raise SystemExit")
    record = Adapter(name="x", summary="s", factory="a:b", requires=("marker_library.sub", "json", "no_such_library"))
    registry = Registry()
    registry.add(SimpleNamespace(tunesmith_adapters=hookimpl(lambda: [record])), name="x")
    assert registry.problems == []
    assert registry.find("adapter", "x").missing() == ["no_such_library"]
    assert "marker_library" not in sys.modules


# --- local files ------------------------------------------------------------------------------
def test_a_local_file_is_a_plugin(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "my_method.py"
    path.write_text(ADAPTER.format(name="mine").replace("a:b", "tunesmith_local_my_method:apply") + "def apply(): 5")
    registry = Registry.discover(files=[path])
    entry = registry.find("adapter", "local/mine")
    assert entry.plugin.location == str(path)
    assert callable(entry.component.resolve())
    path.write_text(path.read_text() + "\n# changed\n")
    again = Registry.discover(files=[path])
    assert again.plugins[-1].version != entry.plugin.version, "the version of a file is its content"


def test_a_local_file_that_is_missing_or_broken(install: Install, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.py does not exist"):
        Registry.discover(files=[tmp_path / "nothing.py"])
    path = tmp_path / "broken_local.py"
    path.write_text("1/0")
    (problem,) = Registry.discover(files=[path]).problems
    assert "ZeroDivisionError" in problem.reason
    assert "tunesmith_local_broken_local" not in sys.modules


# --- observers --------------------------------------------------------------------------------
def observer(seen: list[Any], *, fail: bool = False) -> SimpleNamespace:
    def tunesmith_step(step: int) -> None:
        seen.append(step)
        if fail:
            raise SystemExit("no")

    def tunesmith_run_started() -> None:
        seen.append("start")

    return SimpleNamespace(
        tunesmith_step=hookimpl(tunesmith_step), tunesmith_run_started=hookimpl(tunesmith_run_started)
    )


def test_an_observer_that_raises_is_silenced_until_the_next_run() -> None:
    bad: list[Any] = []
    good: list[Any] = []
    said: list[str] = []
    registry = Registry()
    registry.add(observer(bad, fail=True), name="bad", distribution="tunesmith-bad", version="3")
    registry.add(observer(good), name="good")
    assert registry.problems == []
    for step in (1, 2):
        registry.notify("tunesmith_step", said.append, stage="main", step=step, metrics={})
    assert (bad, good) == ([1], [1, 2])
    assert said == [
        "observer tunesmith_step of plugin tunesmith-bad 3 failed and is off for the rest of this run: SystemExit: no"
    ]
    registry.notify("tunesmith_run_started", said.append, plan=None)
    registry.notify("tunesmith_step", said.append, stage="main", step=3, metrics={})
    assert (bad, good) == ([1, "start", 3], [1, 2, "start", 3])


def test_two_hundred_plugins(install: Install) -> None:
    for number in range(200):
        install(f"tunesmith-p{number:03d}", ADAPTER.format(name=f"p-{number}") if number % 10 else "1/0")
    registry = Registry.discover()
    assert len(registry.plugins) == 200
    assert len(registry.entries("adapter")) == 180
    assert len(registry.problems) == 20
    assert registry.get(Adapter, "p-199").name == "p-199"
