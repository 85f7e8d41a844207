"""`report.html`: one page that says what a run was, what it came to, and how to make it again.

The page needs no network and no scripts, and forbids both. What a model or a data file said is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.folder import METRICS, RECIPE, RunFolder
from tunesmith.markup import Html, element, pairs
from tunesmith.report_stage import lines_of, stage_section
from tunesmith.stage import stage_folder
from tunesmith.store import write_file

REPORT = "report.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write(run_folder: Path, status: str | None = None) -> Path:
    """Write the run's report from what its folder holds, and return its path.

    Args:
        status: what to say of the run; default: what its folder says.

    Raises:
        DataError: `run_folder` is no run folder.
        DiskError: the report cannot be written.
    """
    folder = RunFolder.open(run_folder)
    path = run_folder / REPORT
    write_file(path, page(folder, status or folder.status))
    return path


def page(folder: RunFolder, status: str) -> str:
    """The whole page."""
    manifest, results = folder.manifest, folder.results
    plans = {stage["name"]: stage for stage in manifest["plan"]["stages"]}
    metrics = lines_of(folder.path / METRICS)
    stages = [
        stage_section(
            stage_folder(folder.path, name),
            plans.get(name, {}),
            result,
            [line for line in metrics if line.get("stage") == name],
            heading=name if len(results) > 1 else None,
        )
        for name, result in results.items()
    ]
    body = element(
        "body",
        element("h1", folder.path.name),
        element("p", element("span", status, class_=f"status {status}"), f" · started {_when(manifest['created'])}"),
        *stages,
        element("h2", "Environment"),
        _environment(manifest),
        element("h2", "Recipe"),
        element("pre", (folder.path / RECIPE).read_text(encoding="utf-8").strip()),
    )
    return f"<!doctype html>\n{element('html', _head(folder.path.name), body, lang='en')}\n"


def _head(name: str) -> Html:
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{name} · Tunesmith"),
        element("style", Html(style)),
    )


def _environment(manifest: Mapping[str, Any]) -> Html:
    machine = manifest["environment"]
    told = {key: machine[key] for key in ("python", "platform", "cpus") if key in machine}
    return pairs({**told, **machine.get("libraries", {}), **manifest["plan"]["plugins"]}.items())


def _when(stamp: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return f"{stamp[:16].replace('T', ' ')} UTC" if stamp.endswith("+00:00") else stamp
