"""`tunesmith chat`: talk to a tuned model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.artifact import read_line
from tunesmith.console.opened import AsJson, RunPath, StageName, artifact_of, plugin_files_of
from tunesmith.console.out import next_steps, note, print_json
from tunesmith.console.paint import clean
from tunesmith.console.progress import reporter
from tunesmith.console.talk import Sampling, Talk
from tunesmith.console.voices import Voice, named_run, open_voice, open_voices
from tunesmith.context import Context
from tunesmith.errors import DataError, UsageError


def chat(
    ctx: typer.Context,
    run: RunPath,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="Ask once, print the answer.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Talk to the base model instead.")] = False,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="[NAME=]RUN",
            help="Put the adapter of another run on the same base, too. May be repeated.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="KEY=VALUE", help="A column of the row that the model shall read. May be repeated."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A system prompt.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", help="0 takes the likeliest token each time.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sampling, when the temperature is above 0.")] = 42,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:N, mps or auto.")] = "auto",
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Talk to the model that a run kept: a conversation, or one answer with --prompt.

    In a conversation `/reset` forgets what was said, `/adapter NAME` lets the adapter of another run answer (`/adapter
    base` none at all), and an empty line (or Ctrl-D) ends it. With --adapter and --prompt each of them answers.
    """
    if as_json and prompt is None:
        raise UsageError("--json needs --prompt", fix=f"tunesmith chat {run} --prompt TEXT --json")
    columns = _row(row or [])
    voice = _voice(ctx, run, adapter or [], base=base, stage=stage, device=device)
    talk = Talk(voice.handle, Sampling(max_new_tokens, temperature, seed), system, columns)
    again = f"tunesmith chat {run}{'' if base else ' --base'}"
    if prompt is None:
        _converse(talk, voice)
        next_steps(again)
    elif as_json:
        first = voice.name
        answers = {name: _as(name, talk, voice).ask(prompt, lambda piece: None) for name in voice.names}
        print_json({"run": str(run), "base": base, "prompt": prompt, "answer": answers[first], "answers": answers})
    else:
        for name in voice.names:
            if len(voice.names) > 1:
                print(f"{name}:")
            _as(name, talk, voice).ask(prompt, _print)
            print()
        next_steps(f"{again} --prompt ...")


def _as(name: str, talk: Talk, voice: Voice) -> Talk:
    """A talk from its beginning in which `name` answers."""
    talk.reset()
    talk.handle = voice.switch(name)
    return talk


def _voice(
    ctx: typer.Context, run: Path, others: Sequence[str], *, base: bool, stage: str | None, device: str
) -> Voice:
    artifact = artifact_of(run, stage)
    runs = [run, *(named_run(other)[1] for other in others)]
    registry = ctx.obj.registry(list(dict.fromkeys(file for path in runs for file in plugin_files_of(path))))
    line = read_line(artifact, registry)
    if line.head != "causal-lm":
        raise DataError(
            f"this model has a {line.head!r} head; it scores and cannot answer",
            where=str(artifact),
            fix=f"tunesmith evaluate {run}",
        )
    with reporter() as talk:
        context = Context(folder=line.folder, device=device, reporter=talk)
        talk.phase("load model")
        if others:
            return open_voices(run, artifact, others, registry, context, base=base)
        return open_voice(run, artifact, registry, context, base=base)


def _row(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise UsageError(f"--row {pair!r} does not read KEY=VALUE", fix="Example: --row task=summarise")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _converse(talk: Talk, voice: Voice) -> None:
    note("an empty line ends the conversation; /reset forgets what was said")
    if len(voice.names) > 1:
        note(f"{voice.name} answers; /adapter NAME switches: {', '.join(voice.names)}")
    while line := _line():
        command, _, argument = line.partition(" ")
        try:
            if command == "/reset":
                talk.reset()
                note("forgotten")
            elif command == "/adapter":
                talk.handle = voice.switch(argument.strip())
                note(f"{voice.name} answers")
            else:
                talk.ask(line, _print)
                print()
        except (DataError, UsageError) as error:
            note(str(error))


def _print(piece: str) -> None:
    print(clean(piece), end="", flush=True)


def _line() -> str:
    """What the person says; empty at the end."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (editing and history of what is typed)
    try:
        return input("you> ").strip()
    except EOFError:
        return ""
