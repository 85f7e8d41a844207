"""Plugins that cannot be imported or used: help, listing and switching off still answer, and at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.battery import Recorder, amount

pytestmark = pytest.mark.fault("R15")

HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "numpy", "pandas", "pyarrow", "sklearn"}
FINE = """\
from tunesmith import Adapter, hookimpl

@hookimpl
def tunesmith_adapters():
    yield Adapter(name="{name}", summary="s", factory="{module}:apply", requires={requires})
"""
#: What is wrong, the text of the module, and what the listing says.
BROKEN = {
    "raises when imported": ("1/0", "ZeroDivisionError"),
    "exits when imported": ("import sys; sys.exit(0)", "SystemExit"),
    "ends the process when its hook is called": (
        "from tunesmith import hookimpl\n@hookimpl\ndef tunesmith_adapters():\n    raise SystemExit(3)",
        "SystemExit: 3",
    ),
    "imports what is not installed": ("import no_such_library", "No module named 'no_such_library'"),
    "needs a newer core": ("tunesmith_api_level = 99", "API level 99"),
    "is no Python": ("def f(:", "SyntaxError"),
    "yields one name twice": (
        FINE.format(name="same", module="m", requires=()) + '    yield from [Adapter(name="same", summary="s", '
        'factory="m:n")]\n',
        "two adapters named 'same'",
    ),
}
#: Entry points that lead nowhere.
NOWHERE = {
    "a module that is not there": ("no_such_module", "No module named"),
    "an attribute": ("os:nothing", "nothing"),
}
PROGRAM = """
import json, sys
from tunesmith.console import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
COMMANDS = (["--help"], ["plugins", "list"], ["plugins", "list", "--json"], ["plugins", "disable", "stranger-0"])


class Site:
    """A folder on the path with distributions that are plugins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "TUNESMITH_CACHE": str(folder / "cache"),
            "TUNESMITH_CONFIG": str(folder / "config"),
        }

    def put(self, name: str, text: str | None, point: str | None = None) -> None:
        """Install a distribution with one entry point, and its module unless there is none."""
        module = f"tunesmith_{name.replace('-', '_')}"
        info = self.folder / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tunesmith-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[tunesmith]\n{name} = {point or module}\n")
        if text is not None:
            (self.folder / f"{module}.py").write_text(text)

    def call(self, *words: str) -> tuple[int, str, str, float]:
        """Exit code, both streams and seconds of computing of a command in a process of its own; checks its imports."""
        command = [sys.executable, "-c", PROGRAM, *words]
        before = os.times()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        *said, modules = done.stderr.splitlines()
        assert not HEAVY & set(json.loads(modules)), words
        return done.returncode, done.stdout, "\n".join(said), seconds

    def answers(self) -> dict[str, float]:
        """Check that help, listing and switching off work; the seconds that each took."""
        took = {}
        for words in COMMANDS:
            code, _, err, seconds = self.call(*words)
            assert code == 0, err
            assert "Traceback" not in err
            took[" ".join(words)] = seconds
        return took


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def listed(site: Site, said: str) -> None:
    _, out, err, _ = site.call("plugins", "list")
    assert said in out + err
    assert "lora" in out
    site.answers()
    _, out, err, _ = site.call("plugins", "list")
    assert said not in out + err, "it is listed as broken though it is switched off"


@pytest.mark.parametrize("what", amount(tuple(BROKEN), ("exits when imported", "yields one name twice")))
def test_a_plugin_that_cannot_be_used_is_listed_with_the_reason(site: Site, fault: Recorder, what: str) -> None:
    text, said = BROKEN[what]
    with fault("R15", "a plugin that cannot be used").trial(what):
        site.put("stranger-0", text)
        listed(site, said)


@pytest.mark.parametrize("what", amount(tuple(NOWHERE), ("an attribute",)))
def test_an_entry_point_to_nothing(site: Site, fault: Recorder, what: str) -> None:
    point, said = NOWHERE[what]
    with fault("R15", "an entry point to nothing").trial(what):
        site.put("stranger-0", None, point)
        listed(site, said)


def test_a_component_whose_requirement_is_missing_is_listed_as_such(site: Site, fault: Recorder) -> None:
    with fault("R15", "a component whose requirement is missing").trial("requires"):
        site.put("stranger-0", FINE.format(name="wants", module="m", requires=("no_such_library",)))
        listed(site, "no_such_library")


def test_two_plugins_with_one_name_are_both_listed(site: Site, fault: Recorder) -> None:
    with fault("R15", "two plugins that offer one name").trial("lora"):
        site.put("stranger-0", FINE.format(name="lora", module="m", requires=()))
        _, out, _, _ = site.call("plugins", "list")
        assert "tunesmith-stranger-0" in out
        assert "tunesmith-lora" in out
        site.answers()


def test_two_hundred_plugins(
    site: Site, fault: Recorder, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(200):
        name = f"stranger-{number}"
        site.put(name, FINE.format(name=name, module="m", requires=()))
    with fault("R15", "200 plugins at once").trial("200"):
        took = site.answers()
        said = ", ".join(f"`{name}` {seconds:.2f}" for name, seconds in took.items())
        record_property("seconds", took)
        with capsys.disabled():
            print(f"\nwith 200 plugins, seconds of computing: {said}")
