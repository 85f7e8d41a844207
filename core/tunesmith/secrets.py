"""Secrets: they come from the environment, are refused in recipes, and are struck out of whatever is written.

A secret is the value of a variable whose name says so (`HF_TOKEN`, `WANDB_API_KEY`, ...), a text that has the shape of
a well-known token, or the name and password in a URL.
"""

import os
import re
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STRUCK = "***"
SHORTEST = 8  # characters: shorter values are words that stand everywhere
NAME = re.compile(r"(^|_)(token|key|secret|password|passwd|passphrase|credentials?)s?$", re.IGNORECASE)
#: Settings whose value would be a secret. Tokens of text (`eos_token`, ...) and ordinary keys are none.
SETTING = re.compile(
    r"^(token|.*(api|access|auth|hub|hf|bearer)_?(token|key)|.*(secret|password|passwd|passphrase).*)$", re.IGNORECASE
)
#: The shapes of tokens: Hugging Face, GitHub, OpenAI and Anthropic, AWS, Google, Slack.
SHAPE = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}"
    r"|AIza[\w-]{35}|xox[abprs]-[\w-]{10,})"
)
URL = re.compile(r"(?<=://)[^\s/@:\"']*:[^\s/@\"']+(?=@)")
#: The same in a single value, where a quote ends nothing.
URL_IN_VALUE = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")


def is_secret_name(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return NAME.search(name) is not None


def known() -> "tuple[str, ...]":
    """The secrets in this process's environment, the longest first; names of files are none."""
    return _known(tuple(os.environ.items()))


@lru_cache(maxsize=1)
def _known(environment: "tuple[tuple[str, str], ...]") -> "tuple[str, ...]":
    found = {
        value
        for name, value in environment
        if len(value) >= SHORTEST and is_secret_name(name) and not os.path.exists(value)
    }
    found |= {spelled for value in found for spelled in _spellings(value)}
    return tuple(sorted(found, key=len, reverse=True))


def _spellings(value: str) -> "Iterator[str]":
    """How a secret is written in JSON, TOML, Python, HTML and URLs, which escape quotes and the like."""
    if value.isalnum():
        return
    import html
    import json
    from urllib.parse import quote, quote_plus

    for text in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        for spelled in (text, json.dumps(text)[1:-1], html.escape(text), html.escape(text, quote=False)):
            if spelled != value:
                yield spelled
    yield from {quote(value), quote(value, safe=""), quote_plus(value)} - {value}


def redacted(value: "object") -> "object":
    """Data with `***` in place of every secret in its texts and keys, for before it becomes JSON."""
    if isinstance(value, str):
        return redact(URL_IN_VALUE.sub(STRUCK, value) if "://" in value else value)
    if isinstance(value, dict):
        return {redacted(key) if isinstance(key, str) else key: redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def redact(text: str, secrets: "tuple[str, ...] | None" = None) -> str:
    """The text with `***` in place of every secret.

    Args:
        secrets: those that `known` gave, for a caller with a thousand texts; None asks it.
    """
    for secret in known() if secrets is None else secrets:
        if secret in text:
            text = text.replace(secret, STRUCK)
    if "://" in text:
        text = URL.sub(STRUCK, text)
    return SHAPE.sub(STRUCK, text)


def in_settings(tree: "Mapping[str, object]") -> "Iterator[tuple[tuple[str | int, ...], str]]":
    """Where a recipe's tables hold a secret: the path of each, and what gives it away, without the value."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), tree)]
    values = known()
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict):
            waiting.extend(((*path, str(key)), value) for key, value in node.items())
        elif isinstance(node, list):
            waiting.extend(((*path, place), value) for place, value in enumerate(node))
        elif isinstance(node, str):
            name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
            if any(value in node for value in values):
                yield path, "the value of a secret in the environment"
            elif SHAPE.search(node):
                yield path, "a token"
            elif URL.search(node):
                yield path, "a name and a password in a URL"
            elif node and SETTING.match(name):
                yield path, "a secret, by its name"
