"""Whether a model comes with a chat template, by its files alone. No torch and no Transformers here."""

from __future__ import annotations

import struct
from pathlib import Path

from tunesmith import Context, MissingError
from tunesmith.store import parse_json
from tunesmith_transformers.sources.claims import place
from tunesmith_transformers.sources.gguf_header import read_header
from tunesmith_transformers.training.settings import ModelSettings, WheelSettings

# where a tokenizer looks for its template; folders below a model's are not shown to it (`sandbox`)
FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"


def directory(settings: ModelSettings, context: Context) -> bool:
    """Whether a model folder has one, or the recipe names one."""
    return bool(settings.chat_template) or of_folder(place(settings.source, context.folder))


def gguf(settings: ModelSettings, context: Context) -> bool:
    """Whether a GGUF file's header has one, or the recipe names one."""
    return bool(settings.chat_template) or of_file(place(settings.source, context.folder))


def wheel(settings: WheelSettings, context: Context) -> bool:
    """Whether the model in a wheel has one, or the recipe names one."""
    if settings.chat_template:
        return True
    from tunesmith_transformers.sources.wheel import unpacked

    content = unpacked(settings.source, settings.sha256, context)
    folders = [path.parent for path in content.rglob("config.json") if any(path.parent.glob("*.safetensors"))]
    return any(of_folder(folder) for folder in folders) or any(of_file(path) for path in content.rglob("*.gguf"))


def hub(settings: ModelSettings, context: Context) -> bool:
    """Whether a model of the hub has one, or the recipe names one; only the tokenizer's small files are fetched.

    Raises:
        MissingError: the hub cannot be reached and nothing is cached, or there is no such model.
    """
    if settings.chat_template:
        return True
    from huggingface_hub import snapshot_download

    name, _, revision = settings.source.partition("@")
    patterns = [FILE, CONFIG]
    try:
        return of_folder(Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns)))
    except Exception as error:  # the hub's client raises many kinds; each means that the files did not come
        raise MissingError(
            f"whether {settings.source!r} has a chat template cannot be told: the hub says {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}",
            fix="Check the name and the network, or say in [data] whether plain prompts become conversations: "
            "conversational = true or false.",
        ) from error


def of_folder(folder: Path) -> bool:
    """Whether a folder in Transformers' layout holds a chat template."""
    if (folder / FILE).is_file():
        return True
    try:
        config = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the tokenizer says what is wrong with it
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def of_file(path: Path) -> bool:
    """Whether the header of a GGUF file holds a chat template."""
    try:
        return bool(read_header(path).get("tokenizer.chat_template"))
    except (OSError, ValueError, struct.error):  # converting the file says what is wrong with it
        return False
