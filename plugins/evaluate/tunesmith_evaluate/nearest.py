"""Training rows as questions with answers, and those most like a question by BM25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bm25s

from tunesmith import DataError, Dataset
from tunesmith_transformers.tokens.encoding import reference


@dataclass(frozen=True)
class Example:
    """A row as a question with its answer: plain text, or turns of a conversation."""

    prompt: str | list[dict[str, Any]]
    answer: str

    @property
    def text(self) -> str:
        """What is asked, as one text; a system prompt is the same for all and says nothing of this one."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(turn["content"] for turn in self.prompt if turn["role"] != "system")


def example(row: Mapping[str, Any], record_type: str) -> Example:
    """A row of type prompt-completion, messages or text-label as a question with its answer."""
    if record_type == "text-label":
        return Example(row["text"], str(row["label"]))
    if record_type == "messages":
        turns = list(row["messages"])
        while turns and turns[-1]["role"] == "assistant":
            turns.pop()
        return Example(turns, reference(row, record_type))
    prompt = row["prompt"]
    return Example(prompt if isinstance(prompt, str) else list(prompt), reference(row, record_type))


def training_examples(data: Dataset) -> list[Example]:
    """The training rows that have an answer.

    Raises:
        DataError: none has.
    """
    found = [one for _, row in data.train if (one := example(row, data.type)).answer]
    if not found:
        raise DataError("no training row has an answer that could serve as an example", fix="Look at [data].")
    return found


class Nearest:
    """Finds examples like a question (BM25, Robertson and Zaragoza 2009, doi 10.1561/1500000019; Lucene's variant)."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.count = len(examples)
        self.index = bm25s.BM25()
        self.index.index(_words([one.text for one in examples]), show_progress=False)

    def to(self, question: Example, count: int) -> list[int]:
        """The places of the `count` examples most like a question, the likest first."""
        found, _ = self.index.retrieve(_words([question.text]), k=min(count, self.count), show_progress=False)
        return [int(place) for place in found[0]]


def _words(texts: list[str]) -> Any:
    return bm25s.tokenize(texts, stopwords=None, token_pattern=r"(?u)\w+", show_progress=False)
