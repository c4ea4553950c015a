"""A null control: EEG labelled with 16 phonemes that nobody has yet heard or thought of.

The epochs are the fixation phase of the FEIS recordings: 1 s before the cue, 14 channels,
256 Hz, 160 a participant. Whatever decodes them above 1/16 leaks.

Notes
-----
Wellington and Clayton (2019), Fourteen-channel EEG with Imagined Speech (FEIS) dataset,
doi:10.5281/zenodo.3369178, ODC-BY 1.0. Not included: give the path of ``NN_articulators.zip``.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurodecode.contracts import Item, Location, Recording, Unit, Windows
from neurodecode.datasets import _montage
from neurodecode.datasets._damage import READ_ERRORS
from neurodecode.events import Event
from neurosweep.core.config import StrictModel
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

DEFAULT_FOLDS = 5

_SFREQ_HZ = 256.0
_SAMPLES = 256
_UNIT: Unit = "V"
_VOLT = 1e-6
_MEMBER = "articulators.csv"
_STAGE = "articulators"
_NAME = re.compile(r"(\d\d)_articulators\.zip")
_HEADER = "Time:256Hz,Epoch,F3,FC5,AF3,F7,T7,P7,O1,O2,P8,T8,F8,AF4,FC6,F4,Label,Stage,Flag"
_CHANNELS = tuple(_HEADER.split(",")[2:-3])
_LABELS = (
    *("f", "fleece", "goose", "k", "m", "n", "ng", "p"),
    *("s", "sh", "t", "thought", "trap", "v", "z", "zh"),
)
_SYMBOLS = tuple("abcdefghijklmnop")


class Config(StrictModel):
    """Options of the null control."""

    path: Annotated[str, Location(), Field(description="Folder that holds NN_articulators.zip")]
    participants: Annotated[
        str, Field(description="Participants to read, for example '01,02'; empty for all")
    ] = ""


def sources(config: Config) -> tuple[Path, ...]:
    """Name the archives.

    Raises
    ------
    DataError
        When the folder has none, or not those of the participants named.
    """
    folder = Path(config.path).expanduser()
    found = {
        match[1]: path
        for path in sorted(folder.glob("*_articulators.zip"))
        if (match := _NAME.fullmatch(path.name))
    }
    if not found:
        msg = f"data.path: {folder} has no NN_articulators.zip; name the folder with the fixation"
        raise DataError(f"{msg} epochs of FEIS (doi:10.5281/zenodo.3369178)")
    wanted = [name.strip() for name in config.participants.split(",") if name.strip()]
    double = sorted({name for name in wanted if wanted.count(name) > 1})
    if double:
        msg = f"data.participants: {', '.join(double)} named twice in '{config.participants}'"
        raise DataError(f"{msg}; name each once")
    unknown = [name for name in wanted if name not in found]
    if unknown:
        msg = f"data.participants: {', '.join(unknown)} not in {folder}; it has"
        raise DataError(f"{msg} {', '.join(found)}")
    return tuple(found[name] for name in (wanted or found))


def read(config: Config) -> tuple[Recording, ...]:
    """Read one recording a participant.

    Raises
    ------
    DataError
        When an archive is damaged or holds something else.
    """
    return tuple(_read_one(path) for path in sources(config))


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:  # noqa: ARG001
    """Define one window and one item an epoch."""
    items = []
    for recording in recordings:
        for number, event in enumerate(recording.events):
            label = _LABELS.index(event.text)
            items.append(
                Item(
                    item=f"{recording.name}/e{number:03d}",
                    part="pool",
                    onsets_s=(event.start,),
                    labels=(label,),
                    reference=_SYMBOLS[label],
                    typed=_SYMBOLS[label],
                )
            )
    return Windows(
        window_s=(0.0, _SAMPLES / _SFREQ_HZ),
        classes=_LABELS,
        symbols=_SYMBOLS,
        items=tuple(items),
        split="contiguous blocks of every recording",
        epoched=True,
    )


def _read_one(path: Path) -> Recording:
    rows = _rows(path)
    if not rows or len(rows) % _SAMPLES:
        msg = f"{path}: {_MEMBER} has {len(rows)} rows, whole epochs of {_SAMPLES} are expected"
        raise DataError(f"{msg}; get a whole copy")
    try:
        samples_TC = np.array([row[2:-3] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: {_MEMBER} holds samples that are no numbers ({error})") from error
    if samples_TC.shape[1:] != (len(_CHANNELS),):
        raise DataError(f"{path}: {_MEMBER} has rows without {len(_CHANNELS)} channels")
    broken = np.flatnonzero(~np.isfinite(samples_TC).all(axis=1))
    if len(broken):
        msg = f"{path}: {_MEMBER}, line {int(broken[0]) + 2}: a sample is NaN or infinite"
        raise DataError(f"{msg} ({len(broken)} such lines); get a whole copy")
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return _recording(path, f"p{match[1]}", samples_TC, _epoch_labels(path, rows))


def _rows(path: Path) -> list[list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            text = io.TextIOWrapper(archive.open(_MEMBER), encoding="utf-8").read()
    except READ_ERRORS as error:
        msg = f"{path}: cannot be read ({error}); an archive that holds {_MEMBER} is expected"
        raise DataError(f"{msg}, get a whole copy") from error
    if not text.strip():
        raise DataError(f"{path}: {_MEMBER} is empty; get a whole copy")
    header, *lines = text.splitlines()
    if header != _HEADER:
        msg = f"{path}: {_MEMBER} begins with '{header[:60]}', expected are the columns"
        raise DataError(f"{msg} {_HEADER}")
    return [line.split(",") for line in lines if line]


def _epoch_labels(path: Path, rows: list[list[str]]) -> list[str]:
    labels = []
    for start in range(0, len(rows), _SAMPLES):
        told = {(row[1], row[-3]) for row in rows[start : start + _SAMPLES]}
        stages = {row[-2] for row in rows[start : start + _SAMPLES]} - {_STAGE}
        if stages:
            msg = f"{path}: {_MEMBER}, from line {start + 2}: stage '{stages.pop()}' is not the"
            msg += f" fixation phase ('{_STAGE}'), which alone holds nothing to decode"
            raise DataError(f"{msg}; get the original archive")
        if len(told) > 1:
            line = start + 2
            raise DataError(f"{path}: {_MEMBER}, line {line}: an epoch changes its label or number")
        label = told.pop()[1]
        if label not in _LABELS:
            msg = f"{path}: {_MEMBER}, line {start + 2}: label '{label}' is unknown; known are"
            raise DataError(f"{msg} {', '.join(_LABELS)}")
        labels.append(label)
    return labels


def _recording(
    path: Path, subject: str, samples_TC: npt.NDArray[np.float64], labels: list[str]
) -> Recording:
    with np.errstate(over="ignore", invalid="ignore"):
        centred_CT = (samples_TC - np.median(samples_TC, axis=0)).T * _VOLT
        data_CT = np.ascontiguousarray(centred_CT, dtype=np.float32)
    return Recording(
        subject=subject,
        recording="fixation",
        sfreq_hz=_SFREQ_HZ,
        data_CT=data_CT,
        channels=_CHANNELS,
        units=(_UNIT,) * len(_CHANNELS),
        segments=tuple((i * _SAMPLES, (i + 1) * _SAMPLES) for i in range(len(labels))),
        events=tuple(
            Event(
                type="Phoneme",
                start=i * _SAMPLES / _SFREQ_HZ,
                duration=_SAMPLES / _SFREQ_HZ,
                timeline=subject,
                subject=subject,
                task="fixation",
                text=label,
            )
            for i, label in enumerate(labels)
        ),
        positions=_montage.positions(_CHANNELS),
        source_sha256={path.name: sha256_file(path)},
    )
