"""Read recordings of typed sentences: an events table and the MEG files that it names.

The table has a row of type ``Meg`` with a ``filepath`` for every timeline; rows of type
``Sentence`` whose ``text`` is the sentence that was asked for, with what was typed in the column
``typed``; and rows of type ``Keystroke`` with ``button`` and the ``trial_id`` of their sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurodecode.contracts import Recording, Unit
from neurodecode.datasets._neuromag.helmet import canonical_name, flat_positions, reference_helmet
from neurodecode.datasets._neuromag.reading import Signal, read_signal
from neurodecode.datasets._sentences.flat_map import NO_PLACE, flat_map
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.plan import (
    Timeline,
    path_of,
    plan_reading,
    recording_rows,
)
from neurodecode.datasets._sentences.sensors import (
    open_recording,
    read_any_layout,
    recording_files,
)
from neurodecode.datasets._sentences.together import check_together
from neurodecode.datasets._sentences.trials import Trial
from neurodecode.events import Event, read_events
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

_UNIT_OF_KIND: dict[str, Unit] = {"mag": "T", "grad": "T/m"}
_DURATION_SLACK_S = 0.5
_NEUROMAG_SENSORS = 100


def sentence_sources(table: Path, options: SentenceReadOptions) -> tuple[Path, ...]:
    """Name the table and every file of the recordings that it names.

    Raises
    ------
    DataError
        When one is missing or was cut, or the table cannot be read.
    """
    rows = recording_rows(table, read_events(table, options.columns))
    files: dict[Path, None] = {table: None}
    for row in rows.values():
        files |= dict.fromkeys(recording_files(path_of(row, table, options)))
    return tuple(files)


def read_sentence_recordings(table: Path, options: SentenceReadOptions) -> tuple[Recording, ...]:
    """Read every recording of a table that has sentences.

    Parameters
    ----------
    table
        Events table, TSV or CSV.
    options
        What is accepted.

    Returns
    -------
    tuple of Recording
        Ordered by timeline. Events are the sentences that can be decoded (``text`` in a-z and
        spaces, ``typed`` beside it) and their keys, on the clock of the recording.

    Raises
    ------
    DataError
        When the table or a recording is damaged, absent, contradicts the other, or holds what
        the options do not accept.
    """
    return tuple(each_sentence_recording(table, options))


def each_sentence_recording(table: Path, options: SentenceReadOptions) -> Iterator[Recording]:
    """Yield what `read_sentence_recordings` returns, without keeping any samples."""
    timelines = plan_reading(table, options)
    table_sha = {table.name: sha256_file(table)}
    seen: list[Recording] = []
    for timeline in timelines:
        recording = _read_one(timeline, options)
        seen.append(replace(recording, data_CT=recording.data_CT[:, :0].copy()))
        check_together(seen, options, f"events table {table}")
        sha = {**recording.source_sha256, **table_sha}
        recording = replace(recording, source_sha256=sha)
        yield recording
        del recording


def read_recording_of(table: Path, path: Path, options: SentenceReadOptions) -> Recording:
    """Read one recording of a table, with its sentences.

    Raises
    ------
    DataError
        When the table is damaged or names no such recording with sentences, or the recording is
        as `read_sentence_recordings` does not accept it.
    """
    for timeline in plan_reading(table, options):
        if timeline.path.resolve() == path.resolve():
            return _read_one(timeline, options)
    msg = f"events table {table}: has no row of type Meg whose filepath is {path}"
    raise DataError(f"{msg}; add it, or give the table of this recording")


def read_recording(path: Path, row: Event | None, options: SentenceReadOptions) -> Recording:
    """Read one recording without any event.

    Parameters
    ----------
    path
        FIF file, or any other that MNE reads.
    row
        Its row of an events table; None takes the name of the file.
    options
        What is accepted.

    Raises
    ------
    DataError
        When the recording is damaged, absent, or holds what the options do not accept.
    """
    signal, parts = _read_signal(path, row.frequency if row else None, options)
    return _recording(path, row, signal, parts)


def _read_one(timeline: Timeline, options: SentenceReadOptions) -> Recording:
    row = timeline.row
    signal, parts = _read_signal(timeline.path, row.frequency, options)
    _check_duration(timeline, signal)
    warnings = [*signal.facts["warnings"], *timeline.warnings]
    events = _events(timeline, signal, warnings)
    recording = _recording(timeline.path, row, signal, parts)
    return replace(recording, events=events, meta={**recording.meta, "warnings": warnings})


def _read_signal(
    path: Path, sfreq_hz: float | None, options: SentenceReadOptions
) -> tuple[Signal, Mapping[str, Any]]:
    """Return samples, and names, units, places and flat map of the sensors."""
    recording_files(path)
    named = [canonical_name(name) for name in open_recording(path).ch_names]
    if len(set(named) & set(reference_helmet().names)) >= _NEUROMAG_SENSORS:
        return read_signal(path, options, sfreq_hz), _neuromag_parts()
    signal, places, units = read_any_layout(path, options, sfreq_hz)
    names = tuple(signal.facts.pop("names"))
    layout = flat_map(places)
    return signal, {"channels": names, "units": units, "positions": places, "layout": layout}


def _recording(
    path: Path, row: Event | None, signal: Signal, parts: Mapping[str, Any]
) -> Recording:
    layout = {
        name: list(NO_PLACE if name in signal.bads else parts["layout"].get(name, NO_PLACE))
        for name in parts["channels"]
    }
    return Recording(
        subject=row.subject if row else "unknown",
        recording=row.timeline if row else path.name.partition(".")[0],
        sfreq_hz=signal.sfreq_hz,
        data_CT=signal.data_CT,
        channels=parts["channels"],
        units=parts["units"],
        segments=signal.segments,
        positions=parts["positions"],
        source_sha256={file.name: sha256_file(file) for file in signal.files},
        meta={**signal.facts, "layout": layout},
    )


def _neuromag_parts() -> Mapping[str, Any]:
    helmet, flat = reference_helmet(), flat_positions()
    return {
        "channels": helmet.names,
        "units": tuple(_UNIT_OF_KIND[kind] for kind in helmet.kinds),
        "positions": {
            name: (float(x), float(y), float(z))
            for name, (x, y, z) in zip(helmet.names, helmet.place_mm / 1e3, strict=True)
        },
        "layout": {
            name: (round(float(x), 5), round(float(y), 5))
            for name, (x, y) in zip(helmet.names, flat, strict=True)
        },
    }


def _check_duration(timeline: Timeline, signal: Signal) -> None:
    row = timeline.row
    length = signal.data_CT.shape[1] / signal.sfreq_hz
    if row.duration > 0 and abs(row.duration - length) > _DURATION_SLACK_S + 0.01 * length:
        msg = f"{timeline.path}: lasts {length:.1f} s, the events table says {row.duration:.1f} s"
        msg += f" for timeline '{row.timeline}'; correct the table or give its own file"
        raise DataError(msg)


def _events(timeline: Timeline, signal: Signal, warnings: list[str]) -> tuple[Event, ...]:
    """Return sentences and keys on the clock of the first sample, none in a gap."""
    zero, length = timeline.row.start, signal.data_CT.shape[1] / signal.sfreq_hz
    stretches = [(a / signal.sfreq_hz, b / signal.sfreq_hz) for a, b in signal.segments]
    events: list[Event] = []
    outside, broken = [], []
    for trial in timeline.trials:
        first, last = trial.keys[0].start - zero, trial.keys[-1].start - zero
        if first < 0 or last > length:
            outside.append((trial.trial_id, first, last))
        elif not any(a <= first and last <= b for a, b in stretches):
            broken.append(trial.trial_id)
        else:
            events += _trial_events(trial, zero)
    if outside:
        name, first, last = outside[0]
        msg = f"{timeline.path}: keys of {len(outside)} of {len(timeline.trials)} sentences lie"
        msg += f" outside the recording (0 to {length:g} s), first those of trial '{name}' from"
        msg += f" {first:g} to {last:g} s. Is this the recording of timeline"
        msg += f" '{timeline.row.timeline}', and does the start of its Meg row say when its first"
        raise DataError(f"{msg} sample was taken?")
    if broken:
        warnings.append(
            f"{len(broken)} sentences lie on a gap of the recording and are left out:"
            f" {', '.join(broken[:5])}"
        )
    return tuple(sorted(events, key=lambda event: event.start))


def _trial_events(trial: Trial, zero: float) -> list[Event]:
    first, last = trial.keys[0].start - zero, trial.keys[-1].start - zero
    sentence = replace(
        trial.row,
        start=first,
        duration=last - first,
        text=trial.reference,
        trial_id=trial.trial_id,
        extra={**trial.row.extra, "typed": trial.typed},
    )
    keys = [replace(k, start=k.start - zero, trial_id=trial.trial_id) for k in trial.keys]
    return [sentence, *keys]
