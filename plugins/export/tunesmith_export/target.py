"""The folder that an export fills: never one that holds anything else."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith import Context, RecipeError
from tunesmith.artifact import CARD, read_card
from tunesmith.folder import check_writable
from tunesmith.store import DIGESTS
from tunesmith_export.settings import ExportSettings

#: A file of every folder that these exporters write.
MARK = "export.json"


def target_of(name: str, artifact: Path, settings: ExportSettings, context: Context) -> Path:
    """Where the exporter `name` shall write.

    Raises:
        DiskError: nothing can be written there.
        RecipeError: the folder holds something else, is an earlier export that shall stay, or overlaps the artifact.
    """
    target = context.path(settings.to) if settings.to else context.stage_folder / "export" / name
    kept, place = artifact.resolve(), target.resolve()
    if place.is_relative_to(kept) or kept.is_relative_to(place):
        raise RecipeError(
            f"{target} overlaps the artifact that is exported", where=str(artifact), fix="Name a folder of its own."
        )
    check_writable(target.parent, "folder", "Name a folder in another place.")
    if not target.exists() and not target.is_symlink():
        return target
    if not _is_export(target):
        raise RecipeError(
            f"{target} exists and is no earlier export", where=str(target), fix="Name a folder that is not there yet."
        )
    again = context.resume and _same_stage(target, artifact)  # what this very stage wrote before it was interrupted
    if not (settings.overwrite or again):
        raise RecipeError(
            f"{target} exists already",
            where=str(target),
            fix="Name another folder, or set overwrite = true to replace it.",
        )
    return target


def _same_stage(folder: Path, artifact: Path) -> bool:
    """Whether an export was made by the run and stage whose artifact this is."""
    try:
        made_of = json.loads((folder / MARK).read_text(encoding="utf-8"))["artifact"]
        return all(made_of[key] == read_card(artifact)[key] for key in ("run", "stage", "fingerprint"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_export(folder: Path) -> bool:
    real = folder.is_dir() and not folder.is_symlink()
    return real and (folder / MARK).is_file() and (folder / DIGESTS).is_file() and not (folder / CARD).exists()
