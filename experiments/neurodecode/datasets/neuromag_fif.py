"""Key presses in 306-channel Neuromag recordings: FIF files and an events table.

The table names the recordings (rows of type ``Meg`` with a ``filepath``) and what happened in
them. Every event of one type becomes one window and one item; its label is the text of a column.
Blocks of time, never shuffled windows, separate training from validation and test; presses whose
windows touch the test block, or come within half a second of it, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from string import ascii_letters

from neurodecode.contracts import Item, Recording, Unit, Windows
from neurodecode.datasets._neuromag.files import check_files
from neurodecode.datasets._neuromag.helmet import flat_positions, reference_helmet
from neurodecode.datasets._neuromag.options import Config, check_options
from neurodecode.datasets._neuromag.reading import Signal, read_signal
from neurodecode.datasets._neuromag.study import (
    SPACE,
    check_together,
    drop_rare,
    label_of,
    plan_reading,
    recorded_events,
)
from neurodecode.datasets._neuromag.triggers import read_triggers
from neurodecode.events import RECORDING_TYPES, Event, select
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

__all__ = ["DEFAULT_FOLDS", "Config", "read", "sources", "windows"]

DEFAULT_FOLDS = 1

_UNIT_OF_KIND: dict[str, Unit] = {"mag": "T", "grad": "T/m"}
_DURATION_SLACK_S = 0.5
_PURGE_S = 0.5


def sources(config: Config) -> tuple[Path, ...]:
    """Name the table, every recording and every continuation.

    Raises
    ------
    DataError
        When one is missing or was cut, or the table cannot be read.
    """
    plan = plan_reading(config)
    files = [part for path, _ in plan.sources.values() for part in check_files(path, True)]
    return (plan.table, *files)


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
    check_options(config)
    plan = plan_reading(config)
    used: list[Recording] = []
    for timeline, (path, row) in plan.sources.items():
        signal = read_signal(path, config, row.frequency if row else None)
        own = [event for event in plan.events if event.timeline == timeline]
        used.append(_recording(config, path, row, signal, own))
    check_together(config, used)
    table_sha = {plan.table.name: sha256_file(plan.table)}
    return tuple(
        replace(recording, source_sha256={**recording.source_sha256, **table_sha})
        for recording in drop_rare(config, used)
    )


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:
    """Make one item of every labelled event, in the order of time.

    Raises
    ------
    DataError
        When fewer than two labels are left.
    """
    presses = {r.name: select(r.events, config.event_type) for r in recordings}
    labels = {label_of(event, config) for own in presses.values() for event in own}
    classes = tuple(sorted(labels))
    if len(classes) < 2:
        msg = f"events table {config.events}: {config.event_type} events have"
        msg += f" {len(classes)} label ({', '.join(classes) or 'none'}) in column"
        msg += f" '{config.class_column}' that occurs {config.min_per_class} times or more"
        raise DataError(f"{msg}; at least two labels are needed to decode anything")
    symbols = _symbols(classes)
    items = [
        Item(
            item=f"{name}/k{number:05d}",
            part="test" if number >= first_test else "pool",
            onsets_s=(event.start,),
            labels=(classes.index(label_of(event, config)),),
            reference=symbols[classes.index(label_of(event, config))],
            typed=symbols[classes.index(label_of(event, config))],
        )
        for name, own in presses.items()
        for number, event, first_test in _numbered(own, config)
    ]
    split = f"the last {config.test_fraction:.0%} of every recording is the test, the block of"
    split += " time before it validates; windows are never shuffled"
    return Windows(
        config.window_s, classes, symbols, tuple(items), split, dev_fraction=config.dev_fraction
    )


def _numbered(presses: Sequence[Event], config: Config) -> Iterator[tuple[int, Event, int]]:
    """Yield number, event, and the number of the first test event, without those beside it."""
    first_test = len(presses) - round(config.test_fraction * len(presses))
    start, stop = config.window_s
    edge = presses[first_test].start + start if first_test < len(presses) else inf
    for number, event in enumerate(presses):
        if number >= first_test or event.start + stop + _PURGE_S <= edge:
            yield number, event, first_test


def _symbols(classes: Sequence[str]) -> tuple[str, ...]:
    """Return one character a label: itself, a space, or a free letter for a longer label."""
    taken = {label for label in classes if len(label) == 1} | {" "}
    symbols: list[str] = []
    for label in classes:
        symbol = " " if label == SPACE else label
        if len(symbol) > 1:
            wanted = (c for c in (*label, *ascii_letters) if c.isalpha() and c not in taken)
            symbol = next(wanted, None) or next(
                chr(c) for c in range(0xC0, 0x10000) if chr(c).isalpha() and chr(c) not in taken
            )
        taken.add(symbol)
        symbols.append(symbol)
    return tuple(symbols)


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
        if select(happened, config.event_type):
            msg = f"events table {config.events}: has {config.event_type} events in timeline"
            msg += f" '{own[0].timeline}' and trigger_channel is set too; events come from one of"
            raise DataError(f"{msg} them: remove the rows, or set trigger_channel = ''")
        happened += read_triggers(
            path, config.trigger_channel, config.trigger_codes, config.event_type, own[0]
        )
    warnings = list(signal.facts["warnings"])
    kept = recorded_events(config, path, signal, happened, warnings)
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
