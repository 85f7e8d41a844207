"""Chat templates by name: formats that models are published with, in Jinja of our own. No torch here.

Each has the special tokens that it writes, and those at which serving stops; a begin token, and an end token where a
format ends turns with it, are the tokenizer's own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith.errors import nearest
from tunesmith.store import parse_json
from tunesmith_transformers.tokens.ends import end_ids, note_ends

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Named:
    """A format.

    Args:
        tokens: special tokens that it writes, besides the tokenizer's own begin and end.
        ends: those of them that end a turn; empty where that is the tokenizer's end token.
    """

    tokens: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


NAMED = {
    "chatml": Named(("<|im_start|>", "<|im_end|>"), ("<|im_end|>",)),
    "gemma": Named(("<start_of_turn>", "<end_of_turn>"), ("<end_of_turn>",)),
    "llama3": Named(("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ("<|eot_id|>",)),
    "mistral": Named(("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]")),
    "mistral-7b": Named(("[INST]", "[/INST]")),
    "phi": Named(("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), ("<|end|>",)),
    "phi4": Named(("<|im_start|>", "<|im_sep|>", "<|im_end|>"), ("<|im_end|>",)),
    "qwen": Named(("<|im_start|>", "<|im_end|>"), ("<|im_end|>",)),
    "qwen3": Named(("<|im_start|>", "<|im_end|>"), ("<|im_end|>",)),
    "zephyr": Named(),
}


def text_of(template: Path, place: Path) -> str:
    """The Jinja of a named template, or of the file at `place`."""
    found = TEMPLATES / f"{template}.jinja" if str(template) in NAMED else place
    return found.read_text(encoding="utf-8").strip("\n")


def check_named(template: Path, place: Path) -> None:
    """A chat template must be a known name, or a file that is there.

    Raises:
        DataError: it is neither.
    """
    if str(template) in NAMED or place.is_file():
        return
    near = nearest(str(template), list(NAMED)) if template.suffix == "" else None
    raise DataError(
        f"there is no chat template {template}",
        details=[f"templates by name: {', '.join(NAMED)}"],
        fix=f"Did you mean {near!r}?" if near else "Mend `chat_template` in [model].",
    )


def check_folder(template: Path | None, added: Collection[str], folder: Path) -> None:
    """Check what can be known of a named template's tokens by a tokenizer.json.

    Raises:
        DataError: the vocabulary lacks some.
    """
    named = NAMED.get(str(template))
    if named is None or not named.tokens:
        return
    try:
        content = parse_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
        known = {token["content"] for token in content["added_tokens"]}
    except (OSError, ValueError, KeyError, TypeError):  # loading the tokenizer says what is wrong with it
        return
    _refuse([token for token in named.tokens if token not in known and token not in added], str(template), folder)


def use(tokenizer: Any, template: Path, text: str, folder: Path) -> None:
    """Give a tokenizer a chat template, and tell it at which tokens the answers of a named one stop.

    Raises:
        DataError: the vocabulary lacks tokens that a named template writes.
    """
    tokenizer.chat_template = text
    named = NAMED.get(str(template))
    if named is None:
        return
    _refuse([token for token in named.tokens if not is_one(tokenizer, token)], str(template), folder)
    note_ends(tokenizer, tokenizer.convert_tokens_to_ids(list(named.ends)))


def stop_there(model: Any, tokenizer: Any, template: Path | None) -> None:
    """Let a model's generation settings stop where a named template ends turns: they are saved with it, for serving."""
    settings = getattr(model, "generation_config", None)
    if settings is not None and NAMED.get(str(template), Named()).ends:
        settings.eos_token_id = list(end_ids(tokenizer))


def is_one(tokenizer: Any, token: str) -> bool:
    """Whether a text is a token of its own, wherever it stands."""
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == tokenizer.unk_token_id:
        return False
    return bool(found in tokenizer.added_tokens_decoder)


def _refuse(missing: list[str], name: str, folder: Path) -> None:
    if missing:
        listed = ", ".join(f'"{token}"' for token in missing)
        raise DataError(
            f"the chat template {name!r} writes tokens that the vocabulary lacks: {', '.join(missing)}",
            where=str(folder),
            fix=f"Add them with add_tokens = [{listed}] in [model], or choose the template that the model was made "
            "with.",
        )
