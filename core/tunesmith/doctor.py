"""Looking over the machine and a run's files: what is there, what is damaged, what can still be used."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith import shape
from tunesmith.artifact import CARD
from tunesmith.folder import MANIFEST, STATE, RunFolder, environment
from tunesmith.places import cache_folder, config_folder
from tunesmith.registry import Registry, disabled_plugins
from tunesmith.stage import stage_folder
from tunesmith.staging import left_in, left_in_scratch, remove
from tunesmith.store import STAGING, checkpoints, damage


def machine(registry: Registry) -> dict[str, Any]:
    """The surroundings of a run here, as plain data."""
    cache = cache_folder()
    return {
        **{key: value for key, value in environment().items() if key not in ("command", "host")},
        "executable": sys.executable,
        "cpus_usable": usable_cpus(),
        "memory": memory(),
        "gpus": gpus(),
        "cache": {"folder": str(cache), "bytes": _bytes(cache), "free": _free(cache)},
        "config": str(config_folder()),
        "plugins": [
            {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
            for plugin in registry.plugins
        ],
        "disabled": disabled_plugins(),
        "leftovers": [str(path) for path in leftovers(Path())],
        "problems": [
            {"plugin": problem.plugin.name, "distribution": problem.plugin.distribution, "reason": problem.reason}
            for problem in registry.problems
            if not problem.disabled
        ],
        "missing": [
            {"name": e.component.name, "kind": e.component.kind, "needs": e.missing()}
            for e in registry.entries()
            if e.missing()
        ],
    }


def leftovers(here: Path) -> list[Path]:
    """What killed commands left half-made: in the cache, among the temporary files, and in `here`."""
    cache = cache_folder()
    places = [cache, *(path for path in sorted(cache.glob("*")) if path.is_dir()), config_folder(), here]
    found = [path for place in places if place.is_dir() for path in left_in(place)]
    return [*found, *left_in_scratch()]


def clean(paths: Iterable[Path]) -> list[Path]:
    """Remove what was left half-made, or put back what a kill caught between two renames; those that stayed."""
    listed = list(paths)
    for path in listed:
        remove(path)
    return [path for path in listed if os.path.lexists(path)]


def usable_cpus() -> int:
    """Cores that this process may use, which a container may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def memory() -> dict[str, int | None]:
    """Bytes of memory: all, free for use, and the limit of the container."""
    found: dict[str, int | None] = {"total": None, "available": None, "limit": None}
    # each of these is told where the system tells it
    with suppress(OSError, ValueError):
        found["total"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found["available"] = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError):
        found["limit"] = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    return found


def gpus() -> dict[str, Any]:
    """The GPUs that torch sees; torch is imported only where the machine may have one."""
    possible = (
        shutil.which("nvidia-smi") is not None
        or Path("/proc/driver/nvidia").exists()
        or Path("/dev/kfd").exists()
        or (sys.platform == "darwin" and platform.machine() == "arm64")
    )
    if find_spec("torch") is None:
        return {"found": [], "note": "torch is not installed"}
    if not possible:
        return {"found": [], "note": "none on this machine"}
    import torch

    if torch.cuda.is_available():
        found = []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append({"device": f"cuda:{index}", "name": properties.name, "memory": properties.total_memory})
        return {"found": found, "note": f"torch {torch.__version__}"}
    if torch.backends.mps.is_available():
        return {"found": [{"device": "mps", "name": "Apple GPU", "memory": None}], "note": f"torch {torch.__version__}"}
    return {"found": [], "note": f"this machine has a GPU driver, but torch {torch.__version__} cannot use it"}


def examine(path: Path) -> dict[str, Any]:
    """Verify every checkpoint and artifact of a run against its digests.

    Returns:
        `items` (path, kind, problems), `damaged` (how many), `usable`: the newest whole checkpoint of each stage
        and the whole artifacts.

    Raises:
        DataError: `path` is no run folder.
    """
    folder = RunFolder.open(path, look=False)
    changed = shape.problems(path)
    items: list[dict[str, Any]] = [
        {"path": str(file), "kind": "file", "stage": None, "problems": [said]} for file, said in changed.items()
    ]
    readable = path / MANIFEST not in changed
    stages = folder.manifest.get("plan", {}).get("stages", []) if readable else []
    names = [stage["name"] for stage in stages if "name" in stage] or ["main"]
    usable: dict[str, dict[str, str | None]] = {}
    leftovers: list[str] = []
    for name in names:
        place = stage_folder(path, name)
        good = None
        for checkpoint in checkpoints(place / "checkpoints"):
            problems = damage(checkpoint)
            items.append({"path": str(checkpoint), "kind": "checkpoint", "stage": name, "problems": problems})
            good = good if problems else str(checkpoint)
        artifact = place / "artifact"
        whole = None
        if artifact.exists():
            problems = damage(artifact)
            if not (artifact / CARD).is_file() and not any(CARD in problem for problem in problems):
                problems.append(f"{CARD}: missing")
            items.append({"path": str(artifact), "kind": "artifact", "stage": name, "problems": problems})
            whole = None if problems else str(artifact)
        usable[name] = {"checkpoint": good, "artifact": whole}
        leftovers.extend(str(p) for base in (place, place / "checkpoints") for p in sorted(base.glob(f"{STAGING}*")))
    return {
        "run": str(path),
        "status": "damaged" if path / STATE in changed else folder.status,
        "items": items,
        "damaged": sum(bool(item["problems"]) for item in items),
        "usable": usable,
        "leftovers": leftovers,
    }


def _bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def _free(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
