"""What a component lets out: a defect of its plugin, a value that a library refuses, a package that is not here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import tomli_w

from tunesmith import Loader, MissingError, PluginError
from tunesmith.blame import failure


def own() -> None:
    raise ValueError("of its own")


def library() -> None:
    tomli_w.dumps({"a": object()})


def in_python() -> None:
    json.loads("{")


def absent() -> None:
    import a_package_that_is_not_here  # noqa: F401


def told(raises: Callable[[], Any]) -> PluginError | MissingError:
    component = Loader(name="house", summary="A loader", factory=own)
    with pytest.raises((ValueError, TypeError, ImportError)) as caught:
        raises()
    return failure(component, "tunesmith-house", "1.0", caught.value)


def test_the_plugin_s_own_code_is_its_defect() -> None:
    error = told(own)
    assert isinstance(error, PluginError)
    assert error.what == "loader 'house' of tunesmith-house 1.0 failed: ValueError: of its own"
    assert "defect of that plugin" in str(error.fix)
    assert str(error.where).startswith(__file__)


@pytest.mark.parametrize(("raises", "name"), [(in_python, "Python"), (library, "tomli_w")])
def test_what_a_library_refuses_is_looked_for_in_the_settings_first(raises: Callable[[], Any], name: str) -> None:
    error = told(raises)
    assert isinstance(error, PluginError)
    assert f"{name} refuses what it was given" in error.what
    assert "defect" not in str(error)
    assert "settings in [data]" in str(error.fix)


def test_a_package_that_a_setting_asks_for_is_named() -> None:
    error = told(absent)
    assert not isinstance(error, PluginError)
    assert "needs the package 'a_package_that_is_not_here', which is not installed here" in error.what
    assert "defect" not in str(error)
