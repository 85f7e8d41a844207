"""Errors: what a person reads, and the exit code of each kind."""

from __future__ import annotations

import pytest

from tunesmith import errors
from tunesmith.errors import RecipeError, Stopped, TunesmithError, nearest

CODES = {
    "UsageError": 2,
    "DataError": 65,
    "MissingError": 69,
    "PluginError": 69,
    "NumericalError": 70,
    "MemoryExhausted": 71,
    "DiskError": 74,
    "LockedError": 75,
    "RecipeError": 78,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_every_kind_has_its_exit_code(name: str, code: int) -> None:
    assert getattr(errors, name)("x").exit_code == code


def test_no_kind_of_error_is_left_out_of_the_table() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TunesmithError)}
    assert kinds == {*CODES, "TunesmithError", "Stopped"}


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (1, 129)])
def test_a_stop_exits_with_the_signal(number: int, code: int) -> None:
    stopped = Stopped(number, "stopped", fix="go on")
    assert (stopped.exit_code, stopped.signal_number) == (code, number)
    assert str(stopped) == "stopped\n  go on"


def test_the_message_says_where_what_details_and_fix_in_that_order() -> None:
    error = RecipeError("no such key", where="a.toml:3", details=["one", "two"], fix="Mend it.")
    assert str(error).splitlines() == ["a.toml:3: no such key", "  one", "  two", "  Mend it."]
    assert str(TunesmithError("plain")) == "plain"


def test_the_nearest_name_is_offered_only_for_slips() -> None:
    assert nearest("trianer", ["trainer", "data"]) == "trainer"
    assert nearest("zzz", ["trainer", "data"]) is None
    assert nearest("x", []) is None
