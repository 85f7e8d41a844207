"""The conformance kit: checks that a plugin keeps the contract, and small models to test with.

`tunesmith plugins check NAME` runs it from the console. In a plugin's own tests it is a fixture, which pytest
finds by itself where Tunesmith is installed:

    def test_conformance(check_plugin):
        check_plugin(tunesmith_mymethod)

Each name is imported when it is first asked for, since pytest imports this package in every project's tests.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.testing.check import Examples, check_plugin
    from tunesmith.testing.result import CheckResult
    from tunesmith.testing.tiny import tiny_folder, tiny_handle, tiny_model, tiny_tokenizer

__all__ = [
    "CheckResult",
    "Examples",
    "check_plugin",
    "tiny_folder",
    "tiny_handle",
    "tiny_model",
    "tiny_tokenizer",
]

_HOMES = {"CheckResult": "result", "Examples": "check", "check_plugin": "check"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'tiny')}"), name)
