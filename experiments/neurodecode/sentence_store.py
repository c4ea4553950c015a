"""Stores of whole sentences: recordings read, preprocessed and cut one after the other.

Parts hold ``x.npy`` (T_total, C) float16, time first, sentences one after the other, and
``items.json`` with the rows of every sentence. The preprocessed recordings themselves are never
kept: the store is the cache. The sealed test lies in ``secret/<data_fp>/test``, beside links to
train and dev, which a confirmation trains on.

T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from neurodecode.checks import check_recording
from neurodecode.contracts import Recording, SentenceItem, Sentences
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.pipeline import Prepared, preprocess
from neurodecode.sentence_summary import (
    PARTS,
    Told,
    check_items,
    check_parts,
    of_part,
    permute_texts,
    sentence_meta,
    summarise_sentences,
    without_samples,
)
from neurodecode.store_writer import SECRET_FILE, make_private, staged
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, atomic_write_text, canonical_json
from neurosweep.core.layout import Home

_LARGEST = 60_000.0

SentencesOf = Callable[[tuple[Recording, ...]], Sentences]
Half = npt.NDArray[np.float16]


def write_sentences(
    data_fp: str,
    data: tuple[Iterable[Recording], SentencesOf],
    preprocessing: PreprocessingConfig,
    seed: int,
    home: Home,
) -> dict[str, Any]:
    """Check, preprocess, cut and write sentences, and say what was written.

    Parameters
    ----------
    data_fp
        Fingerprint of the store.
    data
        Recordings, each of which is let go before the next is asked for; and what finds the
        sentences of recordings.
    preprocessing
        Options of preprocessing.
    seed
        Seed of a permutation of training texts; 0 for the true ones.
    home
        Where stores and references lie.

    Returns
    -------
    dict
        As `neurodecode.stores.prepare_store`.

    Raises
    ------
    DataError
        When a recording or a sentence cannot be used; nothing is left behind.
    OSError
        When the disk is full or the home cannot be written; nothing is left behind.
    """
    if preprocessing.scale == "none":
        msg = "preprocessing.scale: is 'none'; samples of sentences are stored in half precision,"
        raise DataError(f"{msg} which cannot hold tesla: use 'robust'")
    with staged(home, data_fp) as (store, secret):
        folders = {part: store / part for part in ("train", "dev", "val")}
        folders["test"] = secret / "test" / "test"
        told, sentences, sfreq_hz = _write_samples(folders, data, preprocessing)
        check_parts(sentences)
        sentences = permute_texts(sentences, seed)
        result = summarise_sentences(data_fp, told, sentences, seed)
        meta = sentence_meta(told, sentences, result) | {"sfreq_hz": sfreq_hz}
        for part in PARTS:
            _write_items(folders[part], of_part(sentences, part), part, sfreq_hz)
        atomic_write_json(store / "meta.json", meta)
        atomic_write_json(store / "prepared.json", result)
        write_texts(secret / "val_refs.jsonl", of_part(sentences, "val"))
        if result["final"]:
            write_texts(secret / "test_refs.jsonl", of_part(sentences, "test"))
            atomic_write_json(secret / "test" / "meta.json", meta)
            for part in ("train", "dev"):
                (secret / "test" / part).symlink_to(f"../../../store/{data_fp}/{part}")
        make_private(secret)
    return result


@dataclass
class _SampleFiles:
    """``x.npy`` of every part, which grow sentence by sentence.

    numpy leaves room in the header for a first axis of any length.
    """

    folders: Mapping[str, Path]
    stack: ExitStack
    files: dict[str, BinaryIO] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def append(self, part: str, x_TC: Half) -> None:
        """Write the samples of a sentence."""
        if part not in self.files:
            self.folders[part].mkdir(parents=True)
            path = self.folders[part] / "x.npy"
            self.files[part] = self.stack.enter_context(path.open("wb"))
            self.shapes[part] = (0, x_TC.shape[1])
            self._write_header(part)
        self.files[part].write(x_TC.tobytes())
        self.shapes[part] = (self.shapes[part][0] + len(x_TC), x_TC.shape[1])

    def finish(self) -> None:
        """Write the final lengths into the headers."""
        for part, file in self.files.items():
            file.seek(0)
            self._write_header(part)

    def _write_header(self, part: str) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": self.shapes[part]}
        np.lib.format.write_array_header_1_0(self.files[part], header)


def _write_samples(
    folders: Mapping[str, Path],
    data: tuple[Iterable[Recording], SentencesOf],
    config: PreprocessingConfig,
) -> tuple[list[Told], Sentences, float]:
    """Write the samples of all parts; return what is told of recordings, sentences, rate."""
    recordings, sentences_of = data
    told: list[Told] = []
    found: list[Sentences] = []
    with ExitStack() as stack:
        files = _SampleFiles(folders, stack)
        for recording in recordings:
            check_recording(recording)
            sentences = sentences_of((recording,))
            check_items(sentences)
            prepared = preprocess(recording, config)
            told.append(without_samples(recording, prepared))
            _check_rate(told)
            del recording
            for item in sentences.items:
                files.append(item.part, cut_sentence(prepared, item))
            found.append(sentences)
            del prepared
        files.finish()
    items = tuple(item for sentences in found for item in sentences.items)
    if not items:
        raise DataError("the dataset has no sentence; check its options and its events")
    return told, replace(found[0], items=items), told[0].sfreq_hz


def _check_rate(told: Sequence[Told]) -> None:
    first, last = told[0], told[-1]
    if first.sfreq_hz != last.sfreq_hz:
        msg = f"recordings differ in sampling rate ({first.recording.name} {first.sfreq_hz:g} Hz,"
        msg += f" {last.recording.name} {last.sfreq_hz:g} Hz); set preprocessing.resample_hz to a"
        raise DataError(f"{msg} rate that all can have")


def _rows(item: SentenceItem, sfreq_hz: float) -> tuple[int, int]:
    """Return the first row and the row after the last, from the start of the recording."""
    return round(item.start_s * sfreq_hz), round(item.stop_s * sfreq_hz)


def cut_sentence(prepared: Prepared, item: SentenceItem) -> Half:
    """Return the samples of a sentence.

    Returns
    -------
    numpy.ndarray
        (T, C) float16.

    Raises
    ------
    DataError
        When the window reaches beyond the recording or over a gap of it.
    """
    first, stop = _rows(item, prepared.sfreq_hz)
    starts = [round(onset * prepared.sfreq_hz) for onset in prepared.segment_onsets_s]
    for (a, b), start in zip(prepared.segments, starts, strict=True):
        offset = a - start
        if a <= first + offset and stop + offset <= b + 1:
            x_CT = prepared.data_CT[:, first + offset : min(stop + offset, b)]
            x_TC = np.clip(x_CT.T, -_LARGEST, _LARGEST).astype(np.float16)
            short = stop - first - len(x_TC)
            return np.pad(x_TC, ((0, short), (0, 0)), mode="edge") if short else x_TC
    msg = f"{item.item}: the window from {item.start_s:g} to {item.stop_s:g} s reaches beyond the"
    raise DataError(f"{msg} recording or over a gap; shorten the window or drop the sentence")


def _write_items(folder: Path, items: Sequence[SentenceItem], part: str, sfreq_hz: float) -> None:
    """Write ``items.json``; only what a model may learn from tells texts and key presses."""
    if not items:
        return
    entries: list[dict[str, Any]] = []
    position = 0
    for item in items:
        first, stop = _rows(item, sfreq_hz)
        entry: dict[str, Any] = {
            "item": item.item,
            "subject": item.subject,
            "recording": item.recording,
            "start": position,
            "stop": position + stop - first,
        }
        position = entry["stop"]
        if part in ("train", "dev"):
            onsets = [round(onset - first / sfreq_hz, 4) for onset in item.onsets_s]
            entry |= {"onsets_s": onsets, "text": item.reference, "typed": item.typed}
        entries.append(entry)
    atomic_write_json(folder / "items.json", entries)


def write_texts(path: Path, items: Sequence[SentenceItem]) -> None:
    """Write references, readable by their owner alone."""
    lines = [
        canonical_json(
            {
                "item": item.item,
                "subject": item.subject,
                "reference": item.reference,
                "typed": item.typed,
            }
        )
        for item in items
    ]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines), mode=SECRET_FILE)
