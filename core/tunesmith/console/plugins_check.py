"""`tunesmith plugins check`: a plugin against the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.console.opened import AsJson, Files
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.errors import MissingError, PluginError

if TYPE_CHECKING:
    from tunesmith.testing.result import CheckResult


def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plugin, a distribution or a component.")],
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """Test a plugin against the contract, on small models; exits with 69 when a check fails."""
    try:
        from tunesmith.testing.check import check_plugin
    except ImportError as error:
        raise MissingError(f"the conformance kit needs {error.name}", fix=f"pip install {error.name}") from error
    results = check_plugin(name, ctx.obj.registry(file or ()))
    failed = [result for result in results if not result.ok]
    if as_json:
        print_json(
            [{"name": r.name, "ok": r.ok, "detail": r.detail, "component": r.component or None} for r in results]
        )
    else:
        _draw(results)
    if failed:
        raise PluginError(
            f"plugin {name!r} fails {len(failed)} of {len(results)} checks",
            fix=f"Mend it, then again: tunesmith plugins check {name}",
        )
    note(f"all {len(results)} checks passed")
    next_steps(f"tunesmith plugins show {name}")


def _draw(results: Sequence[CheckResult]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(style="cyan")
    table.add_column()
    table.add_column(overflow="fold")
    for result in results:
        mark = Text("pass", style="green") if result.ok else Text("FAIL", style="bold red")
        table.add_row(mark, safe(result.name), safe(result.component), safe(result.detail))
    data_console().print(table)
