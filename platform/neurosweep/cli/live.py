"""Show a running study: a live table on a terminal, or a line now and then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from neurosweep.cli.console import Console
from neurosweep.cli.wording import (
    best_text,
    duration,
    failures_text,
    progress_line,
)
from neurosweep.core.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_PLAIN_EVERY_S = 30.0
_LIVE_EVERY_S = 0.25
_NUM_SHOWN = 5
Summary = Mapping[str, Any]


class View(Protocol):
    """Show the progress of a study while it runs."""

    def __enter__(self) -> Self:
        """Start to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to show."""
        ...

    def update(self, summarize: Callable[[], Summary], *, force: bool = False) -> None:
        """Show new figures, unless the last ones were shown a moment ago."""
        ...

    def take_line(self, text: str) -> bool:
        """Write a line above the view; False when the view does not redraw."""
        ...


def view_for(console: Console, clock: Clock | None = None) -> View:
    """Return a live view on a terminal and a plain one elsewhere."""
    clock = clock or SystemClock()
    return LiveView(console, clock) if console.is_terminal else PlainView(console, clock)


class PlainView:
    """Write a line at every improvement, new failure and closed round, else twice a minute."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._last = float("-inf")
        self._looked = float("-inf")
        self._seen: tuple[int, int] = (0, 0)
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, summarize: Callable[[], Summary], *, force: bool = False) -> None:
        """Write what is new."""
        now = self._clock.monotonic()
        if not force and now - self._looked < _LIVE_EVERY_S:
            return
        self._looked = now
        summary = summarize()
        seen = (len(summary["improvements"]), sum(summary["failures"].values()))
        if force or seen != self._seen or now - self._last >= _PLAIN_EVERY_S:
            self._say(summary, seen)
            self._seen, self._last = seen, now

    def _say(self, summary: Summary, seen: tuple[int, int]) -> None:
        line = progress_line(summary)
        if line == self._said:
            return
        self._said = line
        if seen[1] > self._seen[1]:
            line += f" | failures: {failures_text(summary['failures'])}"
        self._console.line(line)

    def take_line(self, text: str) -> bool:
        """Leave lines to the console."""
        del text
        return False


class LiveView:
    """Redraw a table and a progress bar in place."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._last = float("-inf")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console as RichConsole
        from rich.live import Live

        terminal = RichConsole(
            stderr=self._console.as_json,
            no_color=not self._console.has_color,
            highlight=False,
        )
        self._live = Live(console=terminal, auto_refresh=False, redirect_stderr=False)
        self._live.start()
        self._console.attach(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._console.attach(None)
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, summarize: Callable[[], Summary], *, force: bool = False) -> None:
        """Redraw."""
        now = self._clock.monotonic()
        if self._live is None or (not force and now - self._last < _LIVE_EVERY_S):
            return
        self._last = now
        self._live.update(panel(summarize()), refresh=True)

    def take_line(self, text: str) -> bool:
        """Write a line above the table."""
        if self._live is None:
            return False
        self._live.console.print(text, markup=False, soft_wrap=True)
        return True


def panel(summary: Summary) -> RenderableType:
    """Return the picture of a running study for a terminal."""
    from rich.console import Group
    from rich.markup import escape
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    trials, floor, rate = summary["trials"], summary["floor"], summary["pace"]
    ended = trials["done"] + trials["failed"]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    where = f"{summary['round']} of {summary['rounds']}" if summary["round"] else "floor"
    grid.add_row("round", where)
    if floor["planned"]:
        text = f"{floor['done']} done  {floor['failed']} failed  of {floor['planned']}"
        grid.add_row("floor", text)
    counts = "  ".join(f"{trials[key]} {key}" for key in ("done", "failed", "running", "queued"))
    grid.add_row("search trials", counts)
    grid.add_row("running best", escape(best_text(summary)))
    per_minute = rate["trials_per_minute"]
    left = "-" if rate["eta_s"] is None else duration(rate["eta_s"])
    grid.add_row("rate", "-" if per_minute is None else f"{per_minute:.1f} trials/min")
    grid.add_row("time left", left)
    grid.add_row("failures", escape(failures_text(summary["failures"])))
    latest = summary["improvements"][-_NUM_SHOWN:]
    steps = [f"{step['trial']} {step['value']:.4f}" for step in reversed(latest)]
    grid.add_row("improvements", ", ".join(steps) or "-")
    bar = ProgressBar(total=max(trials["planned"], 1), completed=ended, width=_bar_width())
    percent = f" {100 * ended / max(trials['planned'], 1):.0f} %"
    row = Table.grid()
    row.add_row(bar, percent)
    return Panel(Group(grid, row), title=escape(summary["study"]), expand=False)


def _bar_width() -> int:
    try:
        return max(20, min(60, os.get_terminal_size().columns - 20))
    except OSError:
        return 40
