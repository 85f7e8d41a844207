"""The shapes in which people keep their rows lead to what docs/reference/measurements.md says."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import data_shapes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "measurements.md").read_text(encoding="utf-8")
SHARED = ROOT.parent / "shared"


def test_the_table_of_shapes_is_what_the_loaders_make(tmp_path: Path) -> None:
    lines = list(data_shapes.samples(tmp_path))
    assert data_shapes.table(iter(lines)) in PAGE
    for _, _, read, kept, left_out, refused, *_ in lines:
        assert not read or int(read) == int(kept) + int(left_out) + int(refused)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the data sets are no part of the project")
def test_the_table_of_real_files_is_what_the_loaders_make() -> None:
    found = list(data_shapes.shared(SHARED))
    for line in found:
        assert f"| {' | '.join(line)} |\n" in PAGE
