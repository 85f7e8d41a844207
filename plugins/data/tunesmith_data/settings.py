"""The settings of every loader. Light: imported by listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Interval, Len, MinLen, Settings

FormatName = Literal[
    "auto",
    "ranking",
    "preference-messages",
    "preference-alpaca",
    "transcripts",
    "preference",
    "rejected-response",
    "chosen-messages",
    "unpaired-preference",
    "unpaired-messages",
    "unpaired-alpaca",
    "prompt-completion",
    "messages",
    "sharegpt",
    "conversation",
    "alpaca",
    "text-label",
    "text-labels",
    "tokens-tags",
    "text",
    "prompt",
]

Role = Literal["system", "user", "assistant", "tool", "function_call"]


@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """What every loader takes: how many rows, and which are held out."""

    limit: Annotated[int, Gt(0)] | None = None
    """Take a random sample of so many rows, chosen by the run's seed; None takes all. Rows outside the sample are
    not counted. A broken row in the sample is dropped and not replaced."""
    validation: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the usable rows to hold out, 0 to 1; at least one row when it is above 0. The choice depends on the
    run's seed and the rows' content, not on their order."""
    shuffle: bool = False
    """Put the training rows in a random order, chosen by the run's seed. Most trainers shuffle for themselves."""


@dataclass(frozen=True, kw_only=True)
class RowSettings(SplitSettings):
    """What the loaders of stored rows take: how the columns are understood."""

    format: FormatName = "auto"
    """What the rows are; auto recognises it by the columns of the first 100 rows."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the columns, from the canonical name to the name in the file: {prompt = "question"}."""
    message_keys: Mapping[str, str] = field(default_factory=dict)
    """Names of a message's keys, from the canonical name to the name in the file: {role = "speaker"}."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """What the file's names of roles mean: {customer = "user", agent = "assistant"}."""
    keep: tuple[str, ...] = ()
    """Further columns to carry along unchanged, such as a task or a reference answer. A row without one is dropped."""
    ignore: tuple[str, ...] = ()
    """Columns and keys of messages to read as if they were not there, such as "images" or "weight". "<image>",
    "<audio>" and "<video>" are then plain text."""
    reasoning: Literal["keep", "drop"] = "keep"
    """What to do with the reasoning before an answer (`reasoning_content`, `thinking`): drop trains without it."""
    greeting: Literal["keep", "drop"] = "keep"
    """What to do with a conversation that the assistant begins."""
    system: Annotated[str, MinLen(1)] | None = None
    """System prompt for every conversation that has none. Plain prompts become conversations."""
    conversational: bool | None = None
    """Whether plain prompts and answers become user and assistant messages, which the chat template renders. None makes
    them so when the model that the stage begins with has a chat template; what was chosen is said."""
    separator: str | None = None
    """What is put between a plain prompt and its answer, as the prompt's end: in training, generation and evaluation.
    None puts a line break there when the model has no chat template, unless most rows have white space there already,
    and nothing when conversational is false; what was chosen is said."""
    ranking: Literal["all", "adjacent", "best-worst"] = "all"
    """Which pairs a ranking of more than two answers becomes: every better one with every worse one, neighbours, or
    the best with the worst. Where it has scores, each pair keeps their difference as `margin`."""
    pairs: Literal["keep", "unpaired", "wanted"] = "keep"
    """What becomes of pairs: unpaired makes of each its two answers with a label, wanted and unwanted, as KTO takes;
    wanted leaves the better answer alone as a completion, and of answers with a label those that are wanted."""
    group: Annotated[str, MinLen(1)] | None = None
    """A column whose equal values stay on one side of the split, such as a customer or a document. A row without a
    value there is dropped. It need not be kept."""
    label_names: tuple[str, ...] = ()
    """Names of the labels, in the order in which a model shall have them. A whole number in the rows is then a place
    among them, counted from 0, and a row with another label is dropped. Empty: the labels are what the rows say."""
    label_separator: Annotated[str, MinLen(1)] | None = None
    """What stands between the labels, tokens or tags of a row where they are one text, as in CSV: ";" or " "."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with a row whose content appeared before. Kept duplicates stay on one side of the split."""


@dataclass(frozen=True, kw_only=True)
class FileSettings(RowSettings):
    """What the loaders of one file take."""

    path: Path
    """The file, relative to the recipe's folder."""
    validation_path: Path | None = None
    """A file of its own for the held-out rows, instead of `validation`. A row that is also in the training data is
    dropped from it."""


@dataclass(frozen=True, kw_only=True)
class JsonlSettings(FileSettings):
    """Settings of `jsonl`."""


@dataclass(frozen=True, kw_only=True)
class JsonSettings(FileSettings):
    """Settings of `json`. `path` may name a folder of .json files too, or a pattern such as "rows/*.json"."""

    field: str = "data"
    """The key that holds the array of rows when the file is one object; without it, the object is a row."""


