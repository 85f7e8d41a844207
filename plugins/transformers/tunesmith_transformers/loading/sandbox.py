"""What the libraries underneath get to see of a model folder: weights, tokenizer and settings, and no code.

They are handed a folder of links that holds nothing else. Its JSON files are copies without the keys by which a
configuration names code: classes in files of the model, kernels and repositories of the hub, another base model.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import DataError

#: Endings of the files that are shown. Python files and pickles are not there for whoever looks.
SHOWN = {".gguf", ".jinja", ".json", ".model", ".safetensors", ".tiktoken", ".txt"}
#: Files that would put an adapter on the model, over a base that they name themselves.
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}
#: JSON that holds a vocabulary and no settings; large, and read by parsers that run nothing.
VOCABULARY = {"added_tokens.json", "tokenizer.json", "vocab.json"}
#: Keys that name code, wherever they stand.
CODE = {"auto_map", "auto_mapping", "code_revision", "custom_generate", "custom_pipelines", "trust_remote_code"}
#: Keys that choose an implementation, which may be a kernel of the hub; [model] `attention` is the way to choose one.
KERNELS = re.compile(r"^_?(attn|experts)_implementation")
#: The classes that a tokenizer's configuration may name: the library looks up any other name among all it has.
TOKENIZER_CLASS = re.compile(r"^[A-Za-z0-9]+(Tokenizer|TokenizerFast|Backend)\Z")
INDEX = ".safetensors.index.json"


@contextmanager
def screened(folder: Path, *, code: str = "") -> Iterator[Path]:
    """A model folder as it is shown to the libraries, for the time of the block.

    Args:
        code: the repository that the folder is a snapshot of, when the person has trusted its code at this revision:
            then its Python files and the keys that name them are shown, too.

    Raises:
        DataError: it names files outside of the folder, or code of another repository, or is nested too deeply.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-model-") as place:
        shown = Path(place) / folder.name
        shown.mkdir()
        for path in sorted(folder.iterdir()):
            if not path.is_file() or path.name in ADAPTER or path.suffix not in (SHOWN | {".py"} if code else SHOWN):
                continue
            content = None if path.suffix != ".json" or path.name in VOCABULARY else _settings(path)
            if content is None:
                (shown / path.name).symlink_to(path.resolve())
            else:
                _check_shards(path, content)
                kept = _without(content, [], bool(code))
                if code and isinstance(kept, dict) and "auto_map" in kept:
                    kept["auto_map"] = _of_repository(kept["auto_map"], code, path)
                (shown / path.name).write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        yield shown


def left_out(folder: Path) -> list[str]:
    """What `screened` does not show of a folder and might be missed, one sentence a file."""
    found = []
    for path in sorted(folder.glob("*.json")):
        content = None if path.name in VOCABULARY or path.name in ADAPTER else _settings(path)
        names: list[str] = []
        _without(content, names)
        if names:
            found.append(f"left out of {path.name}, because it names code: {', '.join(sorted(set(names)))}")
    if (folder / "adapter_config.json").is_file():
        found.append("the folder holds an adapter too (adapter_config.json), which is not put on the model")
    return found


def own_code(folder: Path) -> bool:
    """Whether a model's configuration names classes in files of its own."""
    content = _settings(folder / "config.json")
    return isinstance(content, dict) and "auto_map" in content


def _settings(path: Path) -> Any:
    """The content of a JSON file; None where it is none, which the library that needs it will say.

    Raises:
        DataError: it is nested too deeply.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _without(content, [])
        return content
    except (OSError, ValueError):
        return None
    except RecursionError as error:
        raise DataError(
            f"{path.name} is damaged: nested too deeply", where=str(path), fix="Fetch the model again."
        ) from error


def _without(value: Any, names: list[str], code: bool = False) -> Any:
    """The same data without keys that name code; those left out are added to `names`."""
    if isinstance(value, list):
        return [_without(item, names, code) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        named = key == "tokenizer_class" and isinstance(item, str) and not TOKENIZER_CLASS.match(item)
        if named or KERNELS.match(key) or (key in CODE and not code):
            if item is not None:
                names.append(key)
        elif not key.endswith("_file"):  # where the author's tokenizer lay; the files are those of this folder
            kept[key] = _without(item, names, code)
    return kept


def _of_repository(value: Any, repository: str, path: Path) -> Any:
    """The classes that `auto_map` names, as classes of this folder.

    Raises:
        DataError: one is in another repository, whose code nobody has trusted.
    """
    if isinstance(value, dict):
        return {key: _of_repository(item, repository, path) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_of_repository(item, repository, path) for item in value]
    if not isinstance(value, str):
        return value
    other, separator, name = value.rpartition("--")
    if separator and other != repository:
        raise DataError(
            f"{path.name} names code of another repository, {other!r}, which was not trusted",
            where=str(path),
            fix="Use a model that holds its code itself, or that Transformers knows.",
        )
    return name


def _check_shards(path: Path, content: Any) -> None:
    """Refuse an index whose files lie elsewhere.

    Raises:
        DataError: naming the first.
    """
    shards = content.get("weight_map") if isinstance(content, dict) and path.name.endswith(INDEX) else None
    for name in shards.values() if isinstance(shards, dict) else ():
        if not isinstance(name, str) or Path(name).name != name:
            raise DataError(
                f"{path.name} names {name!r}, which leads out of the model folder",
                where=str(path),
                fix="Do not use this model; its index was made to read other files.",
            )
