"""The conformance kit: checks that a plugin keeps the contract, and small models to test with.

`tunesmith plugins check NAME` runs it from the console. In a plugin's own tests it is a fixture, which pytest
finds by itself where Tunesmith is installed:

    def test_conformance(check_plugin):
        check_plugin(tunesmith_mymethod)

Importing this package imports no torch.
"""

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
