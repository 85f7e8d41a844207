"""LongLoRA keeps the contract."""

import tunesmith_longlora


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_longlora)
