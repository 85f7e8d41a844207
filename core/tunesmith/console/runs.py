"""`tunesmith runs`: the runs below a folder, how far they are, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.console.opened import AsJson
from tunesmith.console.out import data_console, next_steps, note, number, print_json, safe
from tunesmith.errors import DataError
from tunesmith.folder import MANIFEST, METRICS, RunFolder
from tunesmith.shape import problems
from tunesmith.store import checkpoint_step, checkpoints, parse_json

TAIL = 1 << 16  # bytes of metrics.jsonl that are read for the last step
STYLES = {"done": "green", "running": "cyan", "failed": "red", "damaged": "red"}


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List runs with their status, steps and main measure, and how to go on with each."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", where=str(folder), fix="`tunesmith run RECIPE` makes one.")
    places = [folder] if (folder / MANIFEST).exists() else sorted(p.parent for p in folder.glob(f"*/{MANIFEST}"))
    found = [describe(place) for place in places]
    if as_json:
        print_json(found)
        return
    if not found:
        note(f"no runs in {folder}")
        next_steps("tunesmith run RECIPE")
        return
    _draw(found)
    last = found[-1]
    next_steps(next((run["next"] for run in reversed(found) if run["status"] == "interrupted"), last["next"]))


def describe(place: Path) -> dict[str, Any]:
    """One run as plain data; a folder whose files cannot be read is `damaged`.

    `measure` is the first measure of the last stage that has one: its name, `before` and `after`.
    """
    try:
        for path, said in problems(place).items():
            raise ValueError(f"{path.relative_to(place)}: {said}")
        return _described(place)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        unknown = dict.fromkeys(("stage", "step", "total_steps", "checkpoint", "measure", "created", "updated"))
        fix = f"tunesmith doctor {shlex.quote(str(place))}"
        return {"run": str(place), "status": "damaged", **unknown, "error": _reason(error), "next": fix}


def _reason(error: Exception) -> str:
    said = str(error) if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {error}"
    return said or type(error).__name__


def _described(place: Path) -> dict[str, Any]:
    folder = RunFolder(place)
    name = shlex.quote(str(place))
    manifest, state, status, results = folder.manifest, folder.state, folder.status, folder.results
    holder = folder.holder()
    if not manifest:
        raise ValueError(f"{MANIFEST} cannot be read")
    names = [stage["name"] for stage in manifest["plan"]["stages"]]
    if not names:
        raise ValueError(f"{MANIFEST} names no stage")
    stage = state.get("stage") or (list(results)[-1] if status == "done" and results else _last_stage(folder, names))
    training = results.get(stage, {}).get("training", {})
    record = _last_metrics(place)
    kept = [checkpoint_step(path) for path in checkpoints(_stage_folder(place, stage) / "checkpoints")]
    return {
        "run": str(place),
        "status": status,
        "stage": stage if len(names) > 1 else None,
        "step": training.get("steps") or record.get("step") or (kept[-1] if kept else None),
        "total_steps": training.get("total_steps"),
        "checkpoint": kept[-1] if kept else None,
        "measure": _measure(place, names, results),
        "created": manifest.get("created"),
        "updated": state.get("updated"),
        "error": (state.get("error") or None) if status == "failed" else None,
        "next": _next(name, status, holder),
    }


def _next(name: str, status: str, holder: Mapping[str, Any]) -> str:
    if status == "done":
        return f"tunesmith chat {name}"
    if status == "running":
        return f"held by process {holder.get('pid', '?')}; wait for it to end"
    return f"tunesmith resume {name}"


def _last_stage(folder: RunFolder, names: list[str]) -> str:
    record = _last_metrics(folder.path)
    return record["stage"] if record.get("stage") in names else names[0]


def _stage_folder(place: Path, stage: str) -> Path:
    from tunesmith.stage import stage_folder

    return stage_folder(place, stage)


def _last_metrics(place: Path) -> dict[str, Any]:
    """The last whole record of the metrics log; a line that a crash cut is passed over."""
    path = place / METRICS
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            return record
    return {}


def _measure(place: Path, names: list[str], results: Mapping[str, Any]) -> dict[str, Any] | None:
    for name in reversed(names):
        before = results.get(name, {}).get("before", {}).get("measures") or _before(place, name)
        after = results.get(name, {}).get("after", {}).get("measures", {})
        main = next(iter(after or before), None)
        if main is not None:
            values = {"before": before.get(main, {}).get("value"), "after": after.get(main, {}).get("value")}
            return {"name": main, **values, "better": (after or before)[main].get("better")}
    return None


def _before(place: Path, stage: str) -> dict[str, Any]:
    path = _stage_folder(place, stage) / "evaluation-before.json"
    try:
        return parse_json(path.read_text(encoding="utf-8"))["measures"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not measured yet


def _draw(found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("run", overflow="fold")
    for heading in ("status", "steps", "measure", "started"):
        table.add_column(heading, no_wrap=heading != "measure")
    for run in found:
        step = "" if run["step"] is None else str(run["step"])
        total = f"/{run['total_steps']}" if run["total_steps"] else ""
        stage = f" ({run['stage']})" if run["stage"] else ""
        started = (run["created"] or "")[5:16].replace("T", " ")
        table.add_row(
            safe(run["run"]),
            safe(run["status"], STYLES.get(run["status"], "yellow")),
            safe(f"{step}{total}{stage}"),
            safe(_shown(run["measure"])),
            safe(started, "dim"),
        )
    data_console().print(table)
    for run in found:
        if run["status"] != "done":
            reason = f": {str(run['error']).splitlines()[0]}" if run["error"] else ""
            note(f"{run['run']} ({run['status']}){reason}\n  {run['next']}")


def _shown(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return ""
    after = "…" if measure["after"] is None else number(measure["after"])
    before = "?" if measure["before"] is None else number(measure["before"])
    return f"{measure['name']} {before} → {after}"
