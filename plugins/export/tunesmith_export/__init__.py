"""Exporters: one merged model, and the adapter alone in PEFT's layout."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Exporter, hookimpl
from tunesmith_export.settings import AdapterSettings, MergeSettings


@hookimpl
def tunesmith_exporters() -> Iterator[Exporter]:
    """The exporters `merge` and `adapter`."""
    yield Exporter(
        name="merge",
        summary="One plain model, the adapter merged into the base in full precision and compared with it",
        factory="tunesmith_export.merge:export",
        settings=MergeSettings,
        requires=("torch", "transformers", "safetensors", "tunesmith_transformers"),
    )
    yield Exporter(
        name="adapter",
        summary="The adapter alone, in PEFT's layout, for other tools",
        factory="tunesmith_export.adapter:export",
        settings=AdapterSettings,
    )
