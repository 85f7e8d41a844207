"""The conformance kit on this plugin."""

from __future__ import annotations

from collections.abc import Callable

import tunesmith_torchao


def test_the_kit_passes(check_plugin: Callable[..., object]) -> None:
    assert check_plugin(tunesmith_torchao)
