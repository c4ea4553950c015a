"""Which recordings and events make up a study, and whether they go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurodecode.contracts import Recording
from neurodecode.datasets._neuromag.options import Config
from neurodecode.datasets._neuromag.reading import Signal
from neurodecode.events import RECORDING_TYPES, Event, read_events, require_values, select
from neurosweep.core.errors import DataError

SPACE = "space"


@dataclass(frozen=True)
class Plan:
    """What is to be read.

    Attributes
    ----------
    table
        The events table.
    events
        All its events.
    sources
        Timeline to its FIF file and to its row in the table, if it has one.
    """

    table: Path
    events: tuple[Event, ...]
    sources: Mapping[str, tuple[Path, Event | None]]


def plan_reading(config: Config) -> Plan:
    """Find the recording of every timeline that has events to decode.

    Raises
    ------
    DataError
        When the table is damaged, has no such event, or names no recording.
    """
    table = Path(config.events)
    events = read_events(table, config.columns)
    folder = Path(config.folder) if config.folder else table.parent
    rows = {event.timeline: event for event in events if event.type in RECORDING_TYPES}
    wrong = [e for e in rows.values() if e.type != "Meg"]
    if wrong:
        msg = f"events table {table}: timeline '{wrong[0].timeline}' is of type {wrong[0].type};"
        raise DataError(f"{msg} this dataset reads recordings of type Meg")
    timelines = list(rows) if config.trigger_channel else []
    timelines += [e.timeline for e in events if e.type == config.event_type]
    if not timelines:
        found = ", ".join(sorted({event.type for event in events}))
        msg = f"events table {table}: has no event of type '{config.event_type}' (it has {found});"
        raise DataError(f"{msg} set event_type to one of these")
    unknown = sorted(set(config.recordings) - {event.timeline for event in events})
    if unknown:
        msg = f"data.recordings: the events table has no timeline '{unknown[0]}'; it has"
        raise DataError(f"{msg} {', '.join(sorted({e.timeline for e in events}))}")
    sources: dict[str, tuple[Path, Event | None]] = {}
    for timeline in sorted(set(timelines)):
        row = rows.get(timeline)
        given = config.recordings.get(timeline) or (row.filepath if row else "")
        if not given:
            msg = f"events table {table}: timeline '{timeline}' has no recording; add a row of type"
            raise DataError(f"{msg} Meg with its filepath, or set data.recordings.{timeline}")
        sources[timeline] = (folder / given, row)
    return Plan(table, events, sources)


def recorded_events(
    config: Config, path: Path, signal: Signal, events: list[Event], warnings: list[str]
) -> list[Event]:
    """Leave out, or refuse, events to decode whose window is not wholly recorded.

    Parameters
    ----------
    config
        Options.
    path
        The recording, for errors.
    signal
        Its content.
    events
        Events on the clock of its first sample.
    warnings
        Gets a line when events are left out.

    Raises
    ------
    DataError
        When there are such events and the options refuse them.
    """
    start, stop = config.window_s

    def inside(event: Event) -> bool:
        first = round((event.start + start) * signal.sfreq_hz)
        last = round((event.start + stop) * signal.sfreq_hz)
        return any(a <= first and last <= b for a, b in signal.segments)

    outside = [e for e in events if e.type == config.event_type and not inside(e)]
    if not outside:
        return events
    length = signal.data_CT.shape[1] / signal.sfreq_hz
    what = f"{len(outside)} of {sum(e.type == config.event_type for e in events)}"
    what += (
        f" {config.event_type} events have a window ({start:g} to {stop:g} s) that is not wholly"
    )
    what += f" recorded, first at {outside[0].start:g} s of {length:g} s"
    if len(signal.segments) > 1:
        what += f" ({len(signal.segments) - 1} gaps)"
    if config.outside_events == "refuse":
        msg = f"{path}: {what}. Is this the recording of timeline '{outside[0].timeline}', and does"
        msg += " the start of its Meg row say when its first sample was taken? Leave such events"
        raise DataError(f"{msg} out with outside_events = 'drop'")
    warnings.append(f"{what}; left out")
    return [event for event in events if event not in outside]


def check_together(config: Config, recordings: Sequence[Recording]) -> None:
    """Refuse recordings that should not be decoded as one study.

    Raises
    ------
    DataError
        When SSS was run on some only, two are the same, or a subject's head is at far places.
    """
    cleaned = [r.name for r in recordings if r.meta["sss"]]
    raw = [r.name for r in recordings if not r.meta["sss"]]
    if cleaned and raw and not config.allow_mixed_sss:
        msg = f"events table {config.events}: {len(cleaned)} recordings are cleaned by SSS (first"
        msg += f" {cleaned[0]}) and {len(raw)} are not (first {raw[0]}); SSS changes scale and rank"
        raise DataError(f"{msg}. Treat all alike, or accept the mix with allow_mixed_sss = true")
    _check_distinct(recordings)
    first: dict[str, Recording] = {}
    for recording in recordings:
        place = recording.meta["head_mm"]
        if place is None:
            continue
        other = first.setdefault(recording.subject, recording)
        distance = _distance(place, other.meta["head_mm"])
        if distance > config.head_shift_mm:
            msg = f"{recording.name}: the head is {distance:.1f} mm from where it is in"
            msg += f" {other.name}, allowed are {config.head_shift_mm:g} mm; transform both to one"
            raise DataError(f"{msg} head place (MaxFilter -trans), or raise head_shift_mm")


def _check_distinct(recordings: Sequence[Recording]) -> None:
    """Refuse one recording under two names: its windows would train and test at once."""
    owner: dict[str, Recording] = {}
    for recording in recordings:
        for file, digest in recording.source_sha256.items():
            other = owner.setdefault(digest, recording)
            if other is not recording:
                msg = f"{recording.name}: its file {file} has the content of a file of {other.name}"
                raise DataError(f"{msg}; give every timeline its own recording")


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)


def drop_rare(config: Config, recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings without the events of rare labels; a warning names these.

    Raises
    ------
    DataError
        When no event is left to decode, or one has no label.
    """
    where = f"events table {config.events}"
    presses = [e for r in recordings for e in select(r.events, config.event_type)]
    if not presses:
        msg = f"{where}: no {config.event_type} event is left in {len(recordings)} recordings;"
        raise DataError(f"{msg} see outside_events and trigger_codes")
    require_values(presses, config.class_column, where)
    counts: Mapping[str, int] = Counter(label_of(event, config) for event in presses)
    rare = {label: n for label, n in sorted(counts.items()) if n < config.min_per_class}
    if not rare:
        return list(recordings)
    listed = ", ".join(f"'{label}' ({n})" for label, n in rare.items())
    note = f"labels with fewer than {config.min_per_class} events are left out: {listed}"
    return [
        replace(
            r,
            events=tuple(
                e
                for e in r.events
                if e.type != config.event_type or label_of(e, config) not in rare
            ),
            meta={**r.meta, "warnings": [*r.meta["warnings"], note]},
        )
        for r in recordings
    ]


def label_of(event: Event, config: Config) -> str:
    """Return the label of an event; the space bar, which is written as a space, has a name."""
    return event.value(config.class_column).strip() or SPACE
