"""Strangers' plugins that are broken, as a local file and as an installed distribution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

MISSING, RECIPE = 69, 78

HOOK = "from tunesmith import hookimpl\n@hookimpl\ndef "
ADAPTER = """\
from tunesmith import Adapter, hookimpl

@hookimpl
def tunesmith_adapters():
    yield Adapter(name="{name}", summary="s", factory="{module}:apply")

def apply(handle, settings, context):
    {body}
"""


class Shelf:
    """Puts a plugin's text where a recipe finds it, and takes it away from Python's memory."""

    def __init__(self, house: Any, installed: bool) -> None:
        self.house = house
        self.installed = installed

    def put(self, name: str, text: str) -> str:
        """Returns how messages name the plugin."""
        module = f"tunesmith_{name}" if self.installed else f"tunesmith_local_{name}"
        text = text.replace("{module}", module)
        if not self.installed:
            self.house.write(f"{name}.py", text)
            self.house.content.setdefault("plugins", []).append(f"{name}.py")
            return "local"
        site = self.house.folder / "site"
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tunesmith-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[tunesmith]\n{name} = {module}\n")
        (site / f"{module}.py").write_text(text)
        return f"tunesmith-{name}"


@pytest.fixture(params=[False, True], ids=["local file", "installed"])
def shelf(house: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    (house.folder / "site").mkdir()
    monkeypatch.syspath_prepend(house.folder / "site")
    before = set(sys.modules)
    yield Shelf(house, request.param)
    for name in set(sys.modules) - before:
        if name.startswith("tunesmith_") and "stranger" in name:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("x = 1", "implements no hook"),
        (
            "from tunesmith import hookimpl\n@hookimpl\ndef tunesmith_adapter(): yield",
            "did you mean tunesmith_adapters",
        ),
        ("from tunesmith import hookimpl\n@hookimpl\ndef tunesmith_adapters(): return 3", "Adapter records"),
        ("tunesmith_api_level = 99", "API level 99"),
    ],
)
def test_a_plugin_that_cannot_be_read(house: Any, shelf: Shelf, text: str, said: str) -> None:
    named = shelf.put("stranger", text)
    house.recipe({"adapter": {"use": "strange"}})
    house.refused(MISSING, "no adapter named 'strange'", f"plugin {named} is broken: ", said, before_the_run=True)


def test_a_broken_plugin_stops_no_run_that_does_without_it(house: Any, shelf: Shelf) -> None:
    shelf.put("stranger", "import sys; sys.exit(0)")
    house.recipe()
    ended = house.call("run", "recipe.toml")
    assert ended.code == 0, ended.err
    listed = house.call("plugins", "list")
    assert listed.code == 0
    assert ("SystemExit" in listed.out) == shelf.installed


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no luck')", "ValueError: no luck"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("return None", "returned NoneType; the contract says Adapted or a torch module"),
        ("return 'adapted'", "returned str; the contract says Adapted or a torch module"),
        ("return handle.model", "leaves nothing to train"),
        ("raise RuntimeError()", "RuntimeError"),
        ("raise type('Panic', (BaseException,), {})('rust')", "Panic: rust"),
    ],
)
def test_an_adapter_that_fails(house: Any, shelf: Shelf, body: str, said: str) -> None:
    named = shelf.put("stranger", ADAPTER.replace("{name}", "strange").replace("{body}", body))
    house.recipe({"adapter": {"use": "strange"}})
    message = house.refused(MISSING, said)
    assert "'strange'" in message
    assert named in message


@pytest.mark.parametrize("factory", ["no_such_module:apply", "{module}:aply", "{module}:tunesmith_api_level"])
def test_a_factory_that_is_not_there(house: Any, shelf: Shelf, factory: str) -> None:
    text = ADAPTER.replace("{module}:apply", factory).replace("{name}", "strange").replace("{body}", "pass")
    shelf.put("stranger", f"{text}\ntunesmith_api_level = 1\n")
    house.recipe({"adapter": {"use": "strange"}})
    house.refused(MISSING, "'strange'", factory.rpartition(":")[2])


def test_two_plugins_with_one_name(house: Any, shelf: Shelf) -> None:
    named = shelf.put("stranger", ADAPTER.replace("{name}", "lora").replace("{body}", "raise ValueError('the other')"))
    house.recipe({"adapter": {"use": "lora"}})
    house.refused(RECIPE, "2 plugins offer the adapter 'lora'", named, 'use = "lora/lora"', before_the_run=True)
    house.recipe({"adapter": {"use": f"{named.removeprefix('tunesmith-')}/lora"}})
    house.refused(MISSING, "the other")


def test_one_name_is_no_trouble_when_the_recipe_says_which(house: Any, shelf: Shelf) -> None:
    shelf.put("stranger", ADAPTER.replace("{name}", "lora").replace("{body}", "raise ValueError('the other')"))
    house.recipe({"adapter": {"use": "lora/lora"}})
    assert house.call("run", "recipe.toml").code == 0


@pytest.mark.parametrize("body", ["1/0", "import sys; sys.exit(0)"])
def test_an_observer_that_fails_is_switched_off(house: Any, shelf: Shelf, body: str) -> None:
    text = f"{HOOK}tunesmith_step(stage, step, metrics):\n    {body}\n"
    shelf.put("stranger", text)
    house.recipe()
    ended = house.call("run", "recipe.toml")
    assert ended.code == 0, ended.err
    assert ended.err.count("observer tunesmith_step of plugin") == 1
    assert "Traceback" not in ended.err
