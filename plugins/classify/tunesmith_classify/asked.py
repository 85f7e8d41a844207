"""Labels as a language model is asked for them: what it reads for each row, and what it would write for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith import DataError, Dataset, ModelHandle, Records
from tunesmith.labels import label_name, labels_of
from tunesmith_classify.settings import LikelihoodSettings
from tunesmith_transformers.tokens.encoding import Unusable, column_values, encode_row, prompt_ids, reference
from tunesmith_transformers.tokens.rendering import extras

MOST_LABELS = 1000


@dataclass(frozen=True)
class Question:
    """One row that the model is asked.

    Args:
        ids: what it reads, up to where its answer begins.
        label: the row's own label.
        text: what is asked, for a person to read.
    """

    row: str
    ids: tuple[int, ...]
    label: str
    text: str
    columns: Mapping[str, int]


@dataclass(frozen=True)
class Asked:
    """Questions, and for each label the tokens of the answer that names it, its end token included.

    Args:
        prior: what is read when there is no text to label.
    """

    questions: tuple[Question, ...]
    names: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]
    prior: tuple[int, ...]
    left_out: Mapping[str, str]


def asked(handle: ModelHandle, data: Dataset, records: Records, settings: LikelihoodSettings) -> Asked:
    """What the model is asked for held-out rows; labels are those of the training rows.

    Rows of type `text-label` are asked by the settings' prompt; others ask themselves, and their answer is the label.

    Raises:
        DataError: the answers of the training rows are no labels, or no question can be asked.
    """
    rows = [(name, _asking(row, data, settings, handle)) for name, row in records]
    names = _names(data)
    written = {name: _written(name, data, settings) for name in names}
    answers: list[tuple[int, ...]] = []
    questions, left_out = [], {}
    room = handle.max_length
    for name, (row, label, text) in rows:
        try:
            ids = prompt_ids(row, "prompt", handle.tokenizer)
            answers = answers or [_answer(row, written[name], ids, handle) for name in names]
        except Unusable as error:
            left_out[name] = str(error)
            continue
        longest = max(map(len, answers))
        if not ids:
            left_out[name] = "its prompt is empty"
        elif room is not None and len(ids) + longest > room:
            left_out[name] = f"its prompt leaves no room for a label of {longest} tokens in {room}"
        else:
            questions.append(Question(name, tuple(ids), label, text, column_values(row, handle.columns)))
    if not questions:
        raise DataError(
            f"none of the {len(records)} held-out rows can be asked",
            details=[f"{row}: {reason}" for row, reason in list(left_out.items())[:5]],
            fix="Shorten the prompt, or hold out other rows in [data].",
        )
    prior = _without_text(rows[0][1][0], data, settings, handle)
    return Asked(tuple(questions), names, tuple(answers), prior, left_out)


def _asking(
    row: Mapping[str, Any], data: Dataset, settings: LikelihoodSettings, handle: ModelHandle
) -> tuple[dict[str, Any], str, str]:
    """A row with a prompt, its label, and what it asks in words."""
    if data.type == "text-label":
        asking = {**row, "prompt": _prompt(row["text"], data, settings, handle)}
        return asking, label_name(row["label"]), row["text"]
    label = reference(row, data.type)
    if data.type == "messages":
        prompt: Any = list(row["messages"][:-1]) if label else list(row["messages"])
    else:
        prompt = row["prompt"]
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
    return {**row, "prompt": prompt}, label.strip(), text


def _prompt(text: str, data: Dataset, settings: LikelihoodSettings, handle: ModelHandle) -> Any:
    labels = labels_of(data)
    assert labels is not None
    listed = ", ".join(_written(name, data, settings) for name in labels.names)
    filled = settings.prompt.replace("{labels}", listed).replace("{text}", text)
    if settings.chat and handle.tokenizer.chat_template:
        return [{"role": "user", "content": filled}]
    return f"{filled}\n"


def _names(data: Dataset) -> tuple[str, ...]:
    """The labels: those of labelled rows, or the different answers of the training rows.

    Raises:
        DataError: nearly every row has an answer of its own, or there is but one.
    """
    labels = labels_of(data)
    if labels is not None:
        return labels.names
    found = sorted({reference(row, data.type).strip() for _, row in data.train} - {""})
    if len(found) < 2 or len(found) > min(MOST_LABELS, max(2, len(data.train) // 2)):
        raise DataError(
            f"the answers of the training rows are no labels: {len(found)} different ones in {len(data.train)} rows",
            details=[repr(answer[:60]) for answer in found[:3]],
            fix='Use "generate" in [[evaluate]] for free answers, or give rows whose answers are labels.',
        )
    return tuple(found)


def _written(name: str, data: Dataset, settings: LikelihoodSettings) -> str:
    if data.type != "text-label":
        return name
    return settings.verbalizer.get(name, name.replace("_", " "))


def _answer(row: Mapping[str, Any], written: str, ids: Sequence[int], handle: ModelHandle) -> tuple[int, ...]:
    """The tokens behind a row's prompt that name a label, as training would supervise them."""
    answer: Any = written if isinstance(row["prompt"], str) else [{"role": "assistant", "content": written}]
    whole = {**extras(row), "prompt": row["prompt"], "completion": answer}
    return tuple(encode_row(whole, "prompt-completion", handle.tokenizer)[-1].ids[len(ids) :])


def _without_text(
    row: Mapping[str, Any], data: Dataset, settings: LikelihoodSettings, handle: ModelHandle
) -> tuple[int, ...]:
    """What the model reads when the text is left out of a row's prompt."""
    prompt: Any = ""
    if data.type == "text-label":
        prompt = _prompt("", data, settings, handle)
    elif not isinstance(row["prompt"], str):
        prompt = [*row["prompt"][:-1], {**row["prompt"][-1], "content": ""}]
    ids = prompt_ids({**extras(row), "prompt": prompt}, "prompt", handle.tokenizer)
    return tuple(ids or [handle.tokenizer.eos_token_id])
