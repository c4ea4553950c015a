"""EEG of a matrix speller whose symbols flash by known pseudo-random codes (noise tags).

Every flash is a window, and its class is what the attended symbol did: it is known to the
experimenter during calibration, and predicted afterwards. The symbol whose code fits best is
what was spelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurodecode.contracts import CodeArray, Item, Location, Part, Recording, Windows
from neurodecode.datasets import _noisetag_log
from neurodecode.events import Event
from neurosweep.core.config import StrictModel
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file

DEFAULT_FOLDS = 1

_FOLDER = Path(__file__).parent / "files" / "noisetag"
_MAIN = ("s01", "exampledata", "mindaffectBCI_exampledata.txt.gz")
_OTHER = ("s02", "rc5x5", "mindaffectBCI_rc5x5_bci_200904_1648.txt.gz")
_SPLIT_OTHER: tuple[Part, ...] = ("train", "train", "val", "test")
_ONLINE = "Prediction"
_CUT_MS = 1000
_LOST = "lost"
_SYMBOLS = tuple("abcdefghijklmnopqrstuvwxy")
_CLASSES = {
    "level": ("off", "on"),
    "edge": ("none", "rise", "fall"),
    "transition": ("off-off", "off-on", "on-off", "on-on"),
}


class Config(StrictModel):
    """Options of the noise-tag speller."""

    target: Annotated[
        Literal["transition", "edge", "level"],
        Field(description="What a flash is classified as: both last states, the edge, the state"),
    ] = "transition"
    window_start_s: Annotated[
        float, Field(ge=-1.0, le=1.0, description="Start of a window after its flash, seconds")
    ] = 0.0
    window_stop_s: Annotated[
        float, Field(gt=0.0, le=2.0, description="End of a window after its flash, seconds")
    ] = 0.3
    log: Annotated[
        str,
        Location(),
        Field(description="Path of another cued log; empty for the recordings included here"),
    ] = ""
    rc5x5: Annotated[
        Literal["test", "split", "none"],
        Field(
            description="Second included recording: sealed test, or a second subject whose 15"
            " trials are 8 train, 4 val, 3 test, or left out; not used with `log`"
        ),
    ] = "test"


def sources(config: Config) -> tuple[Path, ...]:
    """Name the logs.

    Raises
    ------
    DataError
        When one is missing.
    """
    return tuple(path for *_, path in _logs(config))


def read(config: Config) -> tuple[Recording, ...]:
    """Read the logs.

    Raises
    ------
    DataError
        When a log is missing, damaged or not cued.
    """
    return tuple(_read_one(*entry) for entry in _logs(config))


def windows(config: Config, recordings: tuple[Recording, ...]) -> Windows:
    """Define one window a flash and one item a trial.

    Raises
    ------
    DataError
        When the window is empty or a log has more symbols than can be named.
    """
    if config.window_stop_s <= config.window_start_s:
        msg = f"data.window_stop_s: is {config.window_stop_s}, must be above window_start_s"
        raise DataError(f"{msg} ({config.window_start_s})")
    items = [item for recording in recordings for item in _items(config, recording)]
    shown = max(len(item.symbols) for item in items if item.part != "test")
    return Windows(
        window_s=(config.window_start_s, config.window_stop_s),
        classes=_CLASSES[config.target],
        symbols=_SYMBOLS,
        items=tuple(items),
        split=_describe_split(config),
        dev_fraction=0.2,
        chance_acc=1.0 / shown,
    )


def _logs(config: Config) -> list[tuple[str, str, Path]]:
    if config.log:
        entries = [("s01", Path(config.log).name.split(".")[0], Path(config.log).expanduser())]
    else:
        chosen = [_MAIN] if config.rc5x5 == "none" else [_MAIN, _OTHER]
        entries = [(subject, name, _FOLDER / file) for subject, name, file in chosen]
    for *_, path in entries:
        if not path.is_file():
            msg = f"data.log: {path} is not a file; give the path of a noise-tag speller log, or"
            raise DataError(f"{msg} leave it empty for the included recordings")
    return entries


def _read_one(subject: str, name: str, path: Path) -> Recording:
    log = _noisetag_log.read_log(path)
    samples, channels = log.data_TC.shape
    _check_flashes(path, log)
    events: list[Event] = []
    trials = []
    warnings = []
    for number, trial in enumerate(log.trials):
        onsets = log.sample_of(trial.flash_ms)
        inside = onsets < samples
        if not inside.all():
            after = int((~inside).sum())
            warnings.append(f"trial {number + 1}: {after} flashes after the last sample left out")
        states = trial.states_WS()[inside]
        lost = log.lost_at(trial.flash_ms)[inside]
        events += _events(f"{subject}/{name}", number, onsets[inside], states, lost)
        cued = trial.cued_object()
        trials.append(
            {
                "mode": trial.mode,
                "objects": list(trial.objects),
                "cued": cued,
                "log_selected": trial.selection,
                "flashes": int(inside.sum()),
            }
        )
    selected = [t for t in trials if t["log_selected"] is not None]
    return Recording(
        subject=subject,
        recording=name,
        sfreq_hz=_noisetag_log.SFREQ_HZ,
        data_CT=np.ascontiguousarray(log.data_TC.T),
        channels=tuple(f"EEG{i + 1}" for i in range(channels)),
        units=("a.u.",) * channels,
        segments=log.segments(),
        events=tuple(events),
        source_sha256={path.name: sha256_file(path)},
        meta={
            "trials": trials,
            "log_selections": len(selected),
            "log_hits": sum(t["log_selected"] == t["cued"] for t in selected),
            "warnings": warnings,
        },
    )


def _check_flashes(path: Path, log: _noisetag_log.SpellerLog) -> None:
    """Refuse flashes outside the samples, but for a last second whose samples were cut off."""
    first, last = int(log.sample_ms[0]), int(log.sample_ms[-1])
    for number, trial in enumerate(log.trials, start=1):
        early, late = first - min(trial.flash_ms), max(trial.flash_ms) - last
        if max(early, late - _CUT_MS) <= 0 and min(trial.flash_ms) <= last:
            continue
        side, by = ("before the first", early) if early > 0 else ("after the last", late)
        msg = f"{path}: events outside the recording: trial {number} flashes up to {by / 1000:g} s"
        msg += f" {side} sample (EEG lasts {(last - first) / 1000:g} s); flashes and DATAPACKETs"
        raise DataError(f"{msg} must be of one session and on one clock (sts)")


def _events(
    recording: str,
    trial: int,
    onsets: npt.NDArray[np.int64],
    states_WS: npt.NDArray[np.uint8],
    lost_W: npt.NDArray[np.bool_],
) -> list[Event]:
    subject, name = recording.split("/")
    return [
        Event(
            type="Stimulus",
            start=float(onset / _noisetag_log.SFREQ_HZ),
            duration=0.0,
            timeline=name,
            subject=subject,
            task="speller",
            text="".join(str(state) for state in states),
            trial_id=f"t{trial:02d}",
            extra={_LOST: "yes"} if lost else {},
        )
        for onset, states, lost in zip(onsets, states_WS, lost_W, strict=True)
    ]


def _items(config: Config, recording: Recording) -> list[Item]:
    flashes: dict[str, list[Event]] = {}
    for event in recording.events:
        flashes.setdefault(event.trial_id, []).append(event)
    items = []
    trials = recording.meta["trials"]
    parts = _parts(config, recording)
    for (trial_id, events), trial, part in zip(flashes.items(), trials, parts, strict=True):
        objects = list(trial["objects"])
        if max(objects) > len(_SYMBOLS):
            msg = f"{recording.name}: symbol {max(objects)} is above the {len(_SYMBOLS)} that"
            raise DataError(f"{msg} have a letter; use a log of a matrix of up to 25 symbols")
        states = np.array([[int(c) for c in event.text] for event in events], dtype=np.uint8)
        keep = _within_segments(config, recording, events)
        if not keep.any():
            msg = f"{recording.name}/{trial_id}: none of its {len(keep)} windows lies within the"
            raise DataError(f"{msg} recording; shorten the window (data.window_stop_s)")
        codes = _codes(states, config.target)[keep]
        symbols = tuple(_SYMBOLS[o - 1] for o in objects)
        cued = objects.index(trial["cued"])
        selected = trial["log_selected"]
        items.append(
            Item(
                item=f"{recording.name}/{trial_id}",
                part=part,
                onsets_s=tuple(e.start for e, k in zip(events, keep, strict=True) if k),
                labels=tuple(int(c) for c in codes[:, cued]),
                reference=symbols[cued],
                typed=symbols[cued] if selected is None else _SYMBOLS[selected - 1],
                codes_WS=codes,
                symbols=symbols,
            )
        )
    return items


def _within_segments(
    config: Config, recording: Recording, events: list[Event]
) -> npt.NDArray[np.bool_]:
    """Tell which windows neither begin nor hold a place where samples were lost."""
    edges_s = np.array(recording.segments) / recording.sfreq_hz
    onsets = np.array([event.start for event in events])
    segment = np.searchsorted(edges_s[:, 0], onsets + 1e-9, side="right") - 1
    last = edges_s[segment, 1] - config.window_stop_s - 1.0 / recording.sfreq_hz
    lost = np.array([_LOST in event.extra for event in events])
    begins = onsets + config.window_start_s >= edges_s[segment, 0]
    inside: npt.NDArray[np.bool_] = begins & (onsets <= last) & ~lost
    return inside


def _parts(config: Config, recording: Recording) -> tuple[Part, ...]:
    modes = [str(trial["mode"]) for trial in recording.meta["trials"]]
    if not config.log and recording.recording == _OTHER[1]:
        if config.rc5x5 == "test":
            return tuple("test" for _ in modes)
        return tuple(_SPLIT_OTHER[min(i // 4, 3)] for i in range(len(modes)))
    if any(mode.startswith(_ONLINE) for mode in modes):
        return tuple("val" if mode.startswith(_ONLINE) else "train" for mode in modes)
    return tuple("pool" for _ in modes)


def _describe_split(config: Config) -> str:
    text = "in blocks of time: calibration trials train (the last ones judge early stopping),"
    text += " online copy-spelling trials validate"
    if config.log or config.rc5x5 == "none":
        return text
    if config.rc5x5 == "test":
        return f"{text}; another recording, rc5x5, is the sealed test"
    return f"{text}; of rc5x5 8 trials train, the next 4 validate, the last 3 are the sealed test"


def _codes(states_WS: npt.NDArray[np.uint8], target: str) -> CodeArray:
    """Return the class of every flash under every symbol; before a trial all is dark."""
    before = np.vstack([np.zeros_like(states_WS[:1]), states_WS[:-1]])
    if target == "level":
        return states_WS
    if target == "transition":
        return (2 * before + states_WS).astype(np.uint8)
    rise, fall = (states_WS > before), (states_WS < before)
    return (rise + 2 * fall).astype(np.uint8)
