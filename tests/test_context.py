"""What a factory is handed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith import Context, DataError, Ledger, StopFlag, Stopped
from tunesmith.context import PlainReporter, cache_folder, config_folder


def test_relative_paths_start_at_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context(folder=tmp_path)
    assert context.path("a/b") == tmp_path / "a" / "b"
    assert context.path(tmp_path / "c") == tmp_path / "c"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert context.path("~/d") == tmp_path / "home" / "d"


def test_a_stop_is_an_error_that_says_what_was_being_done() -> None:
    flag = StopFlag()
    context = Context(stop=flag)
    context.check_stop("load data")
    assert not flag
    flag.set(15)
    assert flag
    with pytest.raises(Stopped, match="stopped in 'load data'") as caught:
        context.check_stop("load data")
    assert caught.value.exit_code == 143
    assert "tunesmith resume" in str(caught.value)


def test_the_row_limit_is_the_recipe_s() -> None:
    ledger = Ledger(rows_in=10)
    ledger.drop("a:1", "empty")
    Context(ledger=ledger, max_lost_rows=0.1).check_rows()
    with pytest.raises(DataError):
        Context(ledger=ledger).check_rows()


def test_a_copy_changes_only_what_is_named(tmp_path: Path) -> None:
    context = Context(seed=7, folder=tmp_path)
    other = context.with_(resume=True)
    assert (other.seed, other.folder, other.resume, context.resume) == (7, tmp_path, True, False)
    assert other.ledger is context.ledger


def test_contexts_share_nothing_by_default() -> None:
    assert Context().ledger is not Context().ledger
    assert Context().facts is not Context().facts


def test_the_plain_reporter_writes_one_line_an_event_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.phase("train")
    reporter.say("hello")
    reporter.warn("look")
    reporter.progress(3, 10, {"loss": 0.123456})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["== train", "hello", "warning: look", "3/10 loss=0.1235"]


def test_folders_of_the_person_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("TUNESMITH_CONFIG", str(tmp_path / "b"))
    assert (cache_folder(), config_folder()) == (tmp_path / "a", tmp_path / "b")
    assert Context().cache == tmp_path / "a"
    monkeypatch.setenv("TUNESMITH_CACHE", "")
    assert cache_folder().name == "tunesmith"
