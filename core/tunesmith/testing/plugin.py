"""Fixtures for the tests of a plugin; pytest finds them through the entry point `tunesmith`.

Nothing is imported here before a test asks for a fixture, so that other projects' tests pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tunesmith.adapted import ModelHandle
    from tunesmith.context import Context
    from tunesmith.registry import Registry
    from tunesmith.testing.check import CheckResult, Examples


@pytest.fixture
def registry() -> Registry:
    """A registry without any plugin: what is installed here does not matter to the test."""
    from tunesmith.registry import Registry

    return Registry()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A context on the CPU whose folders are temporary."""
    from tunesmith.context import Context

    places = {name: tmp_path / name for name in ("recipe", "stage", "cache")}
    for place in places.values():
        place.mkdir()
    return Context(device="cpu", folder=places["recipe"], stage_folder=places["stage"], cache=places["cache"])


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """A two-layer random Llama, shared by all tests: do not change it."""
    from tunesmith.testing.tiny import tiny_model

    return tiny_model()


@pytest.fixture(scope="session")
def _tiny_handle() -> ModelHandle:
    from tunesmith.testing.tiny import tiny_handle

    return tiny_handle()


@pytest.fixture
def tiny_handle(_tiny_handle: ModelHandle) -> ModelHandle:
    """A handle of the tiny model with its tokenizer, frozen; a copy that the test may change."""
    import copy

    return copy.deepcopy(_tiny_handle)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and its tokenizer saved as a model folder, for whole runs: do not change it."""
    from tunesmith.testing.tiny import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def check_plugin() -> Callable[..., list[CheckResult]]:
    """A function that checks a plugin's module, or its local file, and fails with all that is wrong."""
    from tunesmith.registry import Registry
    from tunesmith.testing.check import check_plugin, failures

    def check(plugin: Any, examples: Examples | None = None) -> list[CheckResult]:
        registry = Registry()
        if isinstance(plugin, Path):
            registry.add_file(plugin)
        else:
            registry.add(plugin)
        results = check_plugin(registry.plugins[0].name, registry, examples)
        wrong = failures(results)
        if wrong:
            pytest.fail(f"{len(wrong)} of {len(results)} checks failed:\n" + "\n".join(wrong), pytrace=False)
        return results

    return check
