"""The screen: live on a terminal, plain lines elsewhere, JSON alone on stdout when asked."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosweep.cli.live import View


class Console:
    """Write for people and for programs.

    Parameters
    ----------
    as_json
        Whether stdout belongs to one JSON object; people's lines then go to stderr.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._stream: IO[str] = sys.stderr if as_json else sys.stdout
        self._view: View | None = None
        self._gone = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches a terminal that can redraw."""
        return self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def has_color(self) -> bool:
        """Whether colour is wanted; NO_COLOR switches it off."""
        return self.is_terminal and not os.environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """Write a line for people; a reader or a stream that went away is no error."""
        if self._gone or (self._view is not None and self._view.take_line(text)):
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._gone = True

    def lines(self, texts: Sequence[str]) -> None:
        """Write several lines for people."""
        for text in texts:
            self.line(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write an aligned table for people."""
        self.lines(aligned(header, rows))

    def data(self, value: Mapping[str, Any]) -> None:
        """Write the JSON object when JSON was asked for."""
        if self.as_json:
            text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def attach(self, view: View | None) -> None:
        """Send lines above a live view while it is shown."""
        self._view = view

    def take_logs(self) -> None:
        """Write what the driver logs as lines of this console, above a live view."""
        root = logging.getLogger()
        level = logging.INFO if root.isEnabledFor(logging.INFO) else logging.WARNING
        for handler in list(root.handlers):
            root.removeHandler(handler)
        taker = _LogLines(self)
        taker.setLevel(level)
        root.addHandler(taker)


class _LogLines(logging.Handler):
    """Turn log records into lines of a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.line(f"{record.levelname.lower()}: {record.getMessage()}")


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines with aligned columns."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
