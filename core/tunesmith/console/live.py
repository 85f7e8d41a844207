"""The live display: finished phases as lines, the running one as a bar with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tunesmith.console.out import safe, seconds
from tunesmith.console.progress import Track, sparkline


class LiveReporter:
    """Draws phases and progress on a terminal; a context manager that leaves the screen tidy."""

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        self.console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self.track: Track | None = None
        self._live = Live(self, console=self.console, refresh_per_second=8, transient=True)
        self._spinner = Spinner("dots", style="cyan")

    def __enter__(self) -> LiveReporter:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(done=error is None)
        self._live.stop()

    # --- the reporter -------------------------------------------------------------------------
    def phase(self, name: str) -> None:
        self._close(done=True)
        self.track = Track(name)

    def say(self, message: str) -> None:
        self.console.print(safe(f"  {message}", "dim"))

    def warn(self, message: str) -> None:
        self.console.print(Text.assemble(("! ", "bold yellow"), safe(message)))

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        if self.track is None:
            self.track = Track("")
        self.track.update(step, total, metrics)

    # --- drawing ------------------------------------------------------------------------------
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        track = self.track
        if track is None:
            return
        if not track.total:
            line = Table.grid(padding=(0, 1))
            line.add_row(self._spinner, safe(track.name, "bold"), Text(seconds(track.elapsed), style="dim"))
            yield line
            return
        yield Group(self._bar(track), self._figures(track, options.max_width))

    def _bar(self, track: Track) -> Table:
        line = Table.grid(padding=(0, 1), expand=True)
        for ratio in (0, 0, 1, 0, 0):
            line.add_column(ratio=ratio or None, no_wrap=True)
        left = f"{seconds(track.remaining)} left" if track.remaining is not None else seconds(track.elapsed)
        line.add_row(
            self._spinner,
            safe(track.name, "bold"),
            ProgressBar(total=track.total, completed=track.step, complete_style="cyan", finished_style="green"),
            Text(f"{track.step}/{track.total}"),
            Text(left, style="dim"),
        )
        return line

    def _figures(self, track: Track, width: int) -> Text:
        figures = track.figures()
        text = Text("  ", no_wrap=True, overflow="ellipsis")
        if track.losses:
            text.append(figures.pop(0) + " ", style="bold")
            room = max(8, width - 2 - len(text) - sum(len(part) + 3 for part in figures))
            text.append(sparkline(list(track.losses)[-room:]) + "   ", style="cyan")
        text.append(" · ".join(figures), style="dim")
        return text

    def _close(self, *, done: bool) -> None:
        """Leave one line of a phase behind."""
        track, self.track = self.track, None
        if track is None or not track.name:
            return
        mark, style = ("✓", "green") if done else ("✗", "red")
        line = Text.assemble((f"{mark} ", style), safe(track.name), (f"  {seconds(track.elapsed)}", "dim"))
        if track.total:
            line.append(f"  {track.step}/{track.total}", style="dim")
        if track.losses:
            line.append("  " + track.figures()[0] + " ", style="dim")
            line.append(sparkline(list(track.losses)), style="cyan")
        self.console.print(line)
