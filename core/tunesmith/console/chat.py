"""`tunesmith chat`: talk to a tuned model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.adapted import ModelHandle
from tunesmith.artifact import load_artifact, load_base, read_line
from tunesmith.console.opened import AsJson, RunPath, StageName, artifact_of
from tunesmith.console.out import next_steps, note, print_json
from tunesmith.console.paint import clean
from tunesmith.console.progress import reporter
from tunesmith.context import Context
from tunesmith.errors import DataError, PluginError, UsageError
from tunesmith.folder import MANIFEST
from tunesmith.guard import seed_everything
from tunesmith.registry import Registry
from tunesmith.run import reopen


@dataclass
class Sampling:
    """How an answer is drawn: greedily at temperature 0."""

    max_new_tokens: int
    temperature: float
    seed: int

    def options(self) -> dict[str, Any]:
        """Arguments of the model's own `generate`."""
        if self.temperature > 0:
            return {"do_sample": True, "temperature": self.temperature}
        return {"do_sample": False}


def chat(
    ctx: typer.Context,
    run: RunPath,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="Ask once, print the answer.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Talk to the base model instead.")] = False,
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

    In a conversation `/reset` forgets what was said and an empty line (or Ctrl-D) ends it.
    """
    if as_json and prompt is None:
        raise UsageError("--json needs --prompt", fix=f"tunesmith chat {run} --prompt TEXT --json")
    columns = _row(row or [])
    handle = _handle(ctx, run, base=base, stage=stage, device=device)
    talk = Talk(handle, Sampling(max_new_tokens, temperature, seed), system, columns)
    if prompt is None:
        _converse(talk)
        next_steps(f"tunesmith chat {run}{'' if base else ' --base'}")
        return
    if as_json:
        print_json({"run": str(run), "base": base, "prompt": prompt, "answer": talk.ask(prompt, lambda piece: None)})
        return
    talk.ask(prompt, _print)
    print()
    next_steps(f"tunesmith chat {run}{'' if base else ' --base'} --prompt ...")


def _handle(ctx: typer.Context, run: Path, *, base: bool, stage: str | None, device: str) -> ModelHandle:
    artifact = artifact_of(run, stage)
    registry = ctx.obj.registry(_plugin_files(run))
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
        handle = load_base(line, registry, context) if base else _tuned(artifact, registry, context)
    if not hasattr(handle.model, "generate"):
        raise PluginError(f"the model {handle.source} has no `generate`; it cannot answer")
    if hasattr(handle.model, "eval"):
        handle.model.eval()
    return handle


def _row(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise UsageError(f"--row {pair!r} does not read KEY=VALUE", fix="Example: --row task=summarise")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _tuned(artifact: Path, registry: Registry, context: Context) -> ModelHandle:
    adapted = load_artifact(artifact, registry, context)
    return ModelHandle(**{**vars(adapted.handle), "model": adapted.model})


def _plugin_files(path: Path) -> list[Path]:
    """The local plugins of the run that `path` is, or is in."""
    for place in (path.absolute(), *path.absolute().parents[:3]):
        if (place / MANIFEST).is_file():
            return reopen(place)[1].plugin_files
    return []


class Stream:
    """What `generate` calls with each new token; tells the text that is certain."""

    def __init__(self, tokenizer: Any, hear: Callable[[str], None]) -> None:
        self.tokenizer = tokenizer
        self.hear = hear
        self.heard = ""
        self._ids: list[int] | None = None

    def put(self, ids: Any) -> None:
        """Take in token ids; the first call brings the prompt."""
        if self._ids is None:
            self._ids = []
            return
        self._ids.extend(ids.flatten().tolist())
        text = self.tokenizer.decode(self._ids, skip_special_tokens=True)
        # a character of several tokens decodes to U+FFFD until its last one is there
        if text.startswith(self.heard) and not text.endswith("\ufffd"):
            self.hear(text[len(self.heard) :])
            self.heard = text

    def end(self) -> None:
        """Nothing more comes."""


@dataclass
class Talk:
    """A conversation with a model: what was said, and how to go on."""

    handle: ModelHandle
    sampling: Sampling
    system: str | None = None
    row: Mapping[str, str] = field(default_factory=dict)
    turns: list[dict[str, str]] = field(default_factory=list)

    def ask(self, text: str, hear: Callable[[str], None]) -> str:
        """The answer to `text`, told to `hear` in pieces as it grows; both are remembered.

        Raises:
            DataError: the conversation no longer fits the model, or `row` lacks what the model reads.
        """
        values = {name: column.read(self.row) for name, column in self.handle.columns.items()}
        self.turns.append({"role": "user", "content": text})
        inputs = self._encode()
        length = int(inputs["input_ids"].shape[-1])
        room = self.sampling.max_new_tokens
        if self.handle.max_length is not None:
            room = min(room, self.handle.max_length - length)
        if room < 1:
            self.turns.pop()
            raise DataError(
                f"the conversation has {length} tokens; the model takes {self.handle.max_length}",
                fix="Ask something shorter, or forget what was said with /reset.",
            )
        seed_everything(self.sampling.seed)
        stream = Stream(self.handle.tokenizer, hear)
        columns = {name: inputs["input_ids"].new_tensor([value]) for name, value in values.items()}  # each (1,)
        output = self.handle.model.generate(
            **inputs, **columns, max_new_tokens=room, streamer=stream, **self.sampling.options()
        )
        answer = self.handle.tokenizer.decode(output[0][length:], skip_special_tokens=True)
        hear(answer[len(stream.heard) :])
        self.turns.append({"role": "assistant", "content": answer})
        return answer

    def reset(self) -> None:
        """Forget what was said."""
        self.turns.clear()

    def _encode(self) -> Any:
        tokenizer = self.handle.tokenizer
        if getattr(tokenizer, "chat_template", None):
            turns = [{"role": "system", "content": self.system}, *self.turns] if self.system else self.turns
            inputs = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:  # a base model goes on with a text; earlier turns would only confuse it
            inputs = tokenizer(self.turns[-1]["content"], return_tensors="pt")
        return inputs.to(self.handle.model.device) if hasattr(inputs, "to") else inputs


def _converse(talk: Talk) -> None:
    note("an empty line ends the conversation; /reset forgets what was said")
    while line := _line():
        if line == "/reset":
            talk.reset()
            note("forgotten")
            continue
        try:
            talk.ask(line, _print)
            print()
        except DataError as error:
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
