"""Progress on a terminal and elsewhere, and how figures are written."""

from __future__ import annotations

import errno
import io
import json
import math
import warnings

import pytest
from rich.console import Console

from tunesmith.console import progress
from tunesmith.console.commands import COMMANDS, SECTIONS, children
from tunesmith.console.live import LiveReporter
from tunesmith.console.out import finite, number, seconds, size
from tunesmith.console.paint import clean, json_text, table
from tunesmith.console.progress import LineReporter, Track, reporter, sparkline
from tunesmith.console.report import measures_table


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# --- lines ------------------------------------------------------------------------------------
def test_lines_come_at_the_first_step_every_interval_and_at_the_last(clock: Clock) -> None:
    stream = io.StringIO()
    lines = LineReporter(stream, interval=10)
    lines.phase("train")
    for step in range(1, 31):
        lines.progress(step, 30, {"loss": 1 / step, "learning_rate": 2e-4, "tokens_per_second": 113.0})
        clock.now += 1
    shown = [line.split(" ·")[0] for line in stream.getvalue().splitlines()]
    assert shown == ["== train", "train 1/30", "train 11/30", "train 21/30", "train 30/30"]
    assert "loss 1 · lr 2.00e-04 · 113 tokens/s · memory" in stream.getvalue()
    assert "19.0 s left" not in stream.getvalue()
    assert "19 s left" in stream.getvalue()


def test_the_last_step_of_a_phase_that_ended_early_is_printed(clock: Clock) -> None:
    stream = io.StringIO()

    def fail() -> None:
        with reporter(stream) as talk:
            talk.phase("train")
            talk.progress(1, 9, {"loss": 2.0})
            talk.progress(2, 9, {"loss": 1.5, "reward": 0.25})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert stream.getvalue().splitlines()[-1].startswith("train 2/9 · loss 1.5 · reward 0.25")


def test_a_stream_that_cannot_be_written_ends_no_run() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with reporter(Full()) as talk:
        talk.phase("train")
        talk.progress(1, 9, {"loss": 2.0})
        talk.warn("look here")


def test_messages_and_warnings_are_lines() -> None:
    stream = io.StringIO()
    with reporter(stream) as talk:
        talk.say("a note\x1b[2J")
        talk.warn("look here")
    assert stream.getvalue() == "a note\\x1b[2J\nwarning: look here\n"


def test_a_resumed_run_counts_its_own_pace(clock: Clock) -> None:
    track = Track("train")
    track.update(100, 200, {})
    assert track.remaining is None
    clock.now += 10
    track.update(110, 200, {})
    assert track.remaining == pytest.approx(90)
    track.update(200, 200, {})
    assert track.remaining is None


def test_sparkline_spans_low_to_high_and_leaves_gaps() -> None:
    assert sparkline([1.0, 4.5, 8.0]) == "▁▄█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([1.0, math.nan, 2.0, math.inf]) == "▁ █ "
    assert sparkline([math.nan]) == " "


# --- live -------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [80, 120])
def test_the_live_display_fits_the_terminal(clock: Clock, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, record=True, color_system=None)
    live = LiveReporter(io.StringIO(), console)  # not entered: it is drawn by hand
    live.phase("train")
    for step in range(1, 41):
        clock.now += 0.5
        live.progress(step, 120, {"loss": 3 / step, "learning_rate": 2e-4, "tokens_per_second": 1234.5})
    console.print(live)
    lines = [line for line in console.export_text().splitlines() if line]
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert "40/120" in lines[0]
    assert "40 s left" in lines[0]
    for figure in ("loss 0.075", "▁", "lr 2.00e-04", "tokens/s", "memory"):
        assert figure in lines[1]


def test_finished_phases_leave_a_line() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    with LiveReporter(stream, console) as live:
        live.phase("load model")
        live.say("a note")
        live.warn("look here")
        live.phase("train")
        live.progress(3, 3, {"loss": 0.5})
    left = stream.getvalue()
    assert "✓ load model" in left
    assert "  a note" in left
    assert "! look here" in left
    assert "3/3  loss 0.5 ▁" in left


