"""Key presses in 306-channel Neuromag recordings: FIF files and an events table.

The table names the recordings (rows of type ``Meg`` with a ``filepath``) and what happened in
them. Every event of one type becomes one window and one item; its label is the text of a column.
Blocks of time, never shuffled windows, separate training from validation and test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from neurodecode.contracts import Item, Recording, Unit, Windows
from neurodecode.datasets._neuromag.helmet import flat_positions, reference_helmet
from neurodecode.datasets._neuromag.options import ReadOptions
from neurodecode.datasets._neuromag.reading import Signal, read_signal
from neurodecode.datasets._neuromag.triggers import read_triggers
from neurodecode.events import RECORDING_TYPES, Event, read_events, require_values, select
from neurosweep.core.config import StrictModel
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.files import sha256_file

DEFAULT_FOLDS = 5

_UNIT_OF_KIND: dict[str, Unit] = {"mag": "T", "grad": "T/m"}
_SPACE = "space"
_DURATION_SLACK_S = 0.5
_MAX_WINDOW_S = 30.0


class Config(StrictModel):
    """Where the recordings are and what is accepted of them."""

    events: str = Field(description="Events table, TSV or CSV")
    folder: str = Field("", description="Folder of relative file paths; empty: the table's own")
    recordings: dict[str, str] = Field(
        {}, description="Timeline to FIF file, where the table does not name it"
    )
    columns: dict[str, str] = Field({}, description="Column here to its name in the table")
    event_type: str = Field("Keystroke", description="Type of the events that are decoded")
    class_column: str = Field("button", description="Column that holds the label")
    min_per_class: int = Field(2, ge=1, description="Labels with fewer events are left out")
    window_s: tuple[float, float] = Field(
        (-0.2, 0.3), description="Window, seconds relative to the event"
    )
    trigger_channel: str = Field("", description="STI channel to take events from")
    trigger_codes: dict[str, str] = Field({}, description="Trigger code to label")
    outside_events: Literal["refuse", "drop"] = Field(
        "refuse", description="Events whose window is not wholly recorded"
    )
    allow_maxshield: bool = Field(False, description="Accept MaxShield data without SSS")
    allow_mixed_sss: bool = Field(False, description="Accept recordings with and without SSS")
    bad_channels: Literal["zero", "interpolate", "refuse"] = Field(
        "zero", description="What becomes of sensors that are bad or flat"
    )
    missing_sensors: Literal["refuse", "zero"] = Field(
        "refuse", description="What becomes of a recording without all 306 sensors"
    )
    moved_sensors: Literal["refuse", "warn"] = Field(
        "refuse", description="What becomes of sensors away from the reference helmet"
    )
    moved_mm: float = Field(2.0, gt=0, description="Distance that is no move, millimetres")
    head_shift_mm: float = Field(
        25.0, gt=0, description="Largest distance of head places between a subject's recordings"
    )


def read(config: Config) -> tuple[Recording, ...]:
    """Read every recording that the table names.

    Raises
    ------
    ConfigError
        When options contradict each other.
    DataError
        When the table or a recording is damaged, absent, contradicts the other, or holds what the
        options do not accept.
    """
    _check_options(config)
    table = Path(config.events)
    events = read_events(table, config.columns)
    sources = _sources(config, table, events)
    used: list[Recording] = []
    for timeline, (path, row) in sources.items():
        signal = read_signal(path, _options(config, row))
        own = [event for event in events if event.timeline == timeline]
        used.append(_recording(config, path, row, signal, own))
    _check_together(config, used)
    table_sha = {table.name: sha256_file(table)}
    labelled = _drop_rare(config, _label(config, used))
    return tuple(replace(r, source_sha256={**r.source_sha256, **table_sha}) for r in labelled)


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:
    """Make one item of every labelled event, in the order of time.

    Raises
    ------
    DataError
        When fewer than two labels are left.
    """
    presses = {r.name: select(r.events, config.event_type) for r in recordings}
    labels = {_label_of(event, config) for own in presses.values() for event in own}
    classes = tuple(sorted(labels))
    if len(classes) < 2:
        msg = f"events table {config.events}: {config.event_type} events have"
        msg += f" {len(classes)} label ({', '.join(classes) or 'none'}) in column"
        msg += f" '{config.class_column}' that occurs {config.min_per_class} times or more"
        raise DataError(f"{msg}; at least two labels are needed to decode anything")
    items = tuple(
        Item(
            item=f"{name}/k{number:05d}",
            part="pool",
            onsets_s=(event.start,),
            labels=(classes.index(_label_of(event, config)),),
            reference=_label_of(event, config),
            typed=_label_of(event, config),
        )
        for name, own in presses.items()
        for number, event in enumerate(own)
    )
    split = "contiguous blocks of time within each recording; windows are never shuffled"
    return Windows(config.window_s, classes, classes, items, split)


def _check_options(config: Config) -> None:
    start, stop = config.window_s
    problems: list[str] = []
    if not (start < stop and stop - start <= _MAX_WINDOW_S):
        problems.append(
            f"data.window_s: is ({start:g}, {stop:g}); the start must come before the stop, at most"
            f" {_MAX_WINDOW_S:g} s apart, for example (-0.2, 0.3)"
        )
    if bool(config.trigger_channel) != bool(config.trigger_codes):
        problems.append("data.trigger_channel and data.trigger_codes: give both or neither")
    if config.trigger_channel and config.class_column != "button":
        problems.append("data.class_column: events of a trigger channel have labels in 'button'")
    if problems:
        raise ConfigError("; ".join(problems))


def _sources(
    config: Config, table: Path, events: Sequence[Event]
) -> dict[str, tuple[Path, Event | None]]:
    """Return the file and the row of every timeline that has events to decode."""
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
    return sources


def _options(config: Config, row: Event | None) -> ReadOptions:
    return ReadOptions(
        allow_maxshield=config.allow_maxshield,
        bad_channels=config.bad_channels,
        missing_sensors=config.missing_sensors,
        moved_sensors=config.moved_sensors,
        moved_mm=config.moved_mm,
        sfreq_hz=row.frequency if row else None,
    )


def _recording(
    config: Config, path: Path, row: Event | None, signal: Signal, own: list[Event]
) -> Recording:
    """Join a signal with its events, on the clock of the signal's first sample."""
    helmet = reference_helmet()
    zero = row.start if row else 0.0
    length = signal.data_CT.shape[1] / signal.sfreq_hz
    if row and row.duration > 0 and abs(row.duration - length) > _DURATION_SLACK_S + 0.01 * length:
        msg = f"{path}: lasts {length:.1f} s, the events table says {row.duration:.1f} s for"
        raise DataError(f"{msg} timeline '{row.timeline}'; correct the table or give its own file")
    happened = [replace(e, start=e.start - zero) for e in own if e.type not in RECORDING_TYPES]
    if config.trigger_channel:
        happened += read_triggers(
            path, config.trigger_channel, config.trigger_codes, config.event_type, own[0]
        )
    warnings = list(signal.facts["warnings"])
    kept = _recorded(config, path, signal, happened, warnings)
    flat = flat_positions()
    bad = set(signal.bads)
    return Recording(
        subject=_part(own[0].subject, "subject"),
        recording=_part(own[0].timeline, "timeline"),
        sfreq_hz=signal.sfreq_hz,
        data_CT=signal.data_CT,
        channels=helmet.names,
        units=tuple(_UNIT_OF_KIND[kind] for kind in helmet.kinds),
        segments=signal.segments,
        events=tuple(sorted(kept, key=lambda event: event.start)),
        positions={
            name: (float(x), float(y), float(z))
            for name, (x, y, z) in zip(helmet.names, helmet.place_mm / 1e3, strict=True)
        },
        source_sha256={file.name: sha256_file(file) for file in signal.files},
        meta={
            **signal.facts,
            "warnings": warnings,
            "layout": {
                name: [-0.1, -0.1] if name in bad else [round(float(v), 5) for v in flat[i]]
                for i, name in enumerate(helmet.names)
            },
        },
    )


