"""Message logs of the noise-tag speller: packets of EEG, flashes of the screen, selections.

A line is ``[rts:<ms>] sts:<ms> t:<TYPE> ts:<ms> ...``; ``sts`` is the one clock that all clients
share. Object 0 of a stimulus event repeats the state of the symbol that the user was told to
attend to.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurosweep.core.errors import DataError

SFREQ_HZ = 200.0
CUED = 0

_MS_PER_SAMPLE = 5
_HORIZON_S = 5.0
_MIN_FLASHES = 10
_LOST = 0.02
_CLOCK_SLACK = 0.02
_STATES = frozenset((0, 1))

JUMP_MS = 50
_HEAD = re.compile(r"\bsts:(-?\d+)\s+t:(\w+) ts:-?\d+(.*)")
_SHAPE = re.compile(r"v\[(\d+)x(\d+)\]:")
_ROW = re.compile(r"\[([^\[\]]*?),?\]")
_OBJECT = re.compile(r"\{(\d+),(\d+)\}")


@dataclass
class Trial:
    """One cue and the flashes that followed it.

    Attributes
    ----------
    mode
        Mode of the speller: ``Calibration.supervised``, ``Prediction.static``.
    flash_ms
        Time of every flash on the shared clock.
    states
        Object to state of every flash.
    selection
        Object that the speller itself selected; None when it selected none.
    """

    mode: str
    flash_ms: list[int] = field(default_factory=list)
    states: list[dict[int, int]] = field(default_factory=list)
    selection: int | None = None

    @property
    def objects(self) -> tuple[int, ...]:
        """Flashing symbols, without the cue."""
        return tuple(sorted(key for key in self.states[0] if key != CUED))

    def states_WS(self) -> npt.NDArray[np.uint8]:  # noqa: N802
        """Return the state of every symbol at every flash."""
        objects = self.objects
        return np.array([[state[o] for o in objects] for state in self.states], dtype=np.uint8)

    def cued_object(self) -> int | None:
        """Return the one symbol whose code is the cue's; None when that is not one.

        A flash in fifty may differ: a message can be lost on the way from screen to log.
        """
        least = (1.0 - _LOST) * len(self.states)
        same = [o for o in self.objects if sum(s[o] == s[CUED] for s in self.states) >= least]
        return same[0] if len(same) == 1 else None


@dataclass(frozen=True)
class SpellerLog:
    """Content of a log.

    Attributes
    ----------
    data_TC
        Samples (time, channels).
    sample_ms
        Time of every sample on the shared clock, in rising order.
    trials
        Trials that have flashes.
    """

    data_TC: npt.NDArray[np.float32]
    sample_ms: npt.NDArray[np.int64]
    trials: tuple[Trial, ...]

    def segments(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of samples between which samples were lost."""
        cuts = np.flatnonzero(np.diff(self.sample_ms) > JUMP_MS) + 1
        edges = [0, *(int(cut) for cut in cuts), len(self.sample_ms)]
        return tuple(pairwise(edges))

    def sample_of(self, times_ms: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the index of the first sample taken at or after each time."""
        return np.searchsorted(self.sample_ms, np.asarray(times_ms)).astype(np.int64)

    def lost_at(self, times_ms: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Tell which times lie where samples were lost: the next sample is of a later time."""
        times = np.asarray(times_ms)
        last = len(self.sample_ms) - 1
        after = np.clip(self.sample_of(times), 0, last)
        start = self.sample_ms[np.maximum(after - 1, 0)]
        lost: npt.NDArray[np.bool_] = (self.sample_ms[after] - start > JUMP_MS) & (
            self.sample_ms[after] - times >= _MS_PER_SAMPLE
        )
        return lost


@dataclass
class _Collector:
    mode: str = "idle"
    rows: list[list[float]] = field(default_factory=list)
    packet_ends: list[int] = field(default_factory=list)
    packet_ms: list[int] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    trial: Trial | None = None

    def take(self, kind: str, sts: int, body: str) -> None:
        """Take one message.

        Raises
        ------
        ValueError
            When its body cannot be parsed.
        """
        if kind == "DATAPACKET":
            self._take_packet(sts, body)
        elif kind == "MODECHANGE":
            self.mode = body.split("mode:")[1].split()[0]
            self.trial = None
        elif kind == "NEWTARGET":
            self.trial = Trial(self.mode)
            self.trials.append(self.trial)
        elif kind == "STIMULUSEVENT" and self.trial is not None:
            self.trial.flash_ms.append(sts)
            self.trial.states.append({int(a): int(b) for a, b in _OBJECT.findall(body)})
        elif kind == "SELECTION" and self.trial is not None:
            self.trial.selection = int(body.split("id:")[1].split()[0])

    def _take_packet(self, sts: int, body: str) -> None:
        shape = _SHAPE.search(body)
        if shape is None:
            raise ValueError("a DATAPACKET has no v[CxT]")
        channels, samples = int(shape[1]), int(shape[2])
        rows = [[float(v) for v in row.split(",")] for row in _ROW.findall(body[shape.end() :])]
        if any(len(row) != channels for row in rows):
            raise ValueError(f"a sample does not have {channels} values")
        if len(rows) != samples:
            raise ValueError(f"a packet of {samples} samples holds {len(rows)}")
        if self.packet_ms and self.packet_ms[-1] == sts and self.rows[-samples:] == rows:
            raise ValueError("the same packet is there twice")
        self.rows += rows
        self.packet_ends.append(len(self.rows))
        self.packet_ms.append(sts)


def read_log(path: Path) -> SpellerLog:
    """Read a log, plain or gzipped.

    Raises
    ------
    DataError
        When the file cannot be read, is no such log, is damaged before its last line, or its
        trials do not cue exactly one symbol.
    """
    collector = _Collector()
    try:
        previous: tuple[int, re.Match[str]] | None = None
        for number, line in _lines(path):
            match = _HEAD.search(line)
            if match is None:
                continue
            if previous is not None:
                _take(collector, path, *previous)
            previous = (number, match)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        msg = f"{path}: cannot be read as a speller log ({error}); a text log, or one in .gz, is"
        raise DataError(f"{msg} expected") from error
    if previous is not None:
        _take(collector, path, *previous, last=True)
    return _finish(path, collector)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from enumerate(file, start=1)


def _take(
    collector: _Collector, path: Path, number: int, match: re.Match[str], last: bool = False
) -> None:
    try:
        collector.take(match[2], int(match[1]), match[3])
    except (ValueError, IndexError) as error:
        if last:
            return
        msg = f"{path}, line {number}: {match[2]} cannot be read ({error}); the log is damaged,"
        raise DataError(f"{msg} get a whole copy") from error


def _finish(path: Path, collector: _Collector) -> SpellerLog:
    trials = tuple(t for t in collector.trials if len(t.states) >= _MIN_FLASHES)
    if not collector.rows or not trials:
        what = "EEG packets" if not collector.rows else "trials with flashes"
        msg = f"{path}: holds no {what} (lines 't:DATAPACKET', 't:NEWTARGET', 't:STIMULUSEVENT')"
        raise DataError(f"{msg}; give a message log of the noise-tag speller")
    if len({len(row) for row in collector.rows}) > 1:
        raise DataError(f"{path}: the number of channels changes within the log; split the log")
    for index, trial in enumerate(trials, start=1):
        _check_trial(f"{path}: trial {index}", trial)
    with np.errstate(over="ignore"):
        data_TC = np.array(collector.rows, dtype=np.float32)
    sample_ms = _sample_times(
        np.array(collector.packet_ends, dtype=np.int64),
        np.array(collector.packet_ms, dtype=np.int64),
    )
    _check_clock(path, sample_ms)
    return SpellerLog(data_TC, np.maximum.accumulate(sample_ms), trials)


def _check_trial(where: str, trial: Trial) -> None:
    objects = trial.states[0].keys()
    if any(state.keys() != objects for state in trial.states):
        raise DataError(f"{where}: the set of flashing symbols changes")
    foreign = {value for state in trial.states for value in state.values()} - _STATES
    if foreign:
        msg = f"{where}: a symbol has the state {min(foreign)}, only 0 (off) and 1 (on) are known"
        raise DataError(f"{msg}; the log is damaged or of another stimulus, get a whole copy")
    if CUED not in objects or trial.cued_object() is None:
        msg = f"{where}: no single symbol follows the cue (object {CUED});"
        raise DataError(f"{msg} only cued (calibration or copy-spelling) logs can be used")
    if trial.selection is not None and trial.selection not in trial.objects:
        shown = trial.objects
        msg = f"{where}: SELECTION has id {trial.selection}, the {len(shown)} symbols that flashed"
        raise DataError(
            f"{msg} are {shown[0]} to {shown[-1]}; the log is damaged, get a whole copy"
        )


def _check_clock(path: Path, sample_ms: npt.NDArray[np.int64]) -> None:
    """Refuse samples that are more or fewer than the time between them allows."""
    if len(sample_ms) < SFREQ_HZ:
        msg = f"{path}: holds {len(sample_ms)} samples, at least {SFREQ_HZ:g} (1 s) are needed"
        raise DataError(f"{msg}; get a whole copy")
    period = float(sample_ms[-1] - sample_ms[0]) / (len(sample_ms) - 1)
    if abs(period / _MS_PER_SAMPLE - 1.0) > _CLOCK_SLACK:
        msg = f"{path}: its samples are {period:.2f} ms apart, {_MS_PER_SAMPLE} ms"
        msg += f" ({SFREQ_HZ:g} Hz) are expected: DATAPACKETs are missing, doubled or of another"
        raise DataError(f"{msg} amplifier; get a whole copy or log at {SFREQ_HZ:g} Hz")
    back_ms = np.maximum.accumulate(sample_ms) - sample_ms
    if back_ms.max() > JUMP_MS:
        at_s = float(sample_ms[int(back_ms.argmax())] - sample_ms[0]) / 1000.0
        msg = f"{path}: within {_HORIZON_S:g} s after {at_s:.1f} s, {back_ms.max()} ms more samples"
        msg += " arrive than time passes: DATAPACKETs are doubled or out of order"
        raise DataError(f"{msg}; get a whole copy")


def _sample_times(
    packet_ends: npt.NDArray[np.int64], packet_ms: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the time of every sample from when the packets arrived.

    Packets arrive late by a varying delay, never early: the minimum of (arrival - 5 ms * n)
    is the offset of the sample clock. The minimum is over the next seconds only, not over the
    whole log, because samples get lost on the way: then the offset rises, and it rises at
    that packet. The last second has one offset, that a late last packet cannot raise.
    """
    delay = packet_ms - _MS_PER_SAMPLE * packet_ends
    horizon = int(_HORIZON_S * SFREQ_HZ)
    ends = np.searchsorted(packet_ends, packet_ends + horizon, side="right")
    last_second = int(np.searchsorted(packet_ends, packet_ends[-1] - int(SFREQ_HZ)))
    starts = np.minimum(np.arange(len(ends)), last_second)
    offset = np.array(
        [delay[start:end].min() for start, end in zip(starts, ends, strict=True)], dtype=np.int64
    )
    sizes = np.diff(packet_ends, prepend=0)
    number = np.arange(1, packet_ends[-1] + 1)
    times: npt.NDArray[np.int64] = _MS_PER_SAMPLE * number + np.repeat(offset, sizes)
    return times
