"""What every test here starts from."""

from __future__ import annotations

import os

# pytest-xdist tells its workers a terminal's width, and the console would wrap its messages to it
os.environ.pop("COLUMNS", None)
