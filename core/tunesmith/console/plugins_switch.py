"""`tunesmith plugins enable` and `disable`: plugins switched off for good are not even imported."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.console.switching import switch

Name = Annotated[str, typer.Argument(metavar="NAME", help="A plugin or a distribution.")]


def disable(name: Name) -> None:
    """Switch a plugin off. `--no-plugin NAME` does so for one command."""
    switch(name, off=True)


def enable(name: Name) -> None:
    """Switch a plugin on again."""
    switch(name, off=False)
