"""How the conformance kit finds what to check, and what it tries it with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tunesmith import MissingError, Registry
from tunesmith.testing import CheckResult, check_plugin
from tunesmith.testing.scaffold import write_file, write_package

LIGHT = '''
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Exporter, Gt, Loader, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    path: str
    """The file."""


@dataclass(frozen=True, kw_only=True)
class Lines(Base):
    count: Annotated[int, Gt(0)] = 3
    """Rows."""


def load(settings, context):
    return (settings.path, getattr(settings, "count"))


@dataclass(frozen=True, kw_only=True)
class Whole(Settings):
    level: int = 1
    """Level."""
    name: str = "x"
    """Name."""


class Packer:
    """Not the settings: what it calls level is its own."""

    def level_of(self):
        return self.level


def export(artifact, settings, context):
    return settings.name


@hookimpl
def tunesmith_loaders():
    yield Loader(name="lines", summary="Lines", settings=Lines, factory=load)


@hookimpl
def tunesmith_exporters():
    yield Exporter(name="pack", summary="Pack", settings=Whole, factory=export)
'''


@pytest.fixture
def light(tmp_path: Path, registry: Registry) -> Registry:
    path = tmp_path / "light_plugin.py"
    path.write_text(LIGHT, encoding="utf-8")
    registry.add_file(path)
    return registry


def by_name(results: list[CheckResult], component: str) -> dict[str, CheckResult]:
    return {result.name: result for result in results if result.component == component}


@pytest.mark.parametrize("name", ["light_plugin", "Light-Plugin", "local"])
def test_a_plugin_or_distribution_name_means_all_its_components(light: Registry, name: str) -> None:
    assert {result.component for result in check_plugin(name, light)} == {"", "loader lines", "exporter pack"}


@pytest.mark.parametrize("name", ["pack", "local/pack"])
def test_a_component_name_means_that_component(light: Registry, name: str) -> None:
    assert {result.component for result in check_plugin(name, light)} == {"", "exporter pack"}


def test_an_unknown_name_gets_the_nearest_one(light: Registry) -> None:
    with pytest.raises(MissingError, match="Did you mean 'pack'"):
        check_plugin("pakc", light)


def test_a_disabled_plugin_is_not_checked(light: Registry) -> None:
    from tunesmith.discovery import Plugin, Problem

    off = Plugin("off", "tunesmith-off", "1")
    light.plugins.append(off)
    light.problems.append(Problem(off, "disabled", disabled=True))
    with pytest.raises(MissingError, match="plugins enable off"):
        check_plugin("off", light)


def test_damaged_metadata_is_told(light: Registry) -> None:
    from tunesmith.discovery import Plugin, Problem

    torn = Plugin("torn", "torn", "0")
    light.problems.append(Problem(torn, "its metadata is damaged: ValueError"))
    (result,) = check_plugin("torn", light)
    assert (result.name, result.ok) == ("registers", False)
    assert "metadata is damaged" in result.detail


def test_a_plugin_that_cannot_be_imported_fails_to_register(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "broken_plugin.py"
    path.write_text("import no_such_module\n", encoding="utf-8")
    registry.add_file(path)
    (result,) = check_plugin("broken_plugin", registry)
    assert (result.name, result.ok) == ("registers", False)
    assert "no_such_module" in result.detail


def test_required_settings_are_no_fault_of_a_loader(light: Registry) -> None:
    result = by_name(check_plugin("lines", light), "loader lines")["settings-defaults"]
    assert result.ok
    assert result.detail == "required: path"


def test_an_example_is_checked_against_the_settings(light: Registry) -> None:
    good, bad = {"path": "a", "count": 2}, {"path": "a", "count": 0}
    results = [r for r in check_plugin("lines", light, {"lines": [good, bad]}) if r.name == "settings-defaults"]
    assert [result.ok for result in results] == [True, False]
    assert "count" in results[1].detail


def test_inherited_settings_and_getattr_count_as_read(light: Registry) -> None:
    results = by_name(check_plugin("lines", light), "loader lines")
    assert results["settings-read"].ok
    assert results["settings-documented"].detail == "2 settings documented"


def test_an_attribute_of_another_object_is_not_the_setting(light: Registry) -> None:
    result = by_name(check_plugin("pack", light), "exporter pack")["settings-read"]
    assert not result.ok
    assert "nothing reads level" in result.detail


def test_settings_handed_on_as_a_whole_count_as_read(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "whole_plugin.py"
    text = LIGHT.replace("return settings.name", "return dataclasses.asdict(settings)")
    path.write_text("import dataclasses\n" + text, encoding="utf-8")
    registry.add_file(path)
    assert by_name(check_plugin("pack", registry), "exporter pack")["settings-read"].ok


def test_a_missing_requirement_is_named(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "needy_plugin.py"
    path.write_text(LIGHT.replace('name="pack",', 'name="pack", requires=("no_such",),'), encoding="utf-8")
    registry.add_file(path)
    result = by_name(check_plugin("pack", registry), "exporter pack")["factories-resolve"]
    assert not result.ok
    assert "no_such" in result.detail


def test_every_example_of_an_adapter_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "package", "tunesmith-examples", "adapter")
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    registry = Registry()
    registry.add(importlib.import_module("tunesmith_examples"))
    examples: dict[str, Any] = {"examples": [{"targets": ["o_proj"]}, {"targets": ["lm_head"]}]}
    merged = [r for r in check_plugin("examples", registry, examples) if r.name == "merge-equal"]
    assert [r.component for r in merged] == [
        "adapter examples targets=['o_proj']",
        "adapter examples targets=['lm_head']",
    ]
    assert all(r.ok for r in merged)


def test_an_adapter_with_required_settings_needs_an_example(tmp_path: Path, registry: Registry) -> None:
    path = write_file(tmp_path / "strict_method.py")
    text = path.read_text(encoding="utf-8").replace(' = ("q_proj", "v_proj")', "")
    path.write_text(text, encoding="utf-8")
    registry.add_file(path)
    failed = {r.name: r.detail for r in check_plugin("strict-method", registry) if not r.ok}
    assert list(failed) == ["settings-defaults"]
    assert "targets" in failed["settings-defaults"]

    path.write_text(text + '\ntunesmith_examples = {"strict-method": {"targets": ["q_proj"]}}\n', encoding="utf-8")
    again = Registry()
    again.add_file(path)
    assert all(result.ok for result in check_plugin("strict-method", again))


def test_a_single_local_file_passes_every_check(tmp_path: Path, check_plugin: Any) -> None:
    results = check_plugin(write_file(tmp_path / "my_method.py"))
    assert {"listing-light", "merge-equal", "resume-equal"} <= {result.name for result in results}


def test_the_fixture_fails_with_every_finding(light: Registry, tmp_path: Path, check_plugin: Any) -> None:
    with pytest.raises(pytest.fail.Exception, match="settings-read: nothing reads level"):
        check_plugin(tmp_path / "light_plugin.py")
