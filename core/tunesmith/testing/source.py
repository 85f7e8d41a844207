"""What a plugin's source says, read without running it: its files, and which names they read."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

#: Calls that hand on every field of the settings at once.
WHOLE = {"asdict", "astuple", "vars"}


def module_file(module_name: str) -> Path | None:
    """The file that an imported module came from; None for a built-in or an unknown one."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return Path(file) if file else None


def package_files(module_name: str) -> list[Path]:
    """The Python files of the top-level package that holds a module; only its own file for a single file."""
    file = module_file(module_name)
    if file is None:
        return []
    package = module_file(module_name.partition(".")[0])
    if package is None or package.name != "__init__.py":
        return [file]
    return sorted(path for path in package.parent.rglob("*.py"))


def field_owner(settings: type, name: str) -> type:
    """The class in which a field of a dataclass was last written."""
    return next(owner for owner in settings.__mro__ if name in vars(owner).get("__annotations__", {}))


def names_read(files: list[Path], settings: type) -> tuple[set[str], bool]:
    """Attribute names that the files read, and whether some settings are handed on as a whole.

    `settings.x`, `getattr(settings, "x")` and `attrgetter("x")` read x; `asdict(settings)` and its like
    read every field. `self.x` counts in the methods of the settings class only: elsewhere it is another x.
    """
    owners = {owner.__name__ for owner in settings.__mro__}
    found: set[str] = set()
    whole = False
    for file in files:
        tree = _tree(file, file.stat().st_mtime_ns)
        others = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name not in owners
            for inner in ast.walk(node)
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in others:
                found.add(node.attr)
            elif isinstance(node, ast.Call):
                called = _last_name(node.func)
                if called in ("getattr", "attrgetter"):
                    found.update(_strings(node.args))
                whole = whole or (called in WHOLE and any("settings" in _last_name(arg) for arg in node.args))
    return found, whole


@lru_cache(maxsize=256)
def _tree(file: Path, changed: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _last_name(node: ast.expr) -> str:
    """The name that an expression ends in: `settings` of `self.settings`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _strings(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
