"""`tunesmith doctor`: this machine, or the files of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tunesmith.console.opened import AsJson
from tunesmith.console.out import data_console, next_steps, note, print_json, safe, size
from tunesmith.errors import DataError, LockedError, MissingError


def doctor(
    ctx: typer.Context,
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run's folder, to verify its files.")] = None,
    as_json: AsJson = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what killed commands left half-made.")] = False,
) -> None:
    """Look over this machine and the plugins; with RUN, verify its checkpoints and artifacts.

    Exits with 65 when a file of the run is damaged, with 69 when a plugin is broken.
    """
    from tunesmith.doctor import examine, machine

    if run is not None:
        found = examine(run)
        if clean:
            if found["status"] == "running":
                raise LockedError(f"run {run.name} is under way", where=str(run), fix="Wait for it to end.")
            _clean(found)
        print_json(found) if as_json else _draw_run(found)
        _end_run(found, run)
        return
    found = machine(ctx.obj.registry())
    if clean:
        _clean(found)
    print_json(found) if as_json else _draw_machine(found)
    if found["problems"]:
        names = [problem["plugin"] for problem in found["problems"]]
        raise MissingError(
            f"{len(names)} plugin{'s are' if len(names) > 1 else ' is'} broken: {', '.join(names)}",
            fix=f"Mend or reinstall, or switch off: tunesmith plugins disable {names[0]}",
        )
    next_steps("tunesmith plugins list", "tunesmith init")


def _clean(found: dict[str, Any]) -> None:
    """Remove the leftovers; those that could not be removed stay in the report."""
    from tunesmith.doctor import clean

    left = [str(path) for path in clean(map(Path, found["leftovers"]))]
    for path in found["leftovers"]:
        note(f"removed: {path}" if path not in left else f"cannot be removed: {path}")
    found["leftovers"] = left


def _end_run(found: dict[str, Any], run: Path) -> None:
    whole = all(kept["artifact"] for kept in found["usable"].values())
    again = f"tunesmith resume {run}"
    if found["damaged"]:
        raise DataError(
            f"{found['damaged']} of {len(found['items'])} files and folders are damaged",
            where=str(run),
            fix=f"The artifacts are whole: tunesmith chat {run}" if whole else f"What is whole goes on: {again}",
        )
    if found["status"] == "running":
        next_steps("tunesmith runs")
    else:
        next_steps(f"tunesmith chat {run}" if found["status"] == "done" else again)


def _draw_run(found: dict[str, Any]) -> None:
    console = data_console()
    console.print(safe(f"{found['run']} is {found['status']}"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for item in found["items"]:
        mark = Text("damaged", style="bold red") if item["problems"] else Text("whole", style="green")
        path = str(Path(item["path"]).relative_to(found["run"]))
        table.add_row(mark, safe(path), safe("; ".join(item["problems"][:3])))
    console.print(table if found["items"] else "nothing was committed yet")
    for name, kept in found["usable"].items():
        label = f"stage {name}: " if len(found["usable"]) > 1 else ""
        newest = Path(kept["checkpoint"]).name if kept["checkpoint"] else "none, so training would begin again"
        artifact = "whole" if kept["artifact"] else "none that can be used"
        console.print(safe(f"{label}newest whole checkpoint: {newest}; artifact: {artifact}"))
    for path in found["leftovers"]:
        console.print(safe(f"left by a kill, removed at the next start or by --clean: {path}", "dim"))


def _draw_machine(found: dict[str, Any]) -> None:
    console = data_console()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    memory = found["memory"]
    shown = [f"{size(memory['total'])} in all"] if memory["total"] else []
    shown += [f"{size(memory['available'])} free"] if memory["available"] else []
    shown += [f"limited to {size(memory['limit'])}"] if memory["limit"] else []
    devices = [f"{gpu['device']} {gpu['name']}" for gpu in found["gpus"]["found"]]
    free = f", {size(found['cache']['free'])} free there" if found["cache"]["free"] else ""
    for label, text in (
        ("python", f"{found['python']}  {found['executable']}"),
        ("system", found["platform"]),
        ("cores", f"{found['cpus_usable']} usable of {found['cpus']}"),
        ("memory", ", ".join(shown) or "unknown"),
        ("gpu", "; ".join([*devices, found["gpus"]["note"]])),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found["libraries"].items()) or "none"),
        ("cache", f"{found['cache']['folder']} ({size(found['cache']['bytes'])}{free})"),
        ("config", found["config"]),
        ("plugins", ", ".join(f"{p['name']} {p['version']}" for p in found["plugins"]) or "none"),
        ("disabled", ", ".join(found["disabled"])),
    ):
        if text:
            grid.add_row(label, safe(text))
    console.print(grid)
    for item in found["missing"]:
        console.print(safe(f"{item['kind']} {item['name']} needs {', '.join(item['needs'])}", "yellow"))
    for path in found["leftovers"]:
        console.print(safe(f"left by a kill, removed by --clean: {path}", "yellow"))
    for problem in found["problems"]:
        console.print(Text.assemble(safe(f"{problem['plugin']} is broken: ", "bold red"), safe(problem["reason"])))
