"""Rows as prompts to answer, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tunesmith import Context, Dataset, ModelHandle, Shown, Token
from tunesmith_transformers.online import named
from tunesmith_transformers.online.check import MODEL, NAMED, reward_names
from tunesmith_transformers.online.prompts import Prompt, encode_prompts, usable_prompts
from tunesmith_transformers.online.settings import OnlineSettings, ScoreSettings
from tunesmith_transformers.tokens.batching import Rows
from tunesmith_transformers.tokens.encoding import prompt_ids
from tunesmith_transformers.tokens.example import WEIGHTLESS
from tunesmith_transformers.tokens.showing import texts
from tunesmith_transformers.training.arguments import longest

Handles = Mapping[str, ModelHandle]


def encode(data: Dataset, handles: Handles, settings: OnlineSettings, context: Context) -> Rows[Prompt]:
    """The training rows' prompts; rows that cannot be answered or scored go to the ledger.

    Raises:
        DataError: too many rows are lost, or they need a chat template and there is none.
        RecipeError: max_length is more than the model takes.
    """
    policy = handles["policy"]
    check_row = row_check(handles, data.type, settings)
    limit = longest(settings, policy.max_length)
    prompts = encode_prompts(data, policy, settings.max_new_tokens, limit, context, check_row)
    return Rows(prompts, [len(prompt.ids) for prompt in prompts])


def show(data: Dataset, handles: Handles, settings: OnlineSettings, context: Context) -> list[Shown]:
    """The training rows' prompts token by token: all is read, and what is learned from is the answer to it."""
    policy = handles["policy"]
    check_row = row_check(handles, data.type, settings)
    limit = longest(settings, policy.max_length)
    found, lost = usable_prompts(data.train, data.type, policy, settings.max_new_tokens, limit, check_row)
    for name, reason in lost.items():
        context.ledger.drop(name, reason, expected=reason == WEIGHTLESS)
    return [
        Shown(prompt.row, [Token(text) for text in texts(prompt.ids, policy.tokenizer)], "prompt") for prompt in found
    ]


def row_check(handles: Handles, record_type: str, settings: ScoreSettings) -> Callable[[Mapping[str, Any]], None]:
    """What refuses a row whose answers could not be scored; it raises `Unusable` with the reason.

    Args:
        handles: the roles `policy` and perhaps `reward`.
    """
    names = reward_names(settings) or ((MODEL,) if "reward" in handles else ())
    checks: list[Callable[[Mapping[str, Any]], Any]] = []
    for name in names:
        if name == MODEL and "reward" in handles:
            reward = handles["reward"].tokenizer
            if not all(alike(reward, handles["policy"].tokenizer)):  # it reads the prompt in its own way
                checks.append(partial(prompt_ids, record_type=record_type, tokenizer=reward))
        elif name in NAMED and isinstance(scored := named.make(name, settings, record_type), named.ExactAnswer):
            checks.append(scored.right)

    def check(row: Mapping[str, Any]) -> None:
        for one in checks:
            one(row)

    return check


def alike(one: Any, other: Any) -> tuple[bool, bool]:
    """Whether two tokenizers have the same vocabulary, and whether they have the same chat template."""
    return one is other or one.get_vocab() == other.get_vocab(), one.chat_template == other.chat_template
