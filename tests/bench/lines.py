"""Lines of code of the core, without blank lines, comments and docstrings. Run: python tests/bench/lines.py"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

CORE = Path(__file__).parents[2] / "core" / "tunesmith"


def code_lines(path: Path) -> int:
    """Lines that hold a token other than a comment or a docstring."""
    text = path.read_text(encoding="utf-8")
    skip: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skip.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - skip)


if __name__ == "__main__":
    parts = {"engine": 0, "console": 0, "testing": 0}
    for path in CORE.rglob("*.py"):
        part = path.relative_to(CORE).parts[0]
        parts[part if part in parts else "engine"] += code_lines(path)
    for name, count in parts.items():
        print(f"{name:8} {count:6,}")
    print(f"{'core':8} {sum(parts.values()):6,}")
