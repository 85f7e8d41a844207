"""`tunesmith data show`: rows as they are loaded, or as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from tunesmith.console.opened import AsJson, RecipePath, Sets, StageName, context_of, plan_of, stage_of
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.console.paint import clean
from tunesmith.console.progress import reporter
from tunesmith.console.watch import Way
from tunesmith.context import Context
from tunesmith.errors import DataError, MissingError, UsageError
from tunesmith.ledger import Ledger
from tunesmith.plan import StagePlan
from tunesmith.records import Dataset, Records
from tunesmith.spec import Model, Trainer

SHOWN = 3  # rows, when none is named
OPEN, CLOSE = "⟦", "⟧"  # around what is trained, where there is no colour

Tokens = Sequence[tuple[str, bool]]


def show(
    ctx: typer.Context,
    recipe: RecipePath,
    row: Annotated[
        str | None, typer.Option("--row", metavar="N", help="Which row: its number from 1, or its name.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Show the tokens, and mark those that are trained.")] = False,
    part: Annotated[
        Literal["train", "validation"], typer.Option("--part", help="Rows to train on, or those held out.")
    ] = "train",
    sets: Sets = None,
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Print rows as they are loaded; with --mask as training sees them, token by token."""
    from tunesmith.stage import load_data

    plan, registry = plan_of(ctx.obj, recipe, sets)
    chosen = stage_of(plan, stage)
    way = Way(row or "")
    with reporter() as talk:
        context = context_of(plan, talk).with_(trusted_code=registry.trusted_code)
        data = load_data(chosen, context, way if row else None)
        if way.source is not None and row not in data.train.ids and row not in data.validation.ids:
            _show_lost(way, context.ledger, as_json)
            return
        records = _pick(data, part, row)
        tokens = _tokens(chosen, records, data.type, context) if mask else None
    if as_json:
        print_json(_plain(records, tokens, way))
        return
    console = data_console()
    for position, (name, content) in enumerate(records):
        console.rule(safe(name, "dim"), align="left", style="dim")
        if tokens is None:
            _draw_row(console, content)
        else:
            _draw_tokens(console, tokens[position])
        for event in records.history[position] if records.history else ():
            console.print(safe(f"{event.step}: {event.fate}: {event.why}", "yellow"))
    if way.source is not None and way.stops:
        console.rule(safe("as read", "dim"), align="left", style="dim")
        _draw_row(console, way.source)
    console.rule(style="dim")
    next_steps(f"tunesmith run {recipe}" if mask else f"tunesmith data show {recipe} --mask")


def _pick(data: Dataset, part: str, row: str | None) -> Records:
    records = data.train if part == "train" else data.validation
    if not len(records):
        raise DataError(f"there are no {part} rows", fix="Set `validation = 0.1` (or a file) in [data].")
    if row is None:
        return records.take(range(min(SHOWN, len(records))))
    for other in (records, data.validation, data.train):
        if row in other.ids:
            return other.take([list(other.ids).index(row)])
    if not row.isdigit() or not 1 <= int(row) <= len(records):
        raise UsageError(
            f"there is no row {row!r} among the {len(records)} {part} rows",
            fix=f"Give a number from 1 to {len(records)}, or a name such as {records.ids[0]}.",
        )
    return records.take([int(row) - 1])


# --- tokens -----------------------------------------------------------------------------------
def _tokens(stage: StagePlan, records: Records, record_type: str, context: Context) -> Sequence[Tokens]:
    """The rows' tokens as the trainer will see them.

    Raises:
        MissingError: the trainer or the model source offers no preview.
    """
    from tunesmith.guard import guarded

    trainer, model = stage.trainer.component, stage.begins
    assert isinstance(trainer, Trainer)
    if not trainer.preview:
        raise MissingError(
            f"trainer {trainer.name!r} offers no preview of its tokens", fix="Leave out --mask to see the rows."
        )
    if model is None or not isinstance(model.component, Model) or not model.component.tokenizer:
        named = f"model source {model.component.name!r}" if model else "this stage's model"
        raise MissingError(f"{named} offers no tokenizer without the model", fix="Leave out --mask to see the rows.")
    with guarded(model):
        tokenizer = model.component.resolve("tokenizer")(model.settings, context)
    with guarded(stage.trainer):
        return trainer.resolve("preview")(records, record_type, stage.trainer.settings, tokenizer)


# --- output -----------------------------------------------------------------------------------
def _plain(records: Records, tokens: Sequence[Tokens] | None, way: Way) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"id": name, "row": dict(content)} for name, content in records]
    for position, row in enumerate(rows):
        row["history"] = [event._asdict() for event in (records.history[position] if records.history else ())]
        row["read"] = dict(way.source) if row["id"] == way.name and way.source is not None else None
    for position, row in enumerate(rows if tokens is not None else []):
        assert tokens is not None
        row["tokens"] = [{"text": text, "supervised": bool(flag)} for text, flag in tokens[position]]
        row["supervised"] = sum(flag for _, flag in tokens[position])
    return rows


def _show_lost(way: Way, ledger: Ledger, as_json: bool) -> None:
    """A row that was read and is not used: as it came, what each step did to it, and why it went."""
    assert way.source is not None
    events = [{"step": step, "fate": fate, "why": why} for step, fate, why, _ in way.stops]
    told = {step for step, *_ in way.stops}
    ends = [entry for entry in ledger.of("dropped") if entry.row == way.name and entry.step not in told]
    events += [{"step": "", "fate": "dropped", "why": f"{end.reason} {end.detail}".strip()} for end in ends]
    last = way.stops[-1][3] if way.stops else way.source
    if as_json:
        print_json([{"id": way.name, "row": dict(last), "history": events, "read": dict(way.source)}])
        return
    console = data_console()
    console.rule(safe(f"{way.name} (not used)", "dim"), align="left", style="dim")
    _draw_row(console, way.source)
    for event in events:
        console.print(safe(f"{event['step'] or 'data'}: {event['fate']}: {event['why']}", "yellow"))
    console.rule(style="dim")


def _draw_row(console: Console, content: Any) -> None:
    for key, value in content.items():
        if key == "messages" and isinstance(value, list):
            for message in value:
                role, text = message.get("role", "?"), message.get("content", "")
                console.print(Text.assemble((f"{clean(str(role))}: ", "cyan"), safe(text)))
        else:
            console.print(Text.assemble((f"{clean(str(key))}: ", "cyan"), safe(value)))


def _draw_tokens(console: Console, tokens: Tokens) -> None:
    coloured = console.is_terminal and not console.no_color
    line = Text()
    previous = False
    for text, supervised in tokens:
        if not coloured and bool(supervised) != previous:
            line.append(OPEN if supervised else CLOSE)
        previous = bool(supervised)
        line.append(clean(text), style="bold green" if supervised else "dim")
    if previous and not coloured:
        line.append(CLOSE)
    console.print(line)
    count = sum(bool(supervised) for _, supervised in tokens)
    share = f" ({count / len(tokens):.0%})" if tokens else ""
    note(f"{count} of {len(tokens)} tokens are trained{share}")
