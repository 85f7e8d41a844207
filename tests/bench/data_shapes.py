"""Rows read, kept and refused of the shapes in which people keep them. Run: python tests/bench/data_shapes.py [SHARED]

The samples are of our own invention, in the form of real files, with the faults that these have. With the folder SHARED
(by default ../shared beside this checkout) the files of SHARED/data and of SHARED/cases/c are counted as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith import Context, TunesmithError
from tunesmith_data import tunesmith_loaders

ROOT = Path(__file__).parents[2]
ASK, SAY = {"role": "user", "content": "Is {n} even?"}, {"role": "assistant", "content": "{n} it is."}
HUMAN, GPT = {"from": "human", "value": "Is {n} even?"}, {"from": "gpt", "value": "{n} it is."}
TOOL = {"name": "parity", "description": "Even or odd", "parameters": {"type": "object", "properties": {}}}
CALL = {"type": "function", "id": "c{n}", "function": {"name": "parity", "arguments": '{{"n": {n}}}'}}
PLAIN = {"prompt": "Is {n} even?", "completion": "{n} it is."}
ALPACA = {"instruction": "Is {n} even?", "input": "", "output": "{n} it is."}
HH = "\n\nHuman: Is {n} even?\n\nAssistant: Why?\n\nHuman: Just so.\n\nAssistant: {n} "
THINKS = {**SAY, "reasoning_content": "{n} over 2"}


@dataclass(frozen=True)
class Shape:
    """A file as people have it.

    Args:
        what: names it.
        content: a row with `{n}` for its number, of which six are written; bytes are a whole file.
        odd: rows that stand behind the six.
        file: its name.
        settings: of the loader, which `use` names; None takes the name's ending.
    """

    what: str
    content: Any
    odd: tuple[Any, ...] = ()
    file: str = "rows.jsonl"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def use(self) -> str:
        """The loader's name."""
        return self.settings.get("use", Path(self.file).suffix[1:])

    def write(self, folder: Path) -> None:
        """Write the file."""
        path = folder / self.file
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
            return
        rows = [*(_numbered(self.content, n) for n in range(6)), *self.odd]
        if self.use == "parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif self.file == "one.json":
            path.write_text(json.dumps(rows[0], indent=2), encoding="utf-8")
        elif self.use == "json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


