"""A study whose file is damaged is named, and is no defect of the plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith import Context, DataError
from tunesmith_optuna import OptunaSettings
from tunesmith_optuna.study import FILE, open_study


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_study_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match="the study of this search cannot be read") as caught:
        open_study((), OptunaSettings(), Context(folder=tmp_path, stage_folder=tmp_path))
    assert caught.value.where == str(tmp_path / FILE)
