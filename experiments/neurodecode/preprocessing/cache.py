"""Preprocessed recordings on disk, under the fingerprint of everything that made them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from neurodecode.contracts import Recording
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.pipeline import Prepared, preprocess
from neurosweep.core.files import atomic_write_json, read_json


def prepare_recordings(
    recordings: Sequence[Recording], config: PreprocessingConfig, folder: Path
) -> dict[str, Prepared]:
    """Return preprocessed recordings, memory-mapped from a folder that is made once.

    Parameters
    ----------
    recordings
        Recordings as read.
    config
        Options of preprocessing.
    folder
        Where they lie; its name must tell everything that the content depends on. Holds no
        events and no labels.

    Returns
    -------
    dict
        ``<subject>/<recording>`` to its samples.
    """
    if not folder.is_dir():
        _write(recordings, config, folder)
    prepared = {}
    for number, recording in enumerate(recordings):
        entry = read_json(folder / f"{number:03d}.json")
        prepared[recording.name] = Prepared(
            data_CT=np.load(folder / f"{number:03d}.npy", mmap_mode="r", allow_pickle=False),
            sfreq_hz=float(entry["sfreq_hz"]),
            segments=tuple((int(a), int(b)) for a, b in entry["segments"]),
            segment_onsets_s=tuple(float(t) for t in entry["segment_onsets_s"]),
            warnings=tuple(entry["warnings"]),
        )
    return prepared


def _write(recordings: Sequence[Recording], config: PreprocessingConfig, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        for number, recording in enumerate(recordings):
            done = preprocess(recording, config)
            np.save(temporary / f"{number:03d}.npy", done.data_CT, allow_pickle=False)
            entry = {k: v for k, v in asdict(done).items() if k != "data_CT"}
            atomic_write_json(temporary / f"{number:03d}.json", entry)
        move_into_place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def move_into_place(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name; when another process was first, keep theirs."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(temporary)
