"""Events tables: one row an event, with the column names that neuralset uses.

A table is TSV or CSV with a header. Times are seconds on the clock of the timeline; where a
recording row (type ``Meg``, ``Eeg``, ...) carries a ``start``, that is when its first sample was
taken on the same clock. Rows may come in any order.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_text

REQUIRED = ("type", "start", "duration", "timeline", "subject")
OPTIONAL = (
    "session",
    "task",
    "filepath",
    "frequency",
    "text",
    "language",
    "button",
    "trial_id",
)
COLUMNS = REQUIRED + OPTIONAL
RECORDING_TYPES = frozenset({"Meg", "Eeg", "Ieeg", "Emg", "Fmri"})
EVENT_TYPES = RECORDING_TYPES | {
    "Keystroke",
    "Word",
    "Sentence",
    "Phoneme",
    "Stimulus",
    "Audio",
    "Video",
}

_FOREIGN = {
    "onset": "start",
    "timemeg": "start",
    "trial_type": "type",
    "kind": "type",
    "segment": "text",
    "key": "button",
    "sub": "subject",
    "participant_id": "subject",
    "ses": "session",
    "sfreq": "frequency",
    "run": "timeline",
}
_MAX_LISTED = 8
_CLOSE = 0.8
_NEXT = "write one row an event, under a header with the columns: "


@dataclass(frozen=True)
class Event:
    """One row of an events table.

    Attributes
    ----------
    type
        ``Meg`` for a recording, ``Keystroke``, ``Word``, ``Sentence``, ...
    start, duration
        Seconds on the clock of the timeline.
    timeline
        Name of the clock: one per recording.
    subject, session, task
        Who, which visit, what was done.
    filepath
        The recording, relative to the folder of the table unless absolute.
    frequency
        Sampling rate of the recording, hertz; None when not given.
    text, language, button, trial_id
        What the event carries; empty when not given.
    extra
        Values of every other column.
    """

    type: str
    start: float
    duration: float
    timeline: str
    subject: str
    session: str = ""
    task: str = ""
    filepath: str = ""
    frequency: float | None = None
    text: str = ""
    language: str = ""
    button: str = ""
    trial_id: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def value(self, column: str) -> str:
        """Return the text of a column, empty when the event does not have it."""
        if column not in COLUMNS:
            return self.extra.get(column, "")
        value = getattr(self, column)
        return "" if value is None else _text_of(value)


def read_events(path: Path, columns: Mapping[str, str] | None = None) -> tuple[Event, ...]:
    """Read and validate a table; events come ordered by timeline, then by start.

    Parameters
    ----------
    path
        TSV or CSV file, UTF-8; the separator is recognised from the header.
    columns
        Column of this module to its name in the file, for tables of other conventions.

    Raises
    ------
    DataError
        Once, with every problem of the table: its line, what is wrong, what is allowed.
    """
    where = f"events table {path}"
    header, rows = _read_rows(path, where)
    names = _rename(header, columns or {}, where)
    _check_columns(names, where)
    problems: list[str] = []
    events: list[tuple[int, Event]] = []
    for line, values in rows:
        event = _parse_row(line, dict(zip(names, values, strict=True)), problems)
        if event is not None:
            events.append((line, event))
    problems += _consistency_problems(events)
    _raise_all(where, problems)
    return tuple(sorted((e for _, e in events), key=lambda e: (e.timeline, e.start, e.type)))


def write_events(path: Path, events: Sequence[Event]) -> None:
    """Write a table that `read_events` and pandas read back; the suffix chooses TSV or CSV.

    Raises
    ------
    DataError
        When the suffix is neither ``.tsv`` nor ``.csv``.
    """
    separators = {".tsv": "\t", ".csv": ","}
    if path.suffix not in separators:
        msg = f"events table {path}: suffix '{path.suffix}' is unknown; use .tsv or .csv"
        raise DataError(msg)
    extra = sorted({name for event in events for name in event.extra})
    names = [*COLUMNS, *extra]
    rows = [names, *([event.value(name) for name in names] for event in events)]
    separator = separators[path.suffix]
    lines = [separator.join(_quoted(cell, separator) for cell in row) for row in rows]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines))


def _quoted(cell: str, separator: str) -> str:
    # The csv module of Python 3.11 leaves a carriage return unquoted and then cannot read it.
    if any(character in cell for character in (separator, '"', "\n", "\r")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def select(events: Iterable[Event], event_type: str) -> tuple[Event, ...]:
    """Return the events of one type, in their order."""
    return tuple(event for event in events if event.type == event_type)


def require_values(events: Sequence[Event], column: str, where: str) -> None:
    """Refuse events that lack the value that labels them.

    Raises
    ------
    DataError
        Naming the column, or a near miss where the table has no such column at all.
    """
    empty = [event for event in events if not event.value(column)]
    if not empty:
        return
    known = [*COLUMNS, *sorted({name for event in events for name in event.extra})]
    if len(empty) == len(events):
        filled = [n for n in known if n != column and any(e.value(n) for e in events)]
        hint = _close_to(column, filled)
        msg = f"{where}: no {events[0].type} event has a value in column '{column}'{hint}"
        raise DataError(f"{msg}; columns with values: {', '.join(filled)}")
    first = empty[0]
    msg = f"{where}: {len(empty)} of {len(events)} {first.type} events have no '{column}', first"
    raise DataError(
        f"{msg} at {first.start:g} s of timeline '{first.timeline}'; fill it in or drop the rows"
    )


def _read_rows(path: Path, where: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{where}: is not UTF-8 text (byte {error.start}); save it as UTF-8 TSV or CSV"
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{where}: cannot be read ({error.strerror}); give the path of a TSV or CSV file"
        raise DataError(msg) from error
    if not text.strip():
        msg = f"{where}: is empty; {_NEXT}{', '.join(REQUIRED)}"
        raise DataError(msg)
    first_line = text.lstrip("\r\n").splitlines()[0]
    separator = max("\t,;", key=first_line.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        msg = f"{where}: line {reader.line_num}: {error}; quote cells that hold separators"
        raise DataError(msg) from error
    header = [name.strip() for name in lines[0][1]]
    ragged = [
        f"line {line}: has {len(row)} cells, the header has {len(header)}"
        for line, row in lines[1:]
        if len(row) != len(header)
    ]
    _raise_all(where, ragged)
    if len(lines) == 1:
        msg = f"{where}: has a header but no event; {_NEXT}{', '.join(REQUIRED)}"
        raise DataError(msg)
    return header, lines[1:]


def _rename(header: list[str], columns: Mapping[str, str], where: str) -> list[str]:
    problems = [
        f"columns.{ours}: the file has no column '{theirs}'{_close_to(theirs, header)}"
        for ours, theirs in columns.items()
        if theirs not in header
    ]
    problems += [
        f"columns.{ours}: maps no known column{_close_to(ours, COLUMNS)}"
        for ours in columns
        if ours not in COLUMNS
    ]
    _raise_all(where, problems)
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    return [ours_of.get(name, name) for name in header]


def _check_columns(names: list[str], where: str) -> None:
    problems = [
        f"column '{n}' is there {k} times" for n, k in Counter(names).items() if k > 1 and n
    ]
    unclaimed = [name for name in names if name not in COLUMNS]
    for column in COLUMNS:
        if column in names:
            continue
        foreign = [name for name in unclaimed if _FOREIGN.get(name.lower()) == column]
        hint = _close_to(column, unclaimed) or (
            f"; if '{foreign[0]}' holds it, set columns.{column} = '{foreign[0]}'"
            if foreign
            else ""
        )
        if column in REQUIRED:
            problems.append(f"column '{column}' is missing{hint}")
        elif "did you mean" in hint:
            name = hint.split("'")[1]
            problems.append(f"column '{name}' is unknown; did you mean '{column}'?")
    if any(problem.endswith("missing") or "missing;" in problem for problem in problems):
        problems.append(f"columns found: {', '.join(name or '(unnamed)' for name in names)}")
    _raise_all(where, problems)


def _parse_row(line: int, cells: Mapping[str, str], problems: list[str]) -> Event | None:
    before = len(problems)
    texts = {
        name: cells.get(name, "").strip() for name in COLUMNS if name not in ("text", "button")
    }
    empty = [name for name in ("type", "timeline", "subject") if not texts[name]]
    problems += [f"line {line}: '{name}' is empty" for name in empty]
    kind = texts["type"]
    if kind and kind not in EVENT_TYPES and (hint := _close_to(kind, EVENT_TYPES)):
        problems.append(f"line {line}: type '{kind}' is unknown{hint}")
    start = _number(line, "start", texts["start"], problems)
    duration = _number(line, "duration", texts["duration"] or "0", problems, low=0.0)
    frequency: float | None = None
    if texts["frequency"]:
        frequency = _number(line, "frequency", texts["frequency"], problems, low=1e-3)
    if len(problems) > before:
        return None
    return Event(
        type=kind,
        start=start,
        duration=duration,
        timeline=texts["timeline"],
        subject=texts["subject"],
        session=texts["session"],
        task=texts["task"],
        filepath=texts["filepath"],
        frequency=frequency,
        text=cells.get("text", ""),
        language=texts["language"],
        button=cells.get("button", ""),
        trial_id=texts["trial_id"],
        extra={n: v for n, v in cells.items() if n and n not in COLUMNS},
    )


def _number(line: int, name: str, text: str, problems: list[str], low: float = -math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        problems.append(f"line {line}: {name} is '{text}', expected a number of {_UNITS[name]}")
        return math.nan
    if not math.isfinite(value) or value < low:
        allowed = f"at least {low:g}" if math.isfinite(low) else "finite"
        problems.append(f"line {line}: {name} is {text}, must be {allowed} {_UNITS[name]}")
    return value


_UNITS = {"start": "seconds", "duration": "seconds", "frequency": "hertz"}


def _consistency_problems(events: Sequence[tuple[int, Event]]) -> list[str]:
    problems: list[str] = []
    seen: dict[tuple[str, str, float], int] = {}
    owner: dict[tuple[str, str], tuple[int, str]] = {}
    for line, event in events:
        recording = event.type in RECORDING_TYPES
        key = (event.timeline, event.type, 0.0 if recording else event.start)
        if key in seen:
            what = f"timeline '{event.timeline}'"
            what += "" if recording else f" at {event.start:g} s"
            problems.append(
                f"line {line}: second {event.type} of {what}, first on line {seen[key]}"
            )
        seen.setdefault(key, line)
        for name in ("subject", "session"):
            value = event.value(name)
            first_line, first = owner.setdefault((event.timeline, name), (line, value))
            if value != first:
                problems.append(
                    f"line {line}: {name} '{value}' in timeline '{event.timeline}',"
                    f" which has {name} '{first}' on line {first_line}"
                )
    return problems


def _close_to(word: str, known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=_CLOSE)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""


def _raise_all(where: str, problems: Sequence[str]) -> None:
    if not problems:
        return
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    listed = list(problems[:_MAX_LISTED])
    if len(problems) > _MAX_LISTED:
        listed.append(f"and {len(problems) - _MAX_LISTED} more")
    raise DataError(f"{where}: {count}\n  " + "\n  ".join(listed))


def _text_of(value: str | float) -> str:
    return value if isinstance(value, str) else repr(float(value))
