"""A conversation with a model: what was said, and the answer as it grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.adapted import ModelHandle
from tunesmith.errors import DataError
from tunesmith.guard import seed_everything


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
            DataError: the conversation no longer fits the model, its chat template refuses it, or `row` lacks what the
                model reads.
        """
        values = {name: column.read(self.row) for name, column in self.handle.columns.items()}
        self.turns.append({"role": "user", "content": text})
        try:
            inputs = self._encode()
        except DataError:
            self.turns.pop()
            raise
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
            inputs = self._rendered(turns)
        else:  # a base model goes on with a text; earlier turns would only confuse it
            inputs = _unended(tokenizer, self.turns[-1]["content"])
        return inputs.to(self.handle.model.device) if hasattr(inputs, "to") else inputs

    def _rendered(self, turns: list[dict[str, str]]) -> Any:
        from jinja2.exceptions import TemplateError

        try:
            return self.handle.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except (TemplateError, TypeError, KeyError) as error:  # a template raises what Python's operators raise, too
            fix = "Leave out --system." if self.system else "Forget what was said with /reset."
            raise DataError(
                f"the chat template of {self.handle.source} refuses this conversation: {error}",
                fix=fix if len(turns) > 1 else "Mend the chat template in the model's tokenizer.",
            ) from error


def _unended(tokenizer: Any, text: str) -> Any:
    """A text as tensors (1, T), without the end token that some tokenizers put behind: nothing follows an end."""
    inputs = tokenizer(text, return_tensors="pt")
    end, ids = getattr(tokenizer, "eos_token_id", None), inputs["input_ids"]
    if end is None or not hasattr(ids, "tolist") or ids.tolist()[0][-1:] != [end]:
        return inputs
    if list(tokenizer(text, add_special_tokens=False)["input_ids"])[-1:] != [end]:
        for name in inputs:
            inputs[name] = inputs[name][:, :-1]
    return inputs
