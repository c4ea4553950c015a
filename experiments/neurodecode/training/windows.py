"""Labelled windows of one part of a store, and what a model must know of them.

Array names carry their axes: B batch, C channel, T sample, W window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodecode.contracts import DataFacts
from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json

_IN_MEMORY_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Span:
    """Name the windows of one item: rows start to stop.

    Attributes
    ----------
    item
        Name of the item.
    start, stop
        Its rows.
    codes_WS
        Class of every window under every symbol; None where windows stand for themselves.
    symbols
        Text of every column of the codes.
    """

    item: str
    start: int
    stop: int
    codes_WS: npt.NDArray[np.uint8] | None = None
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class WindowSet:
    """Hold the windows of one part.

    Attributes
    ----------
    x_WCT
        Windows (window, channel, time), robust z-scores; a memory map when large.
    subject_W
        Index of each window's subject.
    target_W
        Class index of every window; None where labels are held back.
    spans
        Items, in the order of the store.
    """

    x_WCT: npt.NDArray[np.float32]
    subject_W: npt.NDArray[np.int64]
    target_W: npt.NDArray[np.int64] | None
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return int(self.x_WCT.shape[0])

    def batch(self, rows_B: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return windows (batch, channel, time) and their subjects on a device."""
        x_BCT = torch.from_numpy(np.ascontiguousarray(self.x_WCT[rows_B]))
        subject_B = torch.from_numpy(self.subject_W[rows_B])
        return x_BCT.to(device), subject_B.to(device)

    def targets(self) -> npt.NDArray[np.int64]:
        """Return the class of every window.

        Raises
        ------
        DataError
            When the part has no labels.
        """
        if self.target_W is None:
            msg = "this part has no labels; only train and dev have"
            raise DataError(msg)
        return self.target_W


def read_meta(fold: Path) -> dict[str, Any]:
    """Read the store's description, beside the parts or one folder above them.

    Raises
    ------
    DataError
        When there is none.
    """
    for folder in (fold, fold.parent):
        if (folder / "meta.json").is_file():
            return dict(read_json(folder / "meta.json"))
    msg = f"{fold}: no meta.json here or one folder above; is this a store of windows?"
    raise DataError(msg)


def data_facts(meta: Mapping[str, Any], num_samples: int) -> DataFacts:
    """Return what a model must know of the data.

    Parameters
    ----------
    meta
        The store's description.
    num_samples
        Samples of one window.
    """
    channels = tuple(meta["channels"])
    subjects = tuple(meta["subjects"])
    classes = tuple(str(label) for label in meta["classes"])
    places = meta.get("positions") or [None] * len(channels)
    if isinstance(places, Mapping):
        places = [places.get(name) for name in channels]
    return DataFacts(
        num_channels=len(channels),
        num_samples=num_samples,
        sfreq_hz=float(meta["sfreq_hz"]),
        num_classes=len(classes),
        classes=classes,
        num_subjects=len(subjects),
        subjects=subjects,
        positions=tuple(None if p is None else (p[0], p[1], p[2]) for p in places),
    )


def read_windows(fold: Path, part: str, subjects: tuple[str, ...]) -> WindowSet:
    """Read one part of a store.

    Parameters
    ----------
    fold
        Folder that holds the parts.
    part
        ``train``, ``dev``, ``val`` or ``test``.
    subjects
        All subjects, in the order of their indices.

    Raises
    ------
    DataError
        When a file is missing, or items and windows do not match.
    """
    folder = fold / part
    try:
        x_WCT = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
        labels = folder / "y.npy"
        y_W = np.load(labels, allow_pickle=False) if labels.is_file() else None
        entries = read_json(folder / "items.json")
        spans = tuple(_span(folder, entry) for entry in entries)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder}: cannot be read ({error!r}); prepare the data again"
        raise DataError(msg) from error
    subject_W = _subject_rows(folder, entries, spans, subjects, len(x_WCT))
    if y_W is not None and y_W.shape != (len(x_WCT),):
        msg = f"{folder}: {len(x_WCT)} windows, but labels of shape {y_W.shape}"
        raise DataError(msg)
    if x_WCT.nbytes <= _IN_MEMORY_BYTES:
        x_WCT = np.array(x_WCT)
    return WindowSet(x_WCT, subject_W, None if y_W is None else y_W.astype(np.int64), spans)


def _span(folder: Path, entry: Mapping[str, Any]) -> Span:
    item = str(entry["item"])
    file = folder / "codes" / f"{item}.npy"
    codes_WS = np.load(file, allow_pickle=False) if file.is_file() else None
    symbols = tuple(str(symbol) for symbol in entry.get("symbols") or ())
    if codes_WS is not None and codes_WS.shape[1:] != (len(symbols),):
        msg = f"{file}: codes of shape {codes_WS.shape} for {len(symbols)} symbols"
        raise DataError(msg)
    return Span(item, int(entry["start"]), int(entry["stop"]), codes_WS, symbols)


def _subject_rows(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    spans: Sequence[Span],
    subjects: Sequence[str],
    num_windows: int,
) -> npt.NDArray[np.int64]:
    index = {name: number for number, name in enumerate(subjects)}
    subject_W = np.zeros(num_windows, dtype=np.int64)
    for entry, span in zip(entries, spans, strict=True):
        if not 0 <= span.start < span.stop <= num_windows or entry["subject"] not in index:
            msg = (
                f"{folder}: item {span.item} names rows {span.start} to {span.stop} of "
                f"{num_windows} and subject {entry['subject']!r} of {list(subjects)}"
            )
            raise DataError(msg)
        subject_W[span.start : span.stop] = index[entry["subject"]]
    return subject_W
