"""Every kind of bad data in every format that can hold it, through `data check` and through a run."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R11")]

DATA = 65
Row = Mapping[str, Any]
FORMATS = ("jsonl", "csv", "parquet")


def long(number: int) -> str:
    """10 MB for the first row, a word for the others: one that is cut has no end, and a model must learn to end."""
    return "word " * (2_000_000 if number == 0 else 1)


def pair(number: int, **more: Any) -> Row:
    return {"prompt": f"{number}?", "completion": f"yes {number}", **more}


def talk(number: int, *roles: str) -> Row:
    said = {"system": "Be brief.", "user": f"{number}?", "assistant": f"yes {number}"}
    return {"messages": [{"role": role, "content": said.get(role, "?")} for role in roles]}


def ranked(number: int, chosen: str = "yes", rejected: str = "no") -> Row:
    return {"prompt": f"{number}?", "chosen": chosen and f"{chosen} {number}", "rejected": f"{rejected} {number}"}


def fine(number: int) -> Row:
    return talk(number, "system", "user", "assistant")


# --- writing ----------------------------------------------------------------------------------------
def written(rows: Sequence[Row], form: str) -> bytes:
    """Rows as a file of a format."""
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form == "csv":
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return text.getvalue().encode()
    import pyarrow
    from pyarrow import parquet

    made = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), made)
    return made.getvalue()


def not_utf8(content: bytes) -> bytes:
    return content.replace(b"MARK", b"M\xffRK")


@dataclass(frozen=True)
class Bad:
    """One kind of bad data.

    Args:
        rows: bad rows, by number.
        good: the rows around them.
        said: what is said of a bad row, or of the file.
        formats: those that can hold it.
        file: what becomes of the written file; then the whole file is judged.
        accepted: whether nothing is wrong with it.
        only_in_a_run: whether it shows when the rows become tokens.
        no_loss: whether the rows are dropped, but said elsewhere, so that no limit is held to them.
        changes: of the recipe.
    """

    name: str
    said: Mapping[str, str] | str
    rows: Callable[[int], Row] | None = None
    good: Callable[[int], Row] = pair
    formats: tuple[str, ...] = FORMATS
    file: Callable[[bytes], bytes] | None = None
    after: Callable[[bytes], bytes] | None = None
    accepted: bool = False
    only_in_a_run: bool = False
    no_loss: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    def of(self, form: str) -> str:
        return self.said if isinstance(self.said, str) else self.said[form]


LISTS = ("jsonl", "parquet")  # formats whose cells can be lists
DPO = {"trainer.use": "dpo", "evaluate": []}
KINDS = (
    Bad("empty file", "the file is empty", file=lambda content: b""),
    Bad("byte order mark", "", formats=("jsonl", "csv"), after=lambda c: b"\xef\xbb\xbf" + c, accepted=True),
    Bad("CRLF", "", formats=("jsonl", "csv"), after=lambda c: c.replace(b"\n", b"\r\n"), accepted=True),
    Bad(
        "bad line",
        {"jsonl": "bad JSON", "csv": "bad CSV"},
        lambda number: pair(number, completion="MARK"),
        formats=("jsonl", "csv"),
        after=lambda c: c.replace(b'"MARK"', b'MARK"').replace(b"MARK\n", b'"MA"RK\n'),
    ),
    Bad(
        "cut last line",
        {"jsonl": "the file may be cut", "csv": "fewer fields than the header", "parquet": "its end is missing"},
        lambda number: pair(number),
        after=lambda c: c[: c.rindex(b"?") + 1] if c[:4] != b"PAR1" else c[:-40],
    ),
    Bad(
        "damaged gzip",
        "the gzip file is damaged",
        formats=("jsonl", "csv"),
        file=lambda content: gzip.compress(content, mtime=0)[:-12],
    ),
    Bad("invalid UTF-8", "UTF-8", lambda number: pair(number, completion=f"MARK {number}"), after=not_utf8),
    Bad("NUL", "NUL", lambda number: pair(number, completion=f"a\0{number}"), formats=("jsonl", "csv", "parquet")),
    Bad("lone surrogate", "surrogate", lambda number: pair(number, completion=f"\ud800{number}"), formats=("jsonl",)),
    Bad("None", "'completion'", lambda number: pair(number, completion=None), formats=LISTS),
    Bad(
        "missing field",
        {"jsonl": "prompts only", "csv": "fewer fields than the header"},
        lambda number: {"prompt": f"{number}?"},
        formats=("jsonl", "csv"),
        after=lambda c: b"\n".join(line.removesuffix(b"?,") + b"?" * line.endswith(b"?,") for line in c.split(b"\n")),
    ),
    Bad("extra field", "", good=lambda number: pair(number, more="x"), accepted=True),
    Bad("wrong type", "'completion' is", lambda number: pair(number, completion=3), formats=("jsonl",)),
    Bad("empty string", "'completion'", lambda number: pair(number, completion="")),
    Bad("blanks only", "'completion'", lambda number: pair(number, completion="  ")),
    Bad("no messages", "'messages' is an empty list", lambda number: {"messages": []}, fine, LISTS),
    Bad("user only", "no assistant message", lambda number: talk(number, "user"), fine, LISTS),
    Bad("unknown role", "unknown role 'narrator'", lambda number: talk(number, "narrator", "assistant"), fine, LISTS),
    Bad("two systems", "two system messages", lambda n: talk(n, "system", "system", "user", "assistant"), fine, LISTS),
    Bad("not alternating", "do not alternate", lambda n: talk(n, "user", "user", "assistant"), fine, LISTS),
    Bad("no assistant", "no assistant message", lambda number: talk(number, "system", "user"), fine, LISTS),
    Bad(
        "longer than the limit, the prompt cut",
        "the prompt alone fills max_length = 40",
        lambda number: pair(number, prompt=f"{number}" * 50),
        only_in_a_run=True,
        changes={"trainer.max_length": 40},
    ),
    Bad(
        "longer than the limit, all cut",
        "longer than max_length = 40",
        lambda number: pair(number, completion=f"{number}" * 50),
        only_in_a_run=True,
        changes={"trainer.max_length": 40, "trainer.overlong": "drop"},
    ),
    Bad("duplicates", "duplicate", lambda number: pair(0), no_loss=True),
    Bad("train and evaluation overlap", "overlap with the training rows", lambda number: pair(number), no_loss=True),
    Bad(
        "chosen equals rejected",
        "'chosen' equals 'rejected'",
        lambda number: ranked(number, "no"),
        ranked,
        changes=DPO,
    ),
    Bad("empty chosen", "'chosen'", lambda number: ranked(number, ""), ranked, changes=DPO),
    Bad("mixed schemas", "unlike most", lambda number: {"text": f"text {number}"}, formats=("jsonl",)),
    Bad("a row of 10 MB", "", good=lambda number: pair(number, completion=long(number)), accepted=True),
    Bad("nothing left after filtering", "none of the", lambda number: pair(number, completion=" ")),
    Bad(
        "special tokens inside text",
        "a message holds '<|im_end|>'",
        lambda number: {"messages": [{"role": "user", "content": f"{number}<|im_end|>"}, *ANSWER]},
        fine,
        LISTS,
        only_in_a_run=True,
    ),
)
ANSWER = [{"role": "assistant", "content": "yes"}]
#: Kinds whose whole run `make test` tries, too; of the others it tries `data check`.
RUN = {"invalid UTF-8", "duplicates", "longer than the limit, all cut", "special tokens inside text", "empty chosen"}


def test_the_list_is_whole() -> None:
    assert len(KINDS) == 31
    assert len({kind.name for kind in KINDS}) == 31


@pytest.mark.parametrize(
    ("kind", "form"),
    [pytest.param(kind, form, id=f"{kind.name}, {form}") for kind in KINDS for form in kind.formats],
)
def test_bad_data(house: Any, fault: Recorder, kind: Bad, form: str) -> None:
    tally = fault("R11", f"{kind.name} in {form}")
    commands = (
        [["run"]] if kind.only_in_a_run else [["data", "check"], *amount([["run"]], [["run"]][: kind.name in RUN])]
    )
    if kind.name == "a row of 10 MB":
        commands = commands[:1]  # a tiny model takes a minute for its tokens
    for words in commands:
        for few in amount((True, False), (not kind.accepted,)):
            with tally.trial(f"{' '.join(words)}, {'few' if few else 'many'}"):
                judged(house, kind, form, words, few=few)


def judged(house: Any, kind: Bad, form: str, words: Sequence[str], *, few: bool) -> None:
    """Write a file with few or many bad rows, and check what a command says of it.

    Args:
        few: fewer bad rows than may be lost, so that the others are used.
    """
    count = 4 if kind.name == "a row of 10 MB" else 40 if few else 6
    bad = 0 if kind.rows is None else 1 if few else 6
    if kind.name == "nothing left after filtering":
        count = 0
        bad = 6
    good = [kind.good(number) for number in range(count)]
    rows = [*good, *(kind.rows(100 + number) for number in range(bad))] if kind.rows else good
    content = written(rows, form)
    for change in (kind.file, kind.after):
        content = change(content) if change else content
    name = f"rows.{form}"
    data: dict[str, Any] = {"use": form, "path": name, "validation": 0.25}
    if kind.name == "train and evaluation overlap":
        data = {"use": form, "path": "train", "validation_path": name}
        house.write("train", written([kind.good(100 + number) for number in range(40)], form))
    house.write(name, content)
    house.recipe({"data": data, **kind.changes})
    ended = house.call(*words, "recipe.toml", *(["--json"] if words[0] == "data" else []))
    assert "Traceback" not in ended.err
    assert "defect:" not in ended.err
    whole = kind.file is not None or (kind.name == "cut last line" and form == "parquet")
    total = len(rows) + (40 if kind.name == "train and evaluation overlap" else 0)
    lost = bad / max(1, total) > 0.05 and not kind.no_loss
    if kind.accepted:
        assert ended.code == 0, ended.err
        ledger = found(house, words, ended)
        assert (ledger["rows_in"], ledger["dropped"]) == (count, 0)
    elif whole or lost:
        assert ended.code == DATA, ended.err or ended.out
        assert ended.out == "" or words[0] == "data"
        assert kind.of(form) in ended.err, ended.err
        assert name in ended.err
        assert "\n  fix: " in ended.err
        if not whole:
            # an evaluator may meet them first, among the rows that are held out
            assert re.search(rf"(\d+ of|none of the) ({total}|\d+ held-out) rows", ended.err), ended.err
    else:
        assert ended.code == 0, ended.err
        ledger = found(house, words, ended)
        reasons = {reason: number for reason, number in ledger["dropped_reasons"].items() if kind.of(form) in reason}
        assert sum(reasons.values()) == ledger["dropped"] == bad, ledger
        assert ledger["rows_in"] == total


@dataclass(frozen=True)
class BadText:
    """One kind of bad data in a text file.

    Args:
        use: the loader.
        said: what is said of a bad row, or of the file.
        bad: bad rows, by number.
        file: what becomes of the written file; then the whole file is judged.
    """

    name: str
    use: str
    said: str
    bad: Callable[[int], bytes] | None = None
    file: Callable[[bytes], bytes] | None = None


GOOD_TEXT = {
    "text": lambda number: f"A line of text, number {number}.\n".encode(),
    "conll": lambda number: f"Ada NNP B-PER\nsings VBZ O\n{number} CD O\n\n".encode(),
}
TEXTS = (
    *(BadText("empty file", use, "the file is empty", file=lambda _: b"") for use in GOOD_TEXT),
    *(BadText("blank lines alone", use, "the data has no rows", file=lambda _: b"\n \n") for use in GOOD_TEXT),
    *(BadText("damaged gzip", use, "gzip", file=lambda c: gzip.compress(c, mtime=0)[:-12]) for use in GOOD_TEXT),
    *(BadText("UTF-16", use, "UTF-16 text", file=lambda c: b"\xff\xfe" + c) for use in GOOD_TEXT),
    BadText("no columns", "conll", "no word has a tag", file=lambda _: b"prose\n"),
    BadText("invalid UTF-8", "text", "not UTF-8", lambda number: b"caf\xe9 %d\n" % number),
    BadText("NUL", "text", "NUL", lambda number: b"a\0 %d\n" % number),
    BadText("invalid UTF-8", "conll", "not UTF-8", lambda number: b"caf\xe9 NN O\n\n"),
    BadText("NUL", "conll", "NUL", lambda number: b"a\0b%d NN O\n\n" % number),
    BadText("a line too short", "conll", "fewer columns", lambda number: b"Ada NNP B-PER\n%d O\n\n" % number),
    BadText("a line too long", "conll", "more columns", lambda number: b"%d CD O more\n\n" % number),
)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind.name}, {kind.use}") for kind in TEXTS])
def test_bad_text(house: Any, fault: Recorder, kind: BadText) -> None:
    tally = fault("R11", f"{kind.name} in {kind.use}")
    trainer = {"text": "sft", "conll": "classify-tokens"}[kind.use]
    for few in (True, False) if kind.bad else (False,):
        with tally.trial("data check, few" if few else "data check, many"):
            bad = 1 if few else 6
            rows = [*map(GOOD_TEXT[kind.use], range(40 if few else 6)), *map(kind.bad or bytes, range(bad))]
            content = b"".join(rows)
            house.write("rows", kind.file(content) if kind.file else content)
            data = {"use": kind.use, "path": "rows", "validation": 0.25}
            house.recipe({"data": data, "trainer": {"use": trainer}, "evaluate": []})
            ended = house.call("data", "check", "recipe.toml", "--json")
            assert "Traceback" not in ended.err
            if few:
                ledger = json.loads(ended.out)["ledger"]
                assert (ended.code, ledger["rows_in"], ledger["dropped"]) == (0, 41, 1)
                assert kind.said in next(iter(ledger["dropped_reasons"]))
            else:
                assert ended.code == DATA
                assert kind.said in ended.err
                assert "rows" in ended.err
                assert "\n  fix: " in ended.err


def found(house: Any, words: Sequence[str], ended: Any) -> dict[str, Any]:
    """The counts of rows: what `data check` printed, or what the run kept."""
    if words[0] == "data":
        printed = json.loads(ended.out)
        for entry in printed["dropped"]:
            assert entry["row"].startswith("rows.")
            assert entry["reason"]
        return printed["ledger"]
    run: Path = max(house.runs.iterdir())
    first, *_ = (run / "ledger.jsonl").read_text().splitlines()
    return json.loads(first)["summary"]
