"""Where Tunesmith keeps things of its own; light, so that a listing may ask."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where converted models and the like are kept: `$TUNESMITH_CACHE`, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("TUNESMITH_CACHE") or user_cache_path("tunesmith"))


def config_folder() -> Path:
    """Where the person's own choices are kept: `$TUNESMITH_CONFIG`, or the user's config folder."""
    from platformdirs import user_config_path

    return Path(os.environ.get("TUNESMITH_CONFIG") or user_config_path("tunesmith"))


def disabled_file() -> Path:
    """The list of the plugins that the person has switched off for good."""
    return config_folder() / "plugins.toml"
