"""Conversations in words, for a person to read.

in_words([{"role": "user", "content": "2 + 2?"}])    # "2 + 2?"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def in_words(prompt: Any) -> str:
    """A prompt: the text, or the turns of a conversation."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return said(prompt[0])
    return "\n\n".join(f"{message['role']}: {said(message)}" for message in prompt)


def said(message: Mapping[str, Any]) -> str:
    """What a turn says: its text, and its calls of tools, each a line."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        calls.append(f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})")
    return "\n".join([*([message["content"]] if message["content"] or not calls else []), *calls])
