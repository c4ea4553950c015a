"""EEG before key presses of the left or the right hand: BCI Competition II, data set IV.

100 Hz, 500 ms ending 130 ms before each press: 316 training and 100 official test presses.
The copy of the UEA archive (``FingerMovements_*.ts``) is scrambled and refused.

Notes
-----
Blankertz, Curio and Mueller (2002), Classifying single trial EEG: towards brain computer
interfacing, NIPS 14. The data are to be had from their authors or from copies; none is included.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurodecode.contracts import Item, Location, Part, Recording, Unit, Windows
from neurodecode.datasets import _montage
from neurodecode.datasets._damage import READ_ERRORS
from neurodecode.events import Event
from neurosweep.core.config import StrictModel
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

DEFAULT_FOLDS = 10

_REBUILT = "fm16_unscrambled.npz"
_ORIGINAL = "sp1s_aa_test.txt"
_ORIGINAL_LABELS = "labels_data_set_iv.txt"
_SFREQ_HZ = 100.0
_SAMPLES = 50
_ORIGINAL_TRIALS = 100
_UNIT: Unit = "V"
_VOLT = 1e-6
_CLASSES = ("left", "right")
_SYMBOLS = ("L", "R")
_CHANNEL_LIST = (
    "F3,F1,Fz,F2,F4,FC5,FC3,FC1,FCz,FC2,FC4,FC6,C5,C3,C1,Cz,"
    "C2,C4,C6,CP5,CP3,CP1,CPz,CP2,CP4,CP6,O1,O2"
)
_CHANNELS = tuple(_CHANNEL_LIST.split(","))


class Config(StrictModel):
    """Options of the typing EEG."""

    path: Annotated[
        str,
        Location(),
        Field(description=f"Folder that holds {_REBUILT}, or {_ORIGINAL} and its labels"),
    ]
    source: Annotated[
        Literal["rebuilt", "original"],
        Field(
            description="rebuilt: 16 channels, 316 training and 100 test presses;"
            " original: 28 channels of the 100 test presses only, cross-validated"
        ),
    ] = "rebuilt"


def sources(config: Config) -> tuple[Path, ...]:
    """Name the files.

    Raises
    ------
    DataError
        When one is missing, or only the scrambled copy is there.
    """
    folder = Path(config.path).expanduser()
    if folder.is_file():
        _refuse_scrambled(folder)
        folder = folder.parent
    names = [_REBUILT] if config.source == "rebuilt" else [_ORIGINAL, _ORIGINAL_LABELS]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        for scrambled in sorted(folder.glob("*.ts")):
            _refuse_scrambled(scrambled)
        msg = f"data.path: {folder} has no {' and no '.join(missing)}; name the folder of the"
        raise DataError(f"{msg} typing EEG (BCI Competition II, data set IV)")
    return tuple(folder / name for name in names)


def _refuse_scrambled(path: Path) -> None:
    if path.suffix != ".ts":
        return
    msg = f"data.path: {path} is the copy of the UEA archive, whose channels are scrambled: its"
    msg += " dimension d holds columns 28d to 28d+49 of the original rows, where channel d is 50d"
    msg += f" to 50d+49, and 594 columns are lost. Use {_REBUILT} (16 channels put right) or"
    raise DataError(f"{msg} the original {_ORIGINAL} with data.source = 'original'")


def read(config: Config) -> tuple[Recording, ...]:
    """Read the epochs.

    Raises
    ------
    DataError
        When a file is missing, damaged or of another shape.
    """
    paths = sources(config)
    sha = {path.name: sha256_file(path) for path in paths}
    if config.source == "original":
        data_NCT, labels_N = _read_original(*paths)
        return (_recording("epochs", data_NCT, labels_N, sha),)
    parts = _read_rebuilt(paths[0])
    return tuple(_recording(name, *arrays, sha) for name, arrays in parts.items())


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:
    """Define one window and one item a key press."""
    items: list[Item] = []
    for recording in recordings:
        part: Part = "test" if recording.recording == "test" else "pool"
        for number, event in enumerate(recording.events):
            label = _SYMBOLS.index(event.text)
            items.append(
                Item(
                    item=f"{recording.name}/k{number:03d}",
                    part=part,
                    onsets_s=(event.start,),
                    labels=(label,),
                    reference=event.text,
                    typed=event.text,
                )
            )
    split = "blocks of neighbouring key presses in the order of the file"
    if config.source == "rebuilt":
        split += "; the official 100 test presses are the sealed test"
    return Windows(
        window_s=(0.0, _SAMPLES / _SFREQ_HZ),
        classes=_CLASSES,
        symbols=_SYMBOLS,
        items=tuple(items),
        split=split,
        epoched=True,
    )


Labelled = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def _read_rebuilt(path: Path) -> dict[str, Labelled]:
    try:
        with warnings.catch_warnings(), path.open("rb") as raw:
            warnings.simplefilter("ignore")
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("Xtr", "ytr", "Xte", "yte")}
    except READ_ERRORS as error:
        msg = f"{path}: cannot be read ({error}); arrays Xtr, ytr, Xte and yte are expected"
        raise DataError(f"{msg}, get a whole copy") from error
    parts = {}
    for name, suffix in (("train", "tr"), ("test", "te")):
        data, labels = arrays[f"X{suffix}"], arrays[f"y{suffix}"]
        if data.shape[1:] != (16, _SAMPLES) or labels.shape != data.shape[:1]:
            msg = f"{path}: X{suffix} has shape {data.shape} and y{suffix} {labels.shape};"
            raise DataError(f"{msg} (presses, 16, {_SAMPLES}) and (presses,) are expected")
        if not len(data):
            raise DataError(f"{path}: X{suffix} holds no press; get a whole copy")
        if data.dtype.kind not in "fiu":
            msg = f"{path}: X{suffix} holds {data.dtype} values, real numbers in microvolts are"
            raise DataError(f"{msg} expected; get a whole copy")
        unknown = sorted(set(labels.tolist()) - set(_CLASSES), key=repr)[:5]
        if unknown:
            raise DataError(f"{path}: y{suffix} holds {unknown}; only {_CLASSES} are expected")
        parts[name] = (data, np.array([_CLASSES.index(str(label)) for label in labels]))
    return parts


def _read_original(path: Path, labels_path: Path) -> Labelled:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, labels = np.loadtxt(path), np.loadtxt(labels_path)
    except READ_ERRORS as error:
        msg = f"{path.parent}: {path.name} or {labels_path.name} cannot be read ({error})"
        raise DataError(f"{msg}; get a whole copy of the competition's files") from error
    size = len(_CHANNELS) * _SAMPLES
    if data.shape != (_ORIGINAL_TRIALS, size) or labels.shape != (_ORIGINAL_TRIALS,):
        msg = f"{path.parent}: {path.name} has shape {data.shape}, {labels_path.name}"
        msg += f" {labels.shape}; ({_ORIGINAL_TRIALS}, {size}) and ({_ORIGINAL_TRIALS},)"
        raise DataError(f"{msg} are expected")
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{labels_path}: holds other values than 0 (left) and 1 (right)")
    return data.reshape(len(data), len(_CHANNELS), _SAMPLES), labels.astype(np.int64)


def _recording(
    name: str,
    data_NCT: npt.NDArray[np.float64],
    labels_N: npt.NDArray[np.int64],
    sha: dict[str, str],
) -> Recording:
    number, channels, samples = data_NCT.shape
    with np.errstate(over="ignore"):
        data_CT = (data_NCT.transpose(1, 0, 2) * _VOLT).astype(np.float32)
    names = _CHANNELS[:channels]
    return Recording(
        subject="s01",
        recording=name,
        sfreq_hz=_SFREQ_HZ,
        data_CT=data_CT.reshape(channels, number * samples),
        channels=names,
        units=(_UNIT,) * channels,
        segments=tuple((i * samples, (i + 1) * samples) for i in range(number)),
        events=tuple(
            Event(
                type="Keystroke",
                start=i * samples / _SFREQ_HZ,
                duration=samples / _SFREQ_HZ,
                timeline=name,
                subject="s01",
                task="typing",
                text=_SYMBOLS[label],
            )
            for i, label in enumerate(labels_N)
        ),
        positions=_montage.positions(names),
        source_sha256=sha,
    )
