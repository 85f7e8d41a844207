"""The conformance kit on every soft prompt."""

from __future__ import annotations

import tunesmith_soft_prompts


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_soft_prompts)
