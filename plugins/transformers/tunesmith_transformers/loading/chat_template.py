"""Chat templates, rendered in a process of their own: a model's template is code, written by whoever made the model.

Transformers' sandbox keeps it from Python's internals. It does not keep it from running for ever, or from filling the
memory; a process can be ended.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Lock
from types import MethodType
from typing import IO, Any

from jinja2.exceptions import TemplateError

from tunesmith import DataError

SECONDS = 5  # computing time of one rendering, which takes a thousandth of it
LONGEST = 1 << 20  # characters of a template
FIX = "Use another template: set chat_template = FILE in [model]."


class Refused(TemplateError):
    """The template does not take this conversation; the text says why."""


class Renderer:
    """The process that renders, started when it is first needed and again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._template: str | None = None  # the one that the process has
        self._ready = False
        self._lock = Lock()

    def start(self) -> None:
        """Begin to load what rendering needs, without waiting for it."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return
        command = [sys.executable, "-P", "-m", "tunesmith_transformers.loading.template_worker", str(SECONDS)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            start_new_session=True,  # Ctrl-C is for the run, which finishes its step
            env=_without_secrets(),
        )
        self._owner, self._ready, self._template = os.getpid(), False, None

    def render(self, template: str, order: Mapping[str, Any]) -> str:
        """The text that a template makes of a conversation.

        Args:
            order: `messages`, `generation_prompt`, `tools` or None, `special`, the tokenizer's special tokens by name,
                and `options`, further variables by name.

        Raises:
            Refused: the template raises an error.
            DataError: it does not end, or takes too much memory.
        """
        with self._lock:
            self.start()
            assert self._process is not None
            asked, answers = _pipes(self._process)
            try:
                if not self._ready:
                    self._ready = answers.readline() == "ready\n"
                known = {} if template == self._template else {"template": template}
                print(json.dumps({**order, **known}), file=asked, flush=True)
                self._template = template
                line = answers.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                code, ready = self._process.wait(), self._ready
                self.stop()
                raise _ended(code, ready)
            answer = json.loads(line)
            if answer.get("fatal"):
                self.stop()
                raise DataError(f"the chat template was ended: {answer['error']}", fix=FIX)
        if "error" in answer:
            raise Refused(answer["error"])
        return str(answer["text"])

    def stop(self) -> None:
        """End the process, if it is this one's."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


RENDERER = Renderer()
atexit.register(RENDERER.stop)


def shield(tokenizer: Any) -> None:
    """Let a tokenizer's own `apply_chat_template` render in the other process, whoever calls it."""
    from transformers import PreTrainedTokenizerBase

    # a class that overrides it follows a format of its own, without a template
    if type(tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template:
        tokenizer.apply_chat_template = MethodType(_apply, tokenizer)


def _apply(
    tokenizer: Any,
    conversation: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = False,
    tokenize: bool = True,
    return_tensors: str | None = None,
    return_dict: bool = True,
    **options: Any,
) -> Any:
    """`apply_chat_template` for one conversation: text, or its tokens.

    Args:
        tools: JSON schemas of what may be called.
        options: further variables of the template; none that the library sets itself.

    Raises:
        Refused: the template does not take the conversation.
        DataError: it does not end, takes too much memory, or is too long.
    """
    tools = list(tools) if tools else None
    template = tokenizer.get_chat_template(tools=tools)
    if len(template) > LONGEST:
        raise DataError(f"the chat template has {len(template):,} characters; at most {LONGEST:,} are read", fix=FIX)
    text = RENDERER.render(
        template,
        {
            # a key without a value counts as if it were not there
            "messages": [{key: value for key, value in turn.items() if value is not None} for turn in conversation],
            "generation_prompt": add_generation_prompt,
            "tools": tools,
            "special": {name: _text(value) for name, value in tokenizer.special_tokens_map.items()},
            "options": options,
        },
    )
    if not tokenize:
        return text
    encoded = tokenizer(text, add_special_tokens=False, return_tensors=return_tensors)
    return encoded if return_dict else encoded["input_ids"]


def _text(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _ended(code: int, ready: bool) -> Exception:
    import signal

    if code == -signal.SIGXCPU:
        return DataError(f"the chat template did not end within {SECONDS} seconds of computing", fix=FIX)
    if not ready:
        return RuntimeError(f"the process that renders chat templates could not start (exit code {code})")
    return DataError(f"the chat template made the process that renders it fail (exit code {code})", fix=FIX)


def _without_secrets() -> dict[str, str]:
    """This process's environment without secrets: whoever breaks out of the sandbox finds none."""
    from tunesmith.secrets import is_secret_name

    return {name: value for name, value in os.environ.items() if not is_secret_name(name)}
