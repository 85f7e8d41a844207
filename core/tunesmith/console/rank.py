"""`tunesmith rank`: put the answers of several models in order, without knowing whose they are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.console.init import ENDINGS
from tunesmith.console.opened import (
    AsJson,
    StageName,
    artifact_of,
    context_of,
    is_artifact,
    plan_of_run,
    plugin_files_of,
    settings_table,
    stage_of,
)
from tunesmith.console.out import data_console, next_steps, note, print_json
from tunesmith.console.progress import reporter
from tunesmith.console.voices import BASE, name_of
from tunesmith.context import Context, Reporter
from tunesmith.errors import DataError, UsageError
from tunesmith.folder import MANIFEST
from tunesmith.registry import Registry

if TYPE_CHECKING:
    from tunesmith.ranking.book import Book, Participant
    from tunesmith.ranking.prompts import Question
    from tunesmith.ranking.tally import Score

ROWS, ANSWERS, SEED, USE = 20, 1, 42, "generate"
#: What the evaluator is given where neither the command line nor the file says otherwise, as far as it takes it.
TOKENS = 256


def rank(
    ctx: typer.Context,
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="A run or an artifact, also NAME=RUN; two or more.")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Let the first run's base model take part, too.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Rows with prompts, instead of the first run's held-out rows."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a setting of the loader of --prompts. May be repeated."),
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, metavar="N", help="How many prompts.")] = None,
    answers: Annotated[
        int | None, typer.Option("--answers", min=1, metavar="N", help="Answers of each model to each prompt.")
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="File of rankings to write, or to go on with.")
    ] = Path("ranked.jsonl"),
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, metavar="N", help="Longest answer, in tokens.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, metavar="T", help="0 takes the likeliest token each time.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="Prompts that are answered at once.")
    ] = None,
    use: Annotated[
        str | None, typer.Option("--use", metavar="NAME", help="The evaluator that lets the models answer.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Seed of the answers and of the order they stand in.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:N, mps or auto.")] = "auto",
    stage: StageName = None,
    table: Annotated[bool, typer.Option("--table", help="Ask nothing; show who is ahead so far.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the answers of several models to the same prompts, and keep the order that you put them in.

    Whose answer is whose is not shown before the end. Each judgment is kept at once, in a file that loaders read. The
    same command goes on where it stopped; without RUN, it goes on with the file of --to.
    """
    from tunesmith.console.rank_ask import ask_all, show
    from tunesmith.ranking.book import Book, book_path
    from tunesmith.ranking.judgments import Judgments
    from tunesmith.ranking.tally import tally

    drawing = {"max_new_tokens": max_new_tokens, "temperature": temperature, "batch_size": batch_size}
    wanted: dict[str, Any] = {"--rows": rows, "--answers": answers, "--seed": seed, "--use": use}
    wanted |= {f"--{name.replace('_', '-')}": value for name, value in drawing.items() if name != "batch_size"}
    wanted["--prompts"] = _digest(prompts) if prompts else None
    path = book_path(to)
    named = _participants(runs or [], base, stage)
    if not path.is_file():
        _check_new(to, [] if table else named, answers or ANSWERS, temperature)
    with Judgments.open(to) as judgments:
        if judgments.repaired:
            note(f"{to}: a last line that was cut short is taken away; its question comes again")
        if path.is_file():
            book = Book.read(path)
            book.check_same(wanted, named)
        else:
            book = _begun(ctx, path, named, wanted, prompts, sets or (), drawing, device)
        if not book.complete:
            _draw(ctx, book, batch_size, device)
        judgments.check(book)
        if not table:
            ask_all(book, judgments)
        found = tally(book, judgments)
        over = table or not found.left
        if as_json:
            print_json({"file": str(to), **found.describe(names=over)})
        elif over:
            show(found, data_console())
        _next(found.left, to, found.scores[0] if over else None)


def _next(left: int, to: Path, best: Score | None) -> None:
    again = f"tunesmith rank --to {shlex.quote(str(to))}"
    if left:
        note(f"{left} more to judge; {to} keeps what you said")
        next_steps(again, *([] if best else [f"{again} --table"]))
    else:
        note(f'all is judged; to train on it: use = "jsonl" and path = "{to}" in [data]')
        assert best is not None
        next_steps(f"tunesmith chat {shlex.quote(_short(best.run))}{' --base' if best.base else ''}")


def _short(artifact: str) -> str:
    """An artifact's folder as a person would name it from here."""
    here = Path.cwd()
    path = Path(artifact)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


# --- who takes part ---------------------------------------------------------------------------
def _participants(runs: Sequence[str], base: bool, stage: str | None) -> list[Participant]:
    """The models that the command line names.

    Raises:
        UsageError: two have one name, or one has that of the base; --base without a run.
        DataError: a run has kept no artifact.
    """
    from tunesmith.ranking.book import participant

    found: list[Participant] = []
    for given in runs:
        name, equals, folder = given.partition("=")
        run = Path(folder if equals else given)
        name = name if equals else name_of(run)
        if name == BASE or name in {one.name for one in found}:
            what = "how the base model is called" if name == BASE else "the name of two models"
            raise UsageError(f"{name!r} is {what}", fix=f"Give one of them another: NAME={run}.")
        found.append(participant(name, artifact_of(run, None if is_artifact(run) else stage)))
    if base:
        if not found:
            raise UsageError("--base needs a run, whose base it is", fix="Example: tunesmith rank runs/a-001 --base")
        found.append(participant(BASE, Path(found[0].artifact), base=True))
    return found


