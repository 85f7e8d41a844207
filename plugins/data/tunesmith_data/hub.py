"""The loader of the Hugging Face hub, by `datasets.load_dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith import Context, DataError, Dataset, MissingError
from tunesmith_data import checks
from tunesmith_data.arrow import of_row
from tunesmith_data.collect import collect
from tunesmith_data.raw import Raw
from tunesmith_data.settings import HubSettings


def load(settings: HubSettings, context: Context) -> Dataset:
    """A split of a dataset.

    Raises:
        MissingError: the hub or the dataset cannot be reached.
        DataError: the split, the configuration or the format cannot be used.
    """
    checks.hub(settings, context.folder)
    rows = _rows(settings, context, settings.split)
    held = _rows(settings, context, settings.validation_split) if settings.validation_split else None
    return collect(f"{settings.path} ({settings.split})", rows, settings, context, held=held)


def _rows(settings: HubSettings, context: Context, split: str) -> Iterator[Raw]:
    found = _fetch(settings, context, split)
    return (Raw(f"{settings.path}/{split}:{number}", of_row(row)) for number, row in enumerate(found, 1))


def _fetch(settings: HubSettings, context: Context, split: str) -> Any:
    import datasets

    folder = context.path(settings.path)
    path = str(folder) if folder.is_dir() else settings.path
    try:
        return datasets.load_dataset(path, settings.name, split=split, revision=settings.revision)
    except (ConnectionError, FileNotFoundError) as error:  # DatasetNotFoundError is a FileNotFoundError
        raise MissingError(
            f"the dataset {settings.path!r} cannot be fetched: {_first_line(error)}",
            fix="Check its id, the network and HF_HUB_OFFLINE; a private one needs `hf auth login`. "
            'A file on this machine needs no hub: use = "jsonl", "json", "csv" or "parquet".',
        ) from error
    except RuntimeError as error:  # what `datasets` says of a dataset that comes with a script
        raise DataError(
            f"the dataset {settings.path!r} cannot be read: {_first_line(error)}",
            where=str(path),
            fix="A dataset's own code is never run. Take a copy of it in Parquet, JSON or CSV.",
        ) from error
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"the dataset cannot be read: {_first_line(error)}",
            where=f"{settings.path} ({split})",
            fix="Check `split`, `name` and `revision`.",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
