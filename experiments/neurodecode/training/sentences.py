"""Whole sentences of one part of a store, and what an encoder must know of them.

Array names carry their axes: B batch, C channel, T sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodecode.contracts import SentenceFacts
from neurodecode.decoding.alphabet import SYMBOLS, encode
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json

NO_PLACE = (-0.1, -0.1)

_IN_MEMORY_BYTES = 1024 * 1024 * 1024


class SentenceBatch(NamedTuple):
    """Hold padded sentences.

    Attributes
    ----------
    x_BTC
        Robust z-scores, zero beyond an item's end.
    length_B
        Valid samples of every item.
    subject_B
        Index of every item's subject.
    """

    x_BTC: Tensor
    length_B: Tensor
    subject_B: Tensor


@dataclass(frozen=True)
class SentenceSpan:
    """Name the samples of one sentence: rows start to stop.

    Attributes
    ----------
    item
        Name of the item.
    start, stop
        Its rows.
    subject_index
        Index of its subject.
    typed, text
        What was typed, and what should have been; None where they are held back.
    """

    item: str
    start: int
    stop: int
    subject_index: int
    typed: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class SentenceSet:
    """Hold the sentences of one part.

    Attributes
    ----------
    x_TC
        Samples of all sentences, one after the other: robust z-scores in half precision; a
        memory map when large.
    spans
        Sentences, in the order of the store.
    sfreq_hz
        Sampling rate.
    """

    x_TC: npt.NDArray[np.float16]
    spans: tuple[SentenceSpan, ...]
    sfreq_hz: float

    def __len__(self) -> int:
        return len(self.spans)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the samples of every sentence."""
        return np.array([span.stop - span.start for span in self.spans], dtype=np.int64)

    def subset(self, rows: Iterable[int]) -> SentenceSet:
        """Return some of the sentences, over the same samples."""
        return replace(self, spans=tuple(self.spans[int(row)] for row in rows))

    def typed(self) -> list[str]:
        """Return what was typed in every sentence.

        Raises
        ------
        DataError
            When the part has no texts.
        """
        texts = [span.typed for span in self.spans if span.typed is not None]
        if len(texts) != len(self.spans):
            msg = f"{len(self.spans) - len(texts)} of {len(self.spans)} sentences have no text;"
            raise DataError(f"{msg} only train and dev have")
        return texts

    def batch(
        self, rows: Sequence[int] | npt.NDArray[np.integer], device: torch.device
    ) -> SentenceBatch:
        """Return sentences, padded with zeros to the longest, on a device."""
        start_B = np.array([self.spans[row].start for row in rows], dtype=np.int64)
        length_B = np.array([self.spans[row].stop for row in rows], dtype=np.int64) - start_B
        subject_B = np.array([self.spans[row].subject_index for row in rows], dtype=np.int64)
        x_BTC = torch.zeros(len(rows), int(length_B.max()), self.x_TC.shape[1])
        for place, (start, length) in enumerate(zip(start_B, length_B, strict=True)):
            samples_TC = np.ascontiguousarray(self.x_TC[start : start + length])
            x_BTC[place, :length] = torch.from_numpy(samples_TC)
        return SentenceBatch(
            x_BTC.to(device),
            torch.from_numpy(length_B).to(device),
            torch.from_numpy(subject_B).to(device),
        )


def targets(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the CTC classes of texts (batch, character), zero-padded, and their lengths."""
    ids = [torch.tensor(encode(text), dtype=torch.int64) for text in texts]
    lengths_B = torch.tensor([len(one) for one in ids], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), lengths_B


def sentence_facts(meta: Mapping[str, Any]) -> SentenceFacts:
    """Return what an encoder must know of the data.

    Parameters
    ----------
    meta
        The store's description.

    Raises
    ------
    DataError
        When the store holds no sentences, or sentences in another alphabet.
    """
    if meta.get("kind") != "sentences":
        msg = f"the store holds {meta.get('kind', 'windows')}, this model needs sentences"
        raise DataError(f"{msg}; choose a dataset of whole sentences")
    symbols = "".join(meta["symbols"])
    if symbols != SYMBOLS:
        msg = f"the store's symbols are {symbols!r}, expected {SYMBOLS!r}; prepare the data again"
        raise DataError(msg)
    layout = meta.get("layout") or {}
    subjects = tuple(str(name) for name in meta["subjects"])
    return SentenceFacts(
        num_channels=len(meta["channels"]),
        sfreq_hz=float(meta["sfreq_hz"]),
        positions_C2=tuple(_place(layout.get(name)) for name in meta["channels"]),
        num_subjects=len(subjects),
        subjects=subjects,
        symbols=symbols,
    )


def _place(place: Sequence[float] | None) -> tuple[float, float]:
    return NO_PLACE if place is None else (float(place[0]), float(place[1]))


def read_sentences(fold: Path, part: str, subjects: Sequence[str]) -> SentenceSet:
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
        When a file is missing, or items and samples do not match.
    """
    folder = fold / part
    index = {name: number for number, name in enumerate(subjects)}
    try:
        sfreq_hz = float(read_meta(fold)["sfreq_hz"])
        x_TC = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
        spans = tuple(_span(entry, index) for entry in read_json(folder / "items.json"))
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder}: cannot be read ({error!r}); prepare the data again"
        raise DataError(msg) from error
    for span in spans:
        if not 0 <= span.start < span.stop <= len(x_TC):
            msg = f"{folder}: item {span.item} names rows {span.start} to {span.stop} of"
            raise DataError(f"{msg} {len(x_TC)}; prepare the data again")
    if x_TC.nbytes <= _IN_MEMORY_BYTES:
        x_TC = np.array(x_TC)
    return SentenceSet(x_TC, spans, sfreq_hz)


def _span(entry: Mapping[str, Any], index: Mapping[str, int]) -> SentenceSpan:
    texts = {name: None if entry.get(name) is None else str(entry[name]) for name in _TEXTS}
    start, stop = int(entry["start"]), int(entry["stop"])
    return SentenceSpan(str(entry["item"]), start, stop, index[str(entry["subject"])], **texts)


_TEXTS = ("typed", "text")
