"""Which recordings an events table names, and which sentences were typed in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.trials import Findings, Trial, find_trials
from neurodecode.events import RECORDING_TYPES, Event, read_events, select
from neurosweep.core.errors import DataError

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Timeline:
    """A recording to be read.

    Attributes
    ----------
    row
        Its row of the table.
    path
        Its file.
    trials
        Its sentences, in the order of time.
    warnings
        What was left out.
    """

    row: Event
    path: Path
    trials: tuple[Trial, ...]
    warnings: tuple[str, ...]


def plan_reading(table: Path, options: SentenceReadOptions) -> list[Timeline]:
    """Return every recording of a table that has sentences, ordered by timeline.

    Raises
    ------
    DataError
        With every problem of the table.
    """
    where = f"events table {table}"
    events = read_events(table, options.columns)
    rows = recording_rows(table, events)
    findings = Findings()
    timelines = []
    for name, row in sorted(rows.items(), key=lambda named: _natural(named[0])):
        own = [event for event in events if event.timeline == name]
        of_timeline = Findings(findings.problems, [])
        trials = find_trials(own, options, of_timeline)
        path = path_of(row, table, options)
        timelines.append(Timeline(row, path, tuple(trials), tuple(of_timeline.warnings)))
    findings.raise_all(where)
    timelines = [t for t in _without_practice(timelines, options.practice) if t.trials]
    if not timelines:
        msg = f"{where}: no sentence is left to decode; check practice ({options.practice}) and"
        raise DataError(f"{msg} that Keystroke rows carry the trial_id of their sentence")
    return timelines


def recording_rows(table: Path, events: Sequence[Event]) -> dict[str, Event]:
    """Return timeline to the row that names its recording, where sentences were typed.

    Raises
    ------
    DataError
        When there is no sentence, a row names no recording, or a name cannot be part of an
        item's name.
    """
    where = f"events table {table}"
    typed = {event.timeline for event in select(events, "Sentence")}
    if not typed:
        found = ", ".join(sorted({event.type for event in events}))
        msg = f"{where}: has no event of type 'Sentence' (it has {found}); every sentence needs a"
        raise DataError(f"{msg} row with its text, and its keys rows of type 'Keystroke'")
    rows = {
        event.timeline: event
        for event in events
        if event.type in RECORDING_TYPES and event.timeline in typed
    }
    findings = Findings()
    for name, row in rows.items():
        if row.type != "Meg":
            findings.problems.append(f"timeline '{name}' is of type {row.type}, expected Meg")
        elif not row.filepath:
            findings.problems.append(f"timeline '{name}': its row of type Meg has no filepath")
        for column, value in (("subject", row.subject), ("timeline", name)):
            if "/" in value or value in (".", ".."):
                findings.problems.append(f"{column} '{value}' must not hold '/' or be dots")
    findings.problems += [
        f"timeline '{name}' has sentences but no row of type Meg with a filepath"
        for name in sorted(typed - set(rows))
    ]
    findings.raise_all(where)
    return rows


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts block2 before block10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)]


def path_of(row: Event, table: Path, options: SentenceReadOptions) -> Path:
    """Return the file of a recording."""
    folder = Path(options.recordings_folder) if options.recordings_folder else table.parent
    return folder / row.filepath


def _without_practice(timelines: Sequence[Timeline], practice: int) -> list[Timeline]:
    """Leave out the first sentences of every session, over all its timelines."""
    left: dict[tuple[str, str], int] = {}
    kept = []
    for timeline in timelines:
        session = (timeline.row.subject, timeline.row.session or timeline.row.timeline)
        drop = min(left.setdefault(session, practice), len(timeline.trials))
        left[session] -= drop
        kept.append(replace(timeline, trials=timeline.trials[drop:]))
    return kept