@dataclass(frozen=True, kw_only=True)
class CsvSettings(FileSettings):
    """Settings of `csv`."""

    delimiter: Annotated[str, Len(1, 1)] | None = None
    """The character between fields; None takes a tab for .tsv files and a comma for others."""


@dataclass(frozen=True, kw_only=True)
class ParquetSettings(FileSettings):
    """Settings of `parquet`."""


@dataclass(frozen=True, kw_only=True)
class TextSettings(SplitSettings):
    """Settings of `text`."""

    path: Path
    """A text file, a folder of .txt, .text and .md files, or a pattern such as "texts/*.txt"; plain or gzip, UTF-8."""
    validation_path: Path | None = None
    """Files of their own for the held-out rows, instead of `validation`. A row that is also in the training data is
    dropped from it."""
    row: Literal["line", "paragraph", "file"] = "line"
    """What a row is: each line that is not blank, lines up to the next blank one, or a whole file."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with a row whose content appeared before. Kept duplicates stay on one side of the split."""


@dataclass(frozen=True, kw_only=True)
class ConllSettings(SplitSettings):
    """Settings of `conll`."""

    path: Path
    """The file, relative to the recipe's folder: a word a line, and a blank line between sentences."""
    validation_path: Path | None = None
    """A file of its own for the held-out rows, instead of `validation`. A row that is also in the training data is
    dropped from it."""
    word: Annotated[int, Ge(1)] = 1
    """The column of the words, counted from 1."""
    tag: Annotated[int, Ge(1)] | None = None
    """The column of the tags, counted from 1; None takes the last one."""
    separator: Annotated[str, MinLen(1)] | None = None
    """What stands between columns, such as a tab; None takes any blanks."""
    comment: Annotated[str, MinLen(1)] | None = None
    """What lines begin with that are left out, such as "#"; None leaves none out, since a word may be written so."""
    label_names: tuple[str, ...] = ()
    """Names of the tags, in the order in which a model shall have them. A whole number in the file is then a place
    among them, counted from 0, and a sentence with another tag is dropped. Empty: the tags are what the file says."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with a row whose content appeared before. Kept duplicates stay on one side of the split."""


@dataclass(frozen=True, kw_only=True)
class HubSettings(RowSettings):
    """Settings of `hub`; the names are those of `datasets.load_dataset`."""

    path: Annotated[str, MinLen(1)]
    """The dataset's id, such as "openai/gsm8k", or a folder of data files relative to the recipe's folder."""
    name: str | None = None
    """The dataset's configuration, where it has several."""
    split: Annotated[str, MinLen(1)] = "train"
    """The split to train on; slices such as "train[:1000]" work."""
    validation_split: str | None = None
    """A split of its own for the held-out rows, instead of `validation`. A row that is also in the training data is
    dropped from it."""
    revision: str | None = None
    """Branch, tag or commit of the dataset's repository; None takes its main branch."""


@dataclass(frozen=True, kw_only=True)
class MixSettings(Settings):
    """Settings of `mix`. What it combines are loaders of their own: `[data.sources.NAME]`."""

    weights: Mapping[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    """Share of each source among the training rows, relative to the others; a source that is not named has 1. With 0
    only its held-out rows are there. Empty takes every row of every source once."""
    stopping_strategy: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"
    """Where the weights ask for more rows than a source has: first_exhausted takes fewer of the others, all_exhausted
    repeats its rows until those of every source are used."""
    task: Annotated[str, MinLen(1)] = "task"
    """The column that says which source a row is from, by its name; it replaces one of that name."""


@dataclass(frozen=True, kw_only=True)
class DocstringsSettings(SplitSettings):
    """Settings of `docstrings`. What these settings leave out is never read, so it is not counted as lost."""

    package: Annotated[str, MinLen(1)] = "stdlib"
    """Import name of an installed package or module, such as "requests" or "email.mime"; "stdlib" is the standard
    library of the Python that runs."""
    instruction: str = "Write a one-sentence docstring for this Python function."
    """What stands before the source in each prompt; empty for the source alone."""
    system: Annotated[str, MinLen(1)] | None = None
    """System prompt of every conversation."""
    max_source_chars: Annotated[int, Gt(0)] = 400
    """Longest source without its docstring, in characters; longer functions are left out."""
    min_source_lines: Annotated[int, Ge(1)] = 2
    """Fewest lines of source without the docstring; shorter functions are left out."""
    min_doc_chars: Annotated[int, Ge(1)] = 20
    """Shortest first sentence, in characters; shorter ones are left out."""
    max_doc_chars: Annotated[int, Gt(0)] = 150
    """Longest first sentence, in characters; longer ones are left out."""
    kinds: bool = False
    """Whether rows carry the column `kind`: `method` where the first parameter is self or cls, else `function`."""
