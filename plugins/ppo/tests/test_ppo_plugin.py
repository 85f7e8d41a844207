"""The plugin as a whole."""

from __future__ import annotations

import tunesmith_ppo


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_ppo)
