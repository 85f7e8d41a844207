"""Functions with docstrings in Python source: the source without the docstring, and its first sentence."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

# A sentence ends at a stop before a blank and something that begins a sentence, unless an abbreviation ends there.
_STOP = re.compile(r"[.!?](?=\s+[^a-z\s])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|resp|no|fig|sec)|\.\.)\.$", re.IGNORECASE)


@dataclass(frozen=True)
class Function:
    """A function as an example.

    Args:
        line: line of its `def`, from 1.
        source: its decorators, signature and body without the docstring, dedented.
        sentence: the docstring's first sentence, its blanks made single.
        kind: `method` where the first parameter is self or cls, else `function`.
    """

    line: int
    source: str
    sentence: str
    kind: str


def functions(text: str) -> Iterator[Function]:
    """The functions and methods of a module that have a docstring and a body besides it, from top to bottom.

    Raises:
        SyntaxError, ValueError: `text` is not Python source of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in other people's strings
        tree = ast.parse(text)
    lines = re.split(r"(?<=\n)", text.replace("\r\n", "\n"))  # not splitlines: form feeds are no line ends to Python
    for node in _definitions(tree):
        doc = ast.get_docstring(node)
        if doc and len(node.body) > 1:
            yield Function(node.lineno, _without_docstring(node, lines), first_sentence(doc), _kind(node))


def first_sentence(doc: str) -> str:
    """The first sentence of a docstring's first paragraph, blanks made single; empty when it begins with a doctest."""
    paragraph = " ".join(re.split(r"\n\s*\n", doc.strip(), maxsplit=1)[0].split())
    if paragraph.startswith(">>>"):
        return ""
    for stop in _STOP.finditer(paragraph):
        if not _ABBREVIATION.search(paragraph[: stop.end()]):
            return paragraph[: stop.end()]
    return paragraph


def _definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function below `node`, outer before inner. Expressions hold none, and are most of a tree: not visited."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, block, ()):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield child
            yield from _definitions(child)


def _kind(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    parameters = [*node.args.posonlyargs, *node.args.args]
    return "method" if parameters and parameters[0].arg in ("self", "cls") else "function"


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    doc, following = node.body[0], node.body[1]
    assert doc.end_lineno is not None
    assert node.end_lineno is not None
    # columns are in UTF-8 bytes
    before = lines[doc.lineno - 1].encode()[: doc.col_offset].decode()
    after = lines[doc.end_lineno - 1].encode()[doc.end_col_offset :].decode()
    if following.lineno == doc.end_lineno:  # `"doc"; return 1`: keep the rest of the line
        joint = [before + after.lstrip(" ;\t")]
    else:  # drop what is left of the docstring's line, and the blank lines after it
        joint = [before.rstrip() + "\n"] if before.strip() else []
    tail = lines[doc.end_lineno : node.end_lineno]
    while not (joint and following.lineno == doc.end_lineno) and tail and not tail[0].strip():
        tail = tail[1:]
    return _dedented([*lines[first - 1 : doc.lineno - 1], *joint, *tail])


def _dedented(lines: list[str]) -> str:
    """The lines without the first one's indentation; a string's lines that stand further left stay as they are."""
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return "".join(line.removeprefix(indent) for line in lines).rstrip()
