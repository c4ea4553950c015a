"""Stores of whole sentences: recordings preprocessed and cut one after the other.

Parts hold ``x.npy`` (T_total, C) float16, time first, sentences one after the other, and
``items.json`` with the rows of every sentence. The preprocessed recordings themselves are never
kept: the store is the cache. The sealed test lies in ``secret/<data_fp>/test``, beside links to
train and dev, which a confirmation trains on.

T samples, C channels.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neurodecode.checks import check_recording
from neurodecode.contracts import Recording, SentenceItem, Sentences
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.pipeline import Prepared, new_rate, preprocess
from neurodecode.sentence_summary import (
    PARTS,
    check_sentences,
    of_part,
    permute_texts,
    sentence_meta,
    summarise_sentences,
)
from neurodecode.store_writer import SECRET_FILE, make_private, staged
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, atomic_write_text, canonical_json
from neurosweep.core.layout import Home

_LARGEST = 60_000.0


def write_sentences(
    data_fp: str,
    data: tuple[Sequence[Recording], Sentences],
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
        Recordings as read, and their sentences.
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
    recordings, sentences = data
    for recording in recordings:
        check_recording(recording)
    check_sentences(sentences)
    sfreq_hz = _check_rates(recordings, preprocessing)
    sentences = permute_texts(sentences, seed)
    result = summarise_sentences(data_fp, recordings, sentences, seed)
    meta = sentence_meta(recordings, sentences, result) | {"sfreq_hz": sfreq_hz}
    with staged(home, data_fp) as (store, secret):
        folders = {part: store / part for part in ("train", "dev", "val")}
        folders["test"] = secret / "test" / "test"
        result["warnings"] += _write_parts(folders, recordings, sentences, preprocessing, sfreq_hz)
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


def _check_rates(recordings: Sequence[Recording], config: PreprocessingConfig) -> float:
    """Return the one sampling rate of the store."""
    if config.scale == "none":
        msg = "preprocessing.scale: is 'none'; samples of sentences are stored in half precision,"
        raise DataError(f"{msg} which cannot hold tesla: use 'robust'")
    rates = {recording.name: new_rate(recording, config) for recording in recordings}
    if len(set(rates.values())) > 1:
        listed = ", ".join(f"{name} {rate:g} Hz" for name, rate in list(rates.items())[:5])
        msg = f"recordings differ in sampling rate ({listed}); set preprocessing.resample_hz to a"
        raise DataError(f"{msg} rate that all can have")
    return next(iter(rates.values()))


def _rows(item: SentenceItem, sfreq_hz: float) -> tuple[int, int]:
    """Return the first row and the row after the last, from the start of the recording."""
    return round(item.start_s * sfreq_hz), round(item.stop_s * sfreq_hz)


def _write_parts(
    folders: Mapping[str, Path],
    recordings: Sequence[Recording],
    sentences: Sentences,
    config: PreprocessingConfig,
    sfreq_hz: float,
) -> list[str]:
    """Write ``x.npy`` of every part, recording by recording; return the warnings on the way."""
    warnings: list[str] = []
    own = {
        r.name: [i for i in sentences.items if i.item.startswith(f"{r.name}/")] for r in recordings
    }
    with ExitStack() as stack:
        files = {}
        for part, folder in folders.items():
            if items := of_part(sentences, part):
                total = sum(b - a for a, b in (_rows(item, sfreq_hz) for item in items))
                folder.mkdir(parents=True)
                files[part] = stack.enter_context((folder / "x.npy").open("wb"))
                _write_header(files[part], (total, len(recordings[0].channels)))
        for recording in recordings:
            prepared = preprocess(recording, config)
            warnings += prepared.warnings
            for item in own[recording.name]:
                x_TC = cut_sentence(prepared, item)
                files[item.part].write(x_TC.tobytes())
            del prepared
            gc.collect()
    return warnings


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16))}
    np.lib.format.write_array_header_1_0(file, {**header, "fortran_order": False, "shape": shape})


def cut_sentence(prepared: Prepared, item: SentenceItem) -> np.ndarray[Any, np.dtype[np.float16]]:
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
