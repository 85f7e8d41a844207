"""What decides a model besides the settings: the files that are read of it, or the commit that is fetched. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tunesmith_transformers.sources.claims import COMMIT, place
from tunesmith_transformers.training.settings import ModelSettings

#: Files of a model folder that decide what is loaded, as patterns below it; weights are told apart from the others.
WEIGHTS = ("*.safetensors",)
OTHERS = (
    "*.json",  # config, generation_config, tokenizer, special_tokens_map, index of the weights, modules
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.model",
    "*.txt",  # vocab.txt, merges.txt
    "*.tiktoken",
    "*_Pooling/config.json",  # how a sentence transformer sums up a text
)
TIMEOUT = 10  # seconds that the hub may take to say which commit a name means

Digest = Callable[[Path], str]


def directory(settings: ModelSettings, folder: Path, digest: Digest) -> dict[str, str]:
    """The digests of a model folder's weights, configuration, tokenizer and templates, by file."""
    return files_of(place(settings.source, folder), digest)


def gguf(settings: ModelSettings, folder: Path, digest: Digest) -> dict[str, str]:
    """The digest of a GGUF file."""
    path = place(settings.source, folder)
    return {path.name: digest(path)} if path.is_file() else {}


def hub(settings: ModelSettings, folder: Path, digest: Digest) -> dict[str, str]:
    """The commit of a hub model, however its revision is named; nothing where that cannot be known."""
    name, _, revision = settings.source.partition("@")
    found = commit_of(name, revision)
    return {"commit": found} if found else {}


def files_of(folder: Path, digest: Digest) -> dict[str, str]:
    """The digests of the files that decide a model, by their names below its folder."""
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(_files(folder, (*WEIGHTS, *OTHERS)))}


def other_files_of(folder: Path, digest: Digest) -> Mapping[str, str]:
    """`files_of` without the weights."""
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(_files(folder, OTHERS))}


@cache
def commit_of(name: str, revision: str) -> str:
    """The commit that a revision of a hub model means now: asked of the hub, or of the snapshot in its cache.

    The answer holds for the life of the process, so that what is planned is what is loaded.

    Args:
        name: OWNER/NAME.
        revision: a branch, a tag or a commit; empty for the main branch.

    Returns:
        40 hex digits, or nothing where neither knows.
    """
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import constants

    return ("" if constants.HF_HUB_OFFLINE else _asked(name, revision)) or _cached(name, revision)


def _asked(name: str, revision: str) -> str:
    """What the hub says; nothing where it does not answer."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(name, revision=revision or None, timeout=TIMEOUT).sha or "")
    except Exception:  # the client raises many kinds; each means that the hub was not asked, and the cache may know
        return ""


def _cached(name: str, revision: str) -> str:
    """What the revision meant when it was fetched last; nothing where it never was."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    references = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model") / "refs"
    try:
        return (references / (revision or "main")).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in folder.glob(pattern) if path.is_file())
