"""The field names of a dataclass, read from its source without importing it.

`[trainer.arguments]` is checked against the arguments of the wrapped library when a plan is made; importing
that library would load torch.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path


def dataclass_fields(reference: str) -> list[str] | None:
    """Field names of `"package.module:Class"`, its bases included.

    Returns None when a base cannot be followed: then the names are checked when the class is built.
    """
    module, _, name = reference.partition(":")
    try:
        return sorted(_fields(module, name))
    except (LookupError, OSError, SyntaxError, ValueError, RecursionError):
        return None


def _fields(module: str, name: str) -> set[str]:
    path = _source(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            found = {
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and "ClassVar" not in ast.unparse(item.annotation)
                and not _derived(item.value)
            }
            for base in node.bases:
                if not isinstance(base, ast.Name):  # `library.Class`, `Generic[T]`
                    raise LookupError(ast.unparse(base))
                if base.id != "object":
                    found |= _fields(*_imported(tree, base.id, module, path))
            return found
    return _fields(*_imported(tree, name, module, path))


def _derived(value: ast.expr | None) -> bool:
    """Whether a field's default says that nobody may pass it: `field(init=False)`."""
    return isinstance(value, ast.Call) and any(
        item.arg == "init" and isinstance(item.value, ast.Constant) and item.value.value is False
        for item in value.keywords
    )


def _imported(tree: ast.Module, name: str, module: str, path: Path) -> tuple[str, str]:
    """Where `name`, as used in `module`, comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, name
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = node.module or ""
                    for _ in range(node.level - 1):
                        package = package.rpartition(".")[0]
                    if node.level:
                        origin = f"{package}.{origin}" if origin else package
                    return origin, alias.name
    # packages that import lazily list their names in dictionaries {"submodule": ["Name", ...]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                listed = getattr(value, "elts", [])
                if (
                    isinstance(key, ast.Constant)
                    and isinstance(key.value, str)
                    and any(getattr(item, "value", None) == name for item in listed)
                ):
                    return f"{package}.{key.value}", name
    raise LookupError(name)


def _source(module: str) -> Path:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise LookupError(module)
    path = Path(spec.origin).parent.joinpath(*rest) if rest else Path(spec.origin)
    if path.is_dir():
        path = path / "__init__.py"
    elif rest:
        path = path.with_suffix(".py")
    if not path.is_file():
        raise LookupError(module)
    return path
