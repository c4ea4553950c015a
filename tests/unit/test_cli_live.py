"""The screen: plain lines, the live table, JSON alone on stdout."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _study_builder import StudyBuilder
from rich.console import Console as RichConsole

from neurosweep.cli.console import Console, aligned
from neurosweep.cli.live import LiveView, PlainView, panel, view_for
from neurosweep.cli.summary import summarize
from neurosweep.core.layout import Home
from neurosweep.records.fold import load_state


@dataclass
class Watch:
    """A clock that moves when told."""

    t: float = 0.0

    def now(self) -> float:
        return self.t

    def monotonic(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def summary(tmp_path: Path) -> dict[str, Any]:
    builder = StudyBuilder(Home(tmp_path), per_round=10, fail_share=0.3)
    builder.create()
    builder.run_round(0)
    builder.run_round(1)
    return summarize(builder.dir, load_state(builder.dir), builder.clock.t, detail=True)


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Return what makes stdout a terminal; pytest itself replaces stdout before a test."""

    def use() -> Terminal:
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return use


def test_elsewhere_than_on_a_terminal_a_line_is_written_when_there_is_news(
    summary: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Watch()
    view = PlainView(Console(), clock)
    shown: list[str] = []

    def update(**changes: Any) -> int:
        view.update(lambda: summary | changes)
        shown.append(capsys.readouterr().out)
        return shown[-1].count("\n")

    assert update() == 1
    assert "failures:" in shown[-1]
    assert "best val_cer" in shown[-1]
    clock.t += 1.0
    assert update() == 0, "nothing new"
    clock.t += 0.1
    assert update(round=9) == 0, "a moment ago"
    clock.t += 1.0
    assert update(improvements=[*summary["improvements"], {}], round=3) == 1
    clock.t += 31.0
    assert update(round=4) == 1, "twice a minute"
    clock.t += 1.0
    assert update(failures={**summary["failures"], "hang": 1}, round=5) == 1
    assert "1 hang" in shown[-1]


def test_the_same_line_is_not_repeated(
    summary: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    view = PlainView(Console(), Watch())
    for _ in range(3):
        view.update(lambda: summary, force=True)
    assert capsys.readouterr().out.count("\n") == 1


def test_the_live_table_shows_all_that_matters(summary: dict[str, Any]) -> None:
    screen = RichConsole(file=io.StringIO(), width=120, record=True, force_terminal=True)
    screen.print(panel(summary))
    text = screen.export_text()
    best = summary["best"]
    for part in (
        summary["study"],
        "1 of 2",
        f"{summary['trials']['done']} done",
        f"{summary['trials']['failed']} failed",
        f"{best['value']:.4f} [{best['low']:.4f}, {best['high']:.4f}] in {best['trial']}",
        "trials/min",
        "time left",
        summary["improvements"][-1]["trial"],
        next(iter(summary["failures"])),
        "50 %",
    ):
        assert part in text, part


def test_a_name_cannot_write_markup_to_the_screen(summary: dict[str, Any]) -> None:
    screen = RichConsole(file=io.StringIO(), width=120, record=True)
    screen.print(panel(summary | {"study": "[red]x[/red]", "failures": {"[b]": 1}}))
    assert "[red]x[/red]" in screen.export_text()


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_no_color_is_respected(
    summary: dict[str, Any],
    open_terminal: Callable[[], Terminal],
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    colored: bool,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    terminal = open_terminal()
    console = Console()
    with view_for(console, Watch()) as view:
        assert isinstance(view, LiveView)
        view.update(lambda: summary, force=True)
    color = re.search(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]", terminal.getvalue())
    assert (color is not None) is colored


def test_lines_go_above_the_live_table(
    summary: dict[str, Any], open_terminal: Callable[[], Terminal]
) -> None:
    terminal = open_terminal()
    console = Console()
    with view_for(console, Watch()) as view:
        view.update(lambda: summary, force=True)
        console.line("a [bold]line[/bold]")
    console.line("after")
    shown = terminal.getvalue()
    assert "a [bold]line[/bold]" in shown
    assert shown.endswith("after\n")


def test_a_dumb_terminal_gets_plain_lines(
    open_terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = open_terminal()
    assert terminal.isatty()
    assert isinstance(view_for(Console()), PlainView)


def test_with_json_stdout_holds_one_object_and_people_read_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(as_json=True)
    console.line("for people")
    console.data({"v": 1, "text": "ä"})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"v": 1, "text": "ä"}
    assert captured.err == "for people\n"
    Console().data({"v": 1})
    assert capsys.readouterr().out == ""


def test_a_reader_that_went_away_does_not_end_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    monkeypatch.setattr(sys, "stdout", Gone())
    console = Console()
    console.line("one")
    console.line("two")


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_warnings_of_the_driver_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().setLevel(logging.WARNING)
    Console().take_logs()
    logging.getLogger("neurosweep.research").warning("MLflow is away")
    logging.getLogger("neurosweep.research").info("not shown")
    assert capsys.readouterr().out == "warning: MLflow is away\n"


def test_columns_are_aligned() -> None:
    assert aligned(("a", "bb"), [("long", "x")]) == ["a     bb", "long  x"]
