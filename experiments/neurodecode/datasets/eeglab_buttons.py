"""EEG around button presses: the tutorial recording of EEGLAB, press against background.

32 channels, 128 Hz, 238 s, 74 presses (events ``rt``) in answer to visual targets. Background
windows have the same length and lie away from every press.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurodecode.contracts import Item, Location, Recording, Unit, Windows
from neurodecode.datasets._eeglab_header import Header, read_header
from neurodecode.events import Event
from neurosweep.core.config import StrictModel
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

DEFAULT_FOLDS = 5

_SET = "eeglab_data.set"
_PRESS = "rt"
_UNIT: Unit = "V"
_VOLT = 1e-6
_HEAD_RADIUS_M = 0.095
_CLASSES = ("background", "press")
_SYMBOLS = ("b", "p")


class Config(StrictModel):
    """Options of the button presses."""

    path: Annotated[
        str, Location(), Field(description=f"Folder that holds {_SET} and its .fdt, or the .set")
    ]
    window_start_s: Annotated[
        float, Field(ge=-2.0, le=0.0, description="Start of a window before its press, seconds")
    ] = -0.3
    window_stop_s: Annotated[
        float, Field(gt=0.0, le=2.0, description="End of a window after its press, seconds")
    ] = 0.3
    guard_s: Annotated[
        float,
        Field(ge=0.0, le=5.0, description="Least time between background and press windows, s"),
    ] = 0.1
    drop: Annotated[str, Field(description="Channels that are left out: names, comma between")] = (
        "EOG1,EOG2"
    )


def sources(config: Config) -> tuple[Path, ...]:
    """Name the header and the samples.

    Raises
    ------
    DataError
        When one is missing.
    """
    path = Path(config.path).expanduser()
    header = path / _SET if path.is_dir() else path
    samples = header.with_suffix(".fdt")
    for file in (header, samples):
        if not file.is_file():
            msg = f"data.path: {file} is not there; name a folder with {_SET} and"
            raise DataError(f"{msg} {Path(_SET).with_suffix('.fdt')}, or a .set beside its .fdt")
    return header, samples


def read(config: Config) -> tuple[Recording, ...]:
    """Read the recording.

    Raises
    ------
    DataError
        When it is damaged, not continuous, or a channel to drop is unknown.
    """
    header, samples = sources(config)
    eeg = read_header(header)
    names = eeg.channels
    dropped = [name.strip() for name in config.drop.split(",") if name.strip()]
    unknown = sorted(set(dropped) - set(names))
    if unknown:
        msg = f"data.drop: {header} has no channel {', '.join(unknown)}; it has"
        raise DataError(f"{msg} {', '.join(names)}")
    kept = [i for i, name in enumerate(names) if name not in dropped]
    if not kept:
        msg = f"data.drop: leaves none of the {len(names)} channels of {header}; name fewer of"
        raise DataError(f"{msg} {', '.join(names)}")
    data_CT = _read_samples(header, samples, eeg)[kept]
    recording = Recording(
        subject="s01",
        recording="buttons",
        sfreq_hz=eeg.sfreq_hz,
        data_CT=np.ascontiguousarray(data_CT * _VOLT, dtype=np.float32),
        channels=tuple(names[i] for i in kept),
        units=(_UNIT,) * len(kept),
        segments=((0, data_CT.shape[1]),),
        events=tuple(_event(*event, eeg.sfreq_hz) for event in eeg.events),
        positions=_positions(eeg, kept),
        source_sha256={path.name: sha256_file(path) for path in (header, samples)},
    )
    return (recording,)


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:
    """Define a window at every press and background windows between presses.

    Raises
    ------
    DataError
        When the recording has no press or no room for background.
    """
    (recording,) = recordings
    inside = (-config.window_start_s, recording.duration_s - config.window_stop_s)
    presses = [event.start for event in recording.events if event.text == _PRESS]
    presses = [onset for onset in presses if inside[0] <= onset <= inside[1]]
    background = _background(config, recording, presses)
    if not presses or not background:
        msg = f"{recording.name}: {len(presses)} presses (events '{_PRESS}') and"
        msg += f" {len(background)} background windows lie inside the recording"
        raise DataError(f"{msg}; both are needed, check the events or shorten the window")
    labelled = sorted([(t, 1) for t in presses] + [(t, 0) for t in background])
    items = tuple(
        Item(
            item=f"{recording.name}/w{number:03d}",
            part="pool",
            onsets_s=(onset,),
            labels=(label,),
            reference=_SYMBOLS[label],
            typed=_SYMBOLS[label],
        )
        for number, (onset, label) in enumerate(labelled)
    )
    return Windows(
        window_s=(config.window_start_s, config.window_stop_s),
        classes=_CLASSES,
        symbols=_SYMBOLS,
        items=items,
        split="contiguous blocks of time",
    )


def _background(config: Config, recording: Recording, presses: list[float]) -> list[float]:
    """Return onsets in the pauses between presses, as many in a pause as chance decides.

    A fixed number a pause would tell the class of a window from its place in the order.
    """
    length = config.window_stop_s - config.window_start_s
    before, after = config.guard_s - config.window_start_s, config.guard_s + config.window_stop_s
    rng = np.random.default_rng(0)
    edges = [-after, *presses, recording.duration_s + before]
    onsets = []
    for last, following in pairwise(edges):
        start = last + after - config.window_start_s
        room = int((following - before - config.window_stop_s - start) // length) + 1
        chosen = min(max(room, 0), int(rng.integers(0, 3)))
        slots = np.sort(rng.permutation(max(room, 0))[:chosen])
        onsets += [float(start + slot * length) for slot in slots]
    return onsets


def _read_samples(header: Path, path: Path, eeg: Header) -> npt.NDArray[np.float32]:
    channels, points = len(eeg.channels), eeg.samples
    expected = channels * points * 4
    if path.stat().st_size != expected:
        msg = f"{path}: has {path.stat().st_size} bytes, {header.name} promises {expected}"
        msg += f" ({channels} channels x {points} samples x 4)"
        raise DataError(f"{msg}; the file is cut or belongs to another header, get a whole copy")
    samples: npt.NDArray[np.float32] = np.fromfile(path, dtype="<f4")
    return samples.reshape(channels, points, order="F")


def _event(kind: str, latency: float, sfreq: float) -> Event:
    return Event(
        type="Keystroke" if kind == _PRESS else "Stimulus",
        start=(latency - 1.0) / sfreq,
        duration=0.0,
        timeline="buttons",
        subject="s01",
        task="buttons",
        text=kind,
    )


def _positions(eeg: Header, kept: list[int]) -> dict[str, tuple[float, float, float]]:
    """Return metres in the head frame: right, front, up."""
    places = {}
    for index in kept:
        place = eeg.places[index]
        if place is not None:
            unit = np.array([-place[1], place[0], place[2]]) * _HEAD_RADIUS_M
            places[eeg.channels[index]] = (float(unit[0]), float(unit[1]), float(unit[2]))
    return places