SHAPES = (
    Shape("Alpaca", ALPACA, (ALPACA | {"output": ""},)),
    Shape(
        "Alpaca with `system` and `history`", {**ALPACA, "system": "Be brief.", "history": [["Is 9 odd?", "It is."]]}
    ),
    Shape("ShareGPT", {"id": "{n}", "conversations": [HUMAN, GPT]}, ({"conversations": [HUMAN]},)),
    Shape(
        "ShareGPT, roles `chatgpt` and `system`",
        {"conversations": [HUMAN, {**GPT, "from": "chatgpt"}], "system": "Be brief."},
    ),
    Shape("ShareGPT with images", {"conversations": [{**HUMAN, "value": "<image>{n}?"}, GPT], "image": "{n}.jpg"}),
    Shape(
        "ShareGPT with `function_call`, `observation`, `tools`",
        {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": '{{"name": "parity", "arguments": {{"n": {n}}}}}'},
                {"from": "observation", "value": '{{"even": true}}'},
                GPT,
            ],
            "tools": json.dumps([TOOL]).replace("{", "{{").replace("}", "}}"),
        },
    ),
    Shape("OpenAI messages", {"messages": [ASK, SAY]}, ({"messages": [SAY]}, {"messages": [ASK, ASK, SAY]})),
    Shape(
        "OpenAI messages with `tools` and `tool_calls`",
        {
            "messages": [
                ASK,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c{n}", "content": "even"},
                SAY,
            ],
            "tools": [{"type": "function", "function": TOOL}],
        },
    ),
    Shape(
        'OpenAI messages, `"weight": 0` on a turn',
        {"messages": [ASK, {**SAY, "weight": 0}, ASK, SAY]},
        ({"messages": [ASK, {**SAY, "weight": 0}]},),
    ),
    Shape('messages, `"loss": false` on a turn', {"messages": [ASK, {**SAY, "loss": False}, ASK, SAY]}),
    Shape(
        "messages with parts",
        {"messages": [{**ASK, "content": [{"type": "text", "text": "Is {n} even?"}]}, SAY]},
        ({"messages": [{**ASK, "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, SAY]},),
    ),
    Shape("messages with `reasoning_content`", {"messages": [ASK, THINKS]}),
    Shape(
        "messages that begin with the assistant",
        {"messages": [{"role": "assistant", "content": "Welcome, {n}."}, ASK, SAY]},
    ),
    Shape(
        "messages with a boolean `label`",
        {"messages": [ASK, SAY], "label": True},
        ({"messages": [ASK, {**SAY, "content": "No."}], "label": False}, {"messages": [ASK, SAY], "label": 2}),
    ),
    Shape("ShareGPT with `kto_tag`", {"conversations": [HUMAN, GPT], "kto_tag": False}),
    Shape(
        "`conversations` with `chosen` and `rejected` (LLaMA-Factory)",
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {**GPT, "value": "No."}},
        file="rows.json",
    ),
    Shape(
        "`messages` with `rejected_response` (ms-swift)",
        {"messages": [ASK, SAY], "rejected_response": "No."},
        ({"messages": [ASK, SAY], "rejected_response": SAY["content"]},),
    ),
    Shape(
        "`chosen_messages` and `rejected_messages`",
        {"chosen_messages": [ASK, SAY], "rejected_messages": [ASK, {**SAY, "content": "No."}]},
    ),
    Shape(
        "whole texts (Anthropic's HH)",
        {"chosen": HH + "it is.", "rejected": HH + "no."},
        (
            {"chosen": HH + "it is.", "rejected": HH.removesuffix("{n} ")},
            {"chosen": HH + "it is.", "rejected": "\n\nHuman: Hm?\n\nAssistant: No."},
        ),
    ),
    Shape(
        "`conversation` with `human` and `assistant`",
        {"conversation_id": "{n}", "conversation": [{"human": "Is {n} even?", "assistant": "It is."}]},
    ),
    Shape(
        "`conversation` with `input` and `output` (xtuner)",
        {"conversation": [{"system": "Be brief.", "input": "Is {n} even?", "output": "It is."}]},
        file="rows.json",
    ),
    Shape("a list of messages a line", [ASK, SAY]),
    Shape("a list of pairs a line", [["Is {n} even?", "It is."]], (["Is it?", "It is."],)),
    Shape("one object a file", {"messages": [ASK, SAY]}, file="one.json"),
    Shape(
        "prompt and completion, every row twice",
        "".join(json.dumps({"prompt": f"{n}?", "completion": "yes"}).join(("", "\n")) * 2 for n in range(6)).encode(),
    ),
    Shape(
        "plain text, a row a line",
        b"First, a line.\n\nSecond, another line, with commas.\ncaf\xe9\n",
        file="rows.txt",
        settings={"use": "text"},
    ),
    Shape(
        "plain text read as a table",
        b"First, a line.\nSecond, another line, with commas.\n",
        file="rows.txt",
        settings={"use": "csv"},
    ),
    Shape(
        "CoNLL columns", b"-DOCSTART- -X- O\n\nAda NNP B-PER\nsings VBZ O\n\nRome NNP\n\nHe PRP O\n", file="rows.conll"
    ),
    Shape("Parquet with a struct of messages", {"messages": [ASK, SAY], "id": "{n}"}, file="rows.parquet"),
)


def _numbered(value: Any, number: int) -> Any:
    """A row with its number in every text."""
    if isinstance(value, str):
        return value.format(n=number)
    if isinstance(value, dict):
        return {key: _numbered(item, number) for key, item in value.items()}
    return [_numbered(item, number) for item in value] if isinstance(value, list) else value


def counted(what: str, use: str, settings: dict[str, Any], folder: Path) -> list[str]:
    """What became of a file: a line of the table."""
    loader = next(record for record in tunesmith_loaders() if record.name == use)
    context = Context(folder=folder)
    try:
        data = loader.resolve()(loader.settings(**settings), context)
    except TunesmithError as error:
        return [what, f"`{use}`", "", "0", "0", "the file", "", error.what]
    ledger = context.ledger
    kept, refused = len(data.train) + len(data.validation), ledger.dropped - ledger.expected
    reasons = "; ".join(ledger.reasons())
    return [
        what,
        f"`{use}`",
        str(ledger.rows_in),
        str(kept),
        str(ledger.expected),
        str(refused),
        f"`{data.type}`",
        reasons,
    ]


def table(lines: Iterator[list[str]]) -> str:
    """Markdown of the lines."""
    heads = ["file", "loader", "read", "kept", "left out", "refused", "record type", "reasons"]
    ruled = [heads, ["---"] * 2 + ["---:"] * 4 + ["---"] * 2, *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in ruled)


def samples(folder: Path) -> Iterator[list[str]]:
    """The samples, written below `folder`, in the order of the table."""
    for number, shape in enumerate(SHAPES):
        place = folder / str(number)
        place.mkdir()
        shape.write(place)
        rest = {key: value for key, value in shape.settings.items() if key != "use"}
        yield counted(shape.what, shape.use, {"path": Path(shape.file), **rest}, place)


def shared(folder: Path) -> Iterator[list[str]]:
    """Real files, and inputs that once failed, where they are present."""
    import tomllib

    real = (
        ("gsm8k, train.jsonl", "jsonl", "data/gsm8k/train.jsonl", {"prompt": "question", "completion": "answer"}),
        ("banking77, train.csv", "csv", "data/banking77/train.csv", {"label": "category"}),
    )
    for what, use, file, columns in real:
        if (folder / file).exists():
            yield counted(what, use, {"path": folder / file, "columns": columns}, folder)
    for recipe in sorted(folder.glob("cases/c/*/recipe.toml")):
        given = tomllib.loads(recipe.read_text(encoding="utf-8"))["data"]
        path = Path(given.pop("path"))
        yield counted(f"cases/c/{recipe.parent.name}", given.pop("use"), {"path": path, **given}, recipe.parent)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as below:
        print(table(samples(Path(below))))
    beside = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared"
    if found := list(shared(beside)):
        print(table(iter(found)))
