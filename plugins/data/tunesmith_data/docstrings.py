"""The loader `docstrings`: real pairs of code and English out of any installed package, without a download."""

from __future__ import annotations

import importlib.util
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import Context, DataError, Dataset, MissingError, Records
from tunesmith_data.functions import functions
from tunesmith_data.settings import DocstringsSettings
from tunesmith_data.split import distinct, held_out, sample, shuffled

#: Folders that hold no library code: installed packages, tests (some broken on purpose), build leftovers.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclass(frozen=True)
class Pair:
    """A function's source and the sentence that describes it."""

    file: str
    line: int
    source: str
    sentence: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}"


def check(settings: DocstringsSettings, folder: Path) -> None:
    """Raises MissingError when the package is not installed here."""
    _root(settings.package)


def load(settings: DocstringsSettings, context: Context) -> Dataset:
    """Pairs of a function's source and its docstring's first sentence, as a user's and an assistant's message.

    Rows of one file stay on one side of the split, since overloads and variants of a function stand together.

    Raises:
        MissingError: the package is not installed here.
        DataError: it has no function that the settings admit.
    """
    pairs = sample(pairs_of(settings), settings.limit, context.seed)
    if not pairs:
        raise DataError(
            f"no function of {settings.package!r} has a docstring that the settings admit",
            fix="Choose another package, or widen max_source_chars, min_source_lines, min_doc_chars and max_doc_chars.",
        )
    context.ledger.read(len(pairs))
    kept = distinct(pairs, lambda pair: pair.source, context.ledger)
    apart = held_out([pair.file for pair in kept], settings.validation, context.seed)
    if settings.validation and not any(apart):
        context.reporter.warn(f"{settings.package}: nothing is held out: all functions stand in one file")
    train = [pair for pair, out in zip(kept, apart, strict=True) if not out]
    validation = [pair for pair, out in zip(kept, apart, strict=True) if out]
    if settings.shuffle:
        train = shuffled(train, context.seed)
    return Dataset(
        type="prompt-completion",
        train=_records(train, settings),
        validation=_records(validation, settings),
        recognised=f"functions and docstrings of {_title(settings.package)}",
    )


def pairs_of(settings: DocstringsSettings) -> Iterator[Pair]:
    """The pairs that the settings admit, in the order of file names and lines."""
    root = _root(settings.package)
    base = root if root.is_dir() else root.parent
    if settings.package != "stdlib" and root.is_dir():
        base = root.parent
    for path in _sources(root):
        try:
            with tokenize.open(path) as handle:  # honours the file's coding line
                found = list(functions(handle.read()))
        except (SyntaxError, ValueError, RecursionError, OSError):
            continue  # no Python source of this version, so no functions to take
        name = path.relative_to(base).as_posix()
        for function in found:
            if _admitted(function.source, function.sentence, settings):
                yield Pair(name, function.line, function.source, function.sentence, function.kind)


def _admitted(source: str, sentence: str, settings: DocstringsSettings) -> bool:
    return (
        len(source) <= settings.max_source_chars
        and source.count("\n") + 1 >= settings.min_source_lines
        and settings.min_doc_chars <= len(sentence) <= settings.max_doc_chars
        and "\0" not in source + sentence
    )


def _sources(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*.py")):
        if not LEFT_OUT.intersection(path.relative_to(root).parts[:-1]):
            yield path


def _root(package: str) -> Path:
    """The folder or file of a package or module, found without importing anything."""
    if package == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    top, *rest = package.split(".")
    fix = "Give the import name of an installed package, such as 'sklearn' for scikit-learn."
    try:
        spec = importlib.util.find_spec(top) if all(part.isidentifier() for part in (top, *rest)) else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise MissingError(f"the package {package!r} is not installed here", fix=fix)
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
        if root.is_dir():
            return root
        root = root.with_suffix(".py")
    else:
        root = Path(spec.origin or "").joinpath(*rest)
    if root.suffix != ".py" or not root.is_file():
        raise MissingError(f"the package {package!r} has no Python source here", fix=fix)
    return root


def _records(pairs: list[Pair], settings: DocstringsSettings) -> Records:
    rows = []
    for pair in pairs:
        asked = f"{settings.instruction}\n\n{pair.source}" if settings.instruction else pair.source
        prompt = [{"role": "user", "content": asked}]
        if settings.system:
            prompt.insert(0, {"role": "system", "content": settings.system})
        row: dict[str, Any] = {"prompt": prompt, "completion": [{"role": "assistant", "content": pair.sentence}]}
        rows.append({**row, "kind": pair.kind} if settings.kinds else row)
    return Records(rows, [pair.name for pair in pairs])


def _title(package: str) -> str:
    return f"the standard library of Python {platform.python_version()}" if package == "stdlib" else package