def test_a_failed_phase_is_marked() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)

    def fail() -> None:
        with LiveReporter(stream, console) as live:
            live.phase("train")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert "✗ train" in stream.getvalue()


# --- figures ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456, "0.1235"), (12.3456, "12.35"), (40000.4, "40000"), (3.0, "3"), (math.nan, "nan"), (None, "")],
)
def test_numbers_have_four_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_durations_and_sizes() -> None:
    assert [seconds(value) for value in (0.34, 12.3, 187, 3723)] == ["0.3 s", "12 s", "3:07", "1:02:03"]
    assert [size(value) for value in (512, 3.2e6, 4.25e9, 2e12)] == ["512 B", "3 MB", "4.2 GB", "2.0 TB"]


def test_json_holds_no_nan() -> None:
    assert finite({"a": [math.nan, 1.5], "b": {"c": math.inf}}) == {"a": [None, 1.5], "b": {"c": None}}


def test_control_characters_are_shown() -> None:
    assert clean("a\x1b[31mb\tc\nd\x9b") == "a\\x1b[31mb\tc\nd\\x9b"
    assert clean("over\u202ewritten \u2067\U0001f642 é") == "over\\u202ewritten \\u2067\U0001f642 é"


def test_json_cannot_steer_the_terminal_and_reads_back() -> None:
    steering = "".join(map(chr, (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2069)))
    text = json_text({steering: f"{steering} é"})
    assert json.loads(text) == {steering: f"{steering} é"}
    assert set(text) & set(steering) == {"\n"}


def test_plain_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = table(("a", "what"), [("x" * 10, "y" * 40)], style=lambda column, cell: None)
    assert max(map(len, text.splitlines())) == 30
    assert text.splitlines()[1].endswith("…")


# --- measures ---------------------------------------------------------------------------------
def measure(value: float, better: str) -> dict[str, object]:
    return {"value": value, "better": better, "low": value * 0.9, "high": value * 1.1, "n": 400, "unit": ""}


@pytest.mark.parametrize("width", [80, 120])
def test_measures_fit_and_say_what_got_better(width: int) -> None:
    before = {"perplexity": measure(34.21, "lower"), "rouge-l": measure(0.1512, "higher")}
    after = {"perplexity": measure(12.5, "lower"), "rouge-l": measure(0.1209, "higher"), "new": measure(1, "lower")}
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(measures_table({"before": before, "after": after}))
    lines = [line.rstrip() for line in console.export_text().splitlines() if line.strip()]
    assert all(len(line) <= width for line in lines)
    (perplexity,) = (line for line in lines if "perplexity" in line)
    assert "34.21 [30.8, 37.6]" in perplexity
    assert "12.5 [11.2, 13.8]" in perplexity
    assert perplexity.endswith("-63% better")
    assert lines[-1].endswith("over 400 rows")
    (rouge,) = (line for line in lines if "rouge-l" in line)
    assert "-20% worse" in rouge


def test_a_measure_that_is_not_finite_is_shown() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    broken = {**measure(1.0, "lower"), "value": math.inf}
    console.print(measures_table({"before": {"x": measure(2, "lower")}, "after": {"x": broken}}))
    assert "inf" in console.export_text()


# --- the table of commands --------------------------------------------------------------------
def test_every_command_is_in_the_help_and_can_be_imported() -> None:
    from importlib import import_module

    assert sorted(name for _, names in SECTIONS for name in names) == sorted(COMMANDS)
    for reference, line in COMMANDS.values():
        module, _, function = reference.partition(":")
        assert callable(getattr(import_module(f"tunesmith.console.{module}"), function))
        assert line.endswith(".")
    assert "plugins" in children("")
    assert "list" in children("plugins")


def test_what_a_library_warns_of_is_one_line_without_its_source() -> None:
    stream = io.StringIO()
    with reporter(stream):
        warnings.simplefilter("always", UserWarning)
        warnings.warn("two\n  lines", UserWarning, stacklevel=1)
    assert stream.getvalue() == "warning: two lines\n"