def _check_new(to: Path, named: Sequence[Participant], answers: int, temperature: float | None) -> None:
    """Refuse a comparison that cannot be begun.

    Raises:
        UsageError: with what is missing.
    """
    if not named:
        raise UsageError(f"nothing was begun in {to}", fix="Name the runs: tunesmith rank runs/a-001 runs/b-001")
    if to.is_file() and to.stat().st_size:
        raise UsageError(
            f"{to} is there already, without the answers that it ranks",
            where=str(to),
            fix="Write to another file with --to.",
        )
    if len(named) * answers < 2:
        raise UsageError(
            "one answer cannot be put in order",
            fix="Name another run, let the base take part with --base, or draw several: --answers 4 --temperature 0.8",
        )
    if answers > 1 and not temperature:
        raise UsageError(
            "without a temperature a model gives the same answer each time", fix="Add --temperature 0.8, for example."
        )


# --- what is asked ----------------------------------------------------------------------------
def _begun(
    ctx: typer.Context,
    path: Path,
    named: list[Participant],
    wanted: dict[str, Any],
    prompts: Path | None,
    sets: Sequence[str],
    drawing: dict[str, Any],
    device: str,
) -> Book:
    """A new book, checked and written, in which nobody has answered yet."""
    from tunesmith.ranking.book import Book
    from tunesmith.ranking.draw import answering

    if sets and not prompts:
        raise UsageError("--set is for the loader of --prompts", fix="Name a file: --prompts FILE.")
    count, seed = wanted["--rows"] or ROWS, SEED if wanted["--seed"] is None else wanted["--seed"]
    registry = _registry(ctx, named)
    use = wanted["--use"] or USE
    given = {name: value for name, value in drawing.items() if value is not None}
    known = registry.find("evaluator", use, where=f"--use {use}").component.settings
    if hasattr(known, "max_new_tokens"):
        given.setdefault("max_new_tokens", TOKENS)
    answering(registry, use, given, count)
    with reporter() as talk:
        talk.phase("load prompts")
        if prompts:
            context = Context(seed=seed, device=device, reporter=talk, registry=registry)
            context = context.with_(has_template=partial(_have_templates, named, context))
            asked = _from_file(registry, prompts, sets, count, context)
            told = str(prompts)
        else:
            asked, told = _from_run(ctx, Path(named[0].artifact), count, talk)
    book = Book(
        path=path,
        prompts=told,
        source=wanted["--prompts"] or "",
        seed=seed,
        rows=count,
        use=use,
        settings=given,
        draws=wanted["--answers"] or ANSWERS,
        participants=named,
        questions=asked,
    )
    book.write()
    return book


def _from_file(registry: Registry, path: Path, sets: Sequence[str], count: int, context: Context) -> list[Question]:
    from tunesmith.guard import guarded
    from tunesmith.ranking.prompts import questions
    from tunesmith.recipe import Recipe, check_settings

    name = ENDINGS.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if name is None:
        raise UsageError(f"no loader is known for {path}", fix=f"Its name must end with {', '.join(ENDINGS)}.")
    entry = registry.find("loader", name, where=f"--prompts {path}")
    table = {**settings_table(sets), "path": str(path.absolute())}
    settings = check_settings(entry.component.settings, table, Recipe({}), ("--prompts",))
    with guarded(entry):
        data = entry.component.resolve()(settings, context)
    context.check_rows()
    return questions(data.train, data.type, count)


def _have_templates(participants: Sequence[Participant], context: Context) -> bool | None:
    """Whether the models that are asked have chat templates; None where some have and some have not."""
    from tunesmith.artifact import PARENT, read_line
    from tunesmith.conversational import have_templates

    models, folders = [], []
    for one in participants:
        place = Path(one.artifact)
        while (line := read_line(place, context.registry)).model is None:
            place = place / PARENT
        models.append(line.model)
        folders.append(line.folder)
    return have_templates(models, [context.with_(folder=folder) for folder in folders])


def _from_run(ctx: typer.Context, artifact: Path, count: int, talk: Reporter) -> tuple[list[Question], str]:
    from tunesmith.artifact import read_card
    from tunesmith.ranking.prompts import questions
    from tunesmith.stage import load_data

    run = next((place for place in artifact.parents[:3] if (place / MANIFEST).is_file()), None)
    if run is None:
        raise UsageError(
            f"{artifact} is in no run whose held-out rows could be asked", fix="Name some: --prompts FILE."
        )
    plan, registry, _ = plan_of_run(ctx.obj, run)
    stage = stage_of(plan, read_card(artifact).get("stage"))
    data = load_data(stage, context_of(plan, talk).with_(registry=registry))
    if not len(data.validation):
        raise DataError(f"run {run.name} holds no rows out", where=str(run), fix="Name prompts: --prompts FILE.")
    return questions(data.validation, data.type, count), f"held-out rows of {run}"


def _draw(ctx: typer.Context, book: Book, batch_size: int | None, device: str) -> None:
    """Let the models answer that have not yet, and say what was left out."""
    from tunesmith.ranking.draw import draw

    if batch_size is not None:
        book.settings["batch_size"] = batch_size
    registry = _registry(ctx, book.participants)
    with reporter() as talk:
        draw(book, registry, Context(device=device, reporter=talk, registry=registry))
    if book.left_out:
        note(f"{len(book.left_out)} of {len(book.questions)} prompts are left out: {', '.join([*book.left_out][:5])}")


def _registry(ctx: typer.Context, participants: Sequence[Participant]) -> Registry:
    files = [file for one in participants for file in plugin_files_of(Path(one.artifact))]
    return ctx.obj.registry(list(dict.fromkeys(files)))


def _digest(path: Path) -> str:
    """Digest of the file of prompts.

    Raises:
        DataError: it is not there.
    """
    from tunesmith.store import sha256_file

    if not path.is_file():
        raise DataError(f"there is no file {path}", where=str(path), fix="Mend --prompts.")
    return sha256_file(path)
