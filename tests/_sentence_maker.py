"""Make recordings of typed sentences, and their events tables, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
from _neuromag_maker import make_raw, save

from neurodecode.events import Event, write_events

# By the hash of the text: six of train, two of dev, three of val, two of test.
TEXTS = (
    "the cat sat",
    "a dog ran",
    "the cat hums",
    "my hat is old",
    "his car ran",
    "my hat ran",
    "a dog is wet",
    "that boy hums",
    "our tea hums",
    "the cat fell",
    "her cup sat",
    "my hat hums",
    "her cup fell",
)
PARTS = {"train": 6, "dev": 2, "val": 3, "test": 2}
KEY_S = 0.15
GAP_S = 1.5


@dataclass(frozen=True)
class Typed:
    """A sentence to be written into a table: what was asked for and what was pressed."""

    text: str
    typed: str


def typed(texts: Sequence[str] = TEXTS) -> list[Typed]:
    """Return sentences typed without a slip."""
    return [Typed(text, text) for text in texts]


def trial_events(
    sentences: Sequence[Typed],
    timeline: str = "r1",
    subject: str = "S01",
    *,
    filepath: str = "r1_raw.fif",
    with_typed: bool = True,
    zero: float = 0.0,
) -> list[Event]:
    """Return the rows of one timeline: keys 150 ms apart, sentences 1.5 s apart."""
    rows = [Event("Meg", zero, 0.0, timeline, subject, filepath=filepath)]
    clock = zero + 1.0
    for number, sentence in enumerate(sentences):
        name = f"t{number:02d}"
        extra = {"typed": sentence.typed} if with_typed else {}
        length = KEY_S * len(sentence.typed)
        rows.append(
            Event(
                "Sentence",
                clock - 0.1,
                length + 0.1,
                timeline,
                subject,
                text=sentence.text,
                trial_id=name,
                extra=extra,
            )
        )
        for symbol in sentence.typed:
            button = "space" if symbol == " " else symbol
            rows.append(
                Event("Keystroke", clock, 0.1, timeline, subject, button=button, trial_id=name)
            )
            clock = round(clock + KEY_S, 6)
        clock = round(clock + GAP_S, 6)
    return rows


def seconds_of(sentences: Sequence[Typed]) -> float:
    """Return how long the recording of these sentences must be."""
    return 2.0 + sum(len(s.typed) * KEY_S + GAP_S for s in sentences)


def write_study(
    folder: Path,
    recordings: Mapping[str, tuple[str, Sequence[Typed]]] | None = None,
    *,
    raws: Mapping[str, Any] | None = None,
    sfreq: float = 100.0,
    with_typed: bool = True,
) -> Path:
    """Write 306-sensor recordings and their table; timeline to subject and sentences.

    Parameters
    ----------
    folder
        Where they go.
    recordings
        One recording of all `TEXTS` unless told otherwise.
    raws
        Recordings instead of noise in the 306-sensor helmet.
    sfreq
        Sampling rate of the noise.
    with_typed
        Whether the table has the column ``typed``.
    """
    events: list[Event] = []
    for number, (timeline, (subject, sentences)) in enumerate(
        (recordings or {"r1": ("S01", typed())}).items()
    ):
        raw = (raws or {}).get(timeline)
        if raw is None:
            raw = make_raw(seconds_of(sentences), sfreq, seed=number)
        path = save(raw, folder / f"{timeline}_raw.fif")
        events += trial_events(
            sentences, timeline, subject, filepath=path.name, with_typed=with_typed
        )
    table = folder / "events.tsv"
    write_events(table, events)
    return table


def make_opm(seconds: float, channels: int = 60, sfreq: float = 100.0, seed: int = 0) -> Any:
    """Return noise in a helmet of single magnetometers on a sphere around the head."""
    rng = np.random.default_rng(seed)
    golden = np.pi * (3.0 - np.sqrt(5.0))
    height = 1.0 - 1.2 * np.arange(channels) / channels
    around = golden * np.arange(channels)
    radius = np.sqrt(1.0 - height**2)
    normal = np.stack([radius * np.cos(around), radius * np.sin(around), height], axis=1)
    names = [f"OPM{number:03d}" for number in range(channels)]
    info = mne.create_info(names, sfreq, "mag")
    for channel, out in zip(info["chs"], normal, strict=True):
        along = np.cross(out, [0.3, 0.5, 0.7])
        along /= np.linalg.norm(along)
        place = out * 0.11 + [0.0, 0.01, 0.04]
        channel["loc"] = np.concatenate([place, along, np.cross(out, along), out])
        channel["coil_type"] = 8101
    data = rng.standard_normal((channels, round(seconds * sfreq))) * 2e-13
    return mne.io.RawArray(data, info, verbose="ERROR")
