"""Field names of dataclasses, read without importing them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.static import dataclass_fields

BASE = """
import heavy_library_that_is_not_there
from dataclasses import dataclass, field
from typing import ClassVar

@dataclass
class Base:
    rate: float = 0.1
    names: list = field(default_factory=list)
    derived: int = field(init=False, default=0)
    shared: ClassVar[int] = 3
    constant = 5

    def method(self): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "static_package"
    (folder / "deep").mkdir(parents=True)
    (folder / "base.py").write_text(BASE)
    (folder / "deep" / "__init__.py").write_text("from ..base import Base as Renamed\nfrom . import leaf\n")
    (folder / "deep" / "leaf.py").write_text(
        "from dataclasses import dataclass\nfrom . import Renamed\n\n"
        "@dataclass\nclass Leaf(Renamed):\n    depth: int = 1\n"
    )
    (folder / "__init__.py").write_text('_lazy = {"deep.leaf": ["Leaf"], "base": ["Base"]}\n')
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_fields_but_no_class_variables_and_nothing_that_cannot_be_passed(package: Path) -> None:
    assert dataclass_fields("static_package.base:Base") == ["names", "rate"]


@pytest.mark.parametrize("reference", ["static_package.deep.leaf:Leaf", "static_package:Leaf"])
def test_bases_are_followed_through_renaming_relative_and_lazy_imports(package: Path, reference: str) -> None:
    assert dataclass_fields(reference) == ["depth", "names", "rate"]
    assert not any(name.startswith("static_package") for name in sys.modules), "something was imported"


@pytest.mark.parametrize(
    "text",
    [
        "import other\nclass Args(other.Base):\n    a: int = 1\n",
        "from typing import Generic\nclass Args(Generic[int]):\n    a: int = 1\n",
        "from no_such_library import Base\nclass Args(Base):\n    a: int = 1\n",
        "from .args import Args\n",
        "class Other: ...\n",
        "def broken(:\n",
        "# caf\udce9\n",
    ],
)
def test_what_cannot_be_followed_is_left_to_the_class_itself(package: Path, text: str) -> None:
    (package / "args.py").write_bytes(text.encode(errors="surrogateescape"))
    assert dataclass_fields("static_package.args:Args") is None


@pytest.mark.parametrize("reference", ["no_such_package:X", "static_package.no_module:X", "sys:X"])
def test_a_missing_module_is_left_too(package: Path, reference: str) -> None:
    assert dataclass_fields(reference) is None


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed: nothing to read")
def test_the_arguments_of_trl_are_read_without_torch() -> None:
    code = (
        "import sys; from tunesmith.static import dataclass_fields as f; names = f('trl:SFTConfig')\n"
        "assert {'learning_rate', 'packing', 'max_length', 'weight_decay'} <= set(names), names\n"
        "assert 'torch' not in sys.modules and 'trl' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
