"""The content of a message: text, or a list of parts of which some are text and some the thinking before it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable, plain

#: What nothing here reads: the media of vision, audio and video models.
MEDIA = ("image", "audio", "video")
PLURAL = {"image": "images", "audio": "sound", "video": "films"}
#: Types of parts that hold text, and that hold thinking.
TEXT_TYPES = ("text", "input_text", "output_text")
THINKING_TYPES = ("thinking", "reasoning")
#: Keys of a part that hold its text, and its thinking.
TEXT_KEYS = ("text", "content", "value")
THINKING_KEYS = ("thinking", "reasoning", *TEXT_KEYS)
PART_KEYS = ("type", *THINKING_KEYS)

PLACEHOLDER = re.compile(r"<\|?(image|audio|video)\|?>")


def unread(medium: str) -> str:
    """Why a row with an image, audio or video is refused."""
    return (
        f"no part that reads {PLURAL[medium]} is installed, and without {PLURAL[medium]} the text means another thing"
    )


def joined(content: Any, role: str) -> tuple[Any, str]:
    """The text of a content and its thinking; what is no list of parts is given back as it is.

    Raises:
        Unusable: a part is neither text nor thinking.
    """
    if role == "function_call" and not _parts(content):
        return content, ""
    if role == "tool" and not _parts(content):
        return (content if isinstance(content, str) or content is None else _as_json(content)), ""
    if not isinstance(content, (list, tuple)) or not content:
        return content, ""
    said, thought = [], []
    for part in content:
        if isinstance(part, str):
            said.append(part)
            continue
        if not isinstance(part, Mapping):
            raise Unusable(f"a message has a part that is {kind(part)}, not an object")
        form = part.get("type")
        if form in THINKING_TYPES:
            thought.append(_own(part, THINKING_KEYS))
        elif form in TEXT_TYPES or (form is None and any(isinstance(part.get(key), str) for key in TEXT_KEYS)):
            said.append(_own(part, TEXT_KEYS))
        else:
            raise Unusable(_why(form))
    return "".join(said), "".join(thought)


def _parts(content: Any) -> bool:
    """Whether the content of a tool's result is written in parts; any other list is the result itself."""
    return (
        isinstance(content, (list, tuple))
        and bool(content)
        and all(isinstance(part, Mapping) and part.get("type") in TEXT_TYPES for part in content)
    )


def _as_json(value: Any) -> str:
    return json.dumps(plain(value, "a message of the tool"), ensure_ascii=False)


def _own(part: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = part.get(key)
        if isinstance(value, str):
            return value
    raise Unusable(f"a part of a message has no text under {', '.join(map(repr, keys))}")


def _why(form: Any) -> str:
    if not isinstance(form, str):
        return "a message has a part without a type"
    for medium in MEDIA:
        if medium in form:
            return f"a message has a part of type {form[:40]!r}: {unread(medium)}"
    return f"a message has a part of type {form[:40]!r}, which is not text"


def placeholder(values: Mapping[str, Any]) -> str | None:
    """The first mark of an image, audio or video in the texts of a canonical row; None where there is none.

    With the closing tag in the same text they are HTML.
    """
    for text in _texts(values):
        if "<" not in text:
            continue
        for match in PLACEHOLDER.finditer(text):
            if f"</{match[1]}>" not in text:
                return match[0]
    return None


def _texts(values: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a canonical conversation: prompts, answers and contents."""
    for column in ("messages", "prompt", "completion", "chosen", "rejected"):
        yield from _said(values.get(column))
    for answer in values.get("answers", ()):
        yield from _said(answer)


def _said(side: Any) -> Iterable[str]:
    if isinstance(side, list):
        return [message["content"] for message in side]
    return (side,) if isinstance(side, str) else ()