def _part(name: str, column: str) -> str:
    if "/" in name or name in (".", ".."):
        msg = f"events table: {column} '{name}' cannot be part of an item's name; use a name"
        raise DataError(f"{msg} without '/'")
    return name


def _recorded(
    config: Config, path: Path, signal: Signal, events: list[Event], warnings: list[str]
) -> list[Event]:
    """Return the events whose window is recorded; other types need only be in the recording."""
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


def _check_together(config: Config, recordings: Sequence[Recording]) -> None:
    """Refuse recordings that should not be decoded as one study."""
    cleaned = [r.name for r in recordings if r.meta["sss"]]
    raw = [r.name for r in recordings if not r.meta["sss"]]
    if cleaned and raw and not config.allow_mixed_sss:
        msg = f"events table {config.events}: {len(cleaned)} recordings are cleaned by SSS (first"
        msg += f" {cleaned[0]}) and {len(raw)} are not (first {raw[0]}); SSS changes scale and rank"
        raise DataError(f"{msg}. Treat all alike, or accept the mix with allow_mixed_sss = true")
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


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5)


def _label(config: Config, recordings: Sequence[Recording]) -> list[Recording]:
    """Check that every event to decode has its label."""
    where = f"events table {config.events}"
    presses = [e for r in recordings for e in select(r.events, config.event_type)]
    if not presses:
        msg = f"{where}: no {config.event_type} event is left in {len(recordings)} recordings;"
        raise DataError(f"{msg} see outside_events and trigger_codes")
    require_values(presses, config.class_column, where)
    return list(recordings)


def _drop_rare(config: Config, recordings: Sequence[Recording]) -> list[Recording]:
    presses = [e for r in recordings for e in select(r.events, config.event_type)]
    counts: Mapping[str, int] = Counter(_label_of(event, config) for event in presses)
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
                if e.type != config.event_type or _label_of(e, config) not in rare
            ),
            meta={**r.meta, "warnings": [*r.meta["warnings"], note]},
        )
        for r in recordings
    ]


def _label_of(event: Event, config: Config) -> str:
    """Return the label of an event; the space bar, which is written as a space, has a name."""
    return event.value(config.class_column).strip() or _SPACE
