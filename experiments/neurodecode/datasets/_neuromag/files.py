"""The files of a recording: whole, of the right kind, with all their continuations."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

from neurodecode.datasets._neuromag.tags import inspect_fif
from neurosweep.core.errors import DataError

MNE_ERRORS = (
    ValueError,
    RuntimeError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    MemoryError,
    NotImplementedError,
    struct.error,
)


def check_files(path: Path, allow_maxshield: bool) -> tuple[Path, ...]:
    """Return the parts of a recording, the first one first, after walking through each.

    Parameters
    ----------
    path
        First file of the recording.
    allow_maxshield
        Accept data taken with internal active shielding and not yet cleaned by SSS.

    Raises
    ------
    DataError
        When a part is absent, cut, no raw recording, or has data that is not accepted.
    """
    parts: list[Path] = []
    following: Path | None = path
    while following is not None:
        summary = inspect_fif(following)
        if not summary.raw or summary.num_buffers == 0:
            msg = f"{following}: is a FIF file without continuous data (a covariance, evoked or"
            raise DataError(f"{msg} epochs file?); give a raw recording")
        if not parts and summary.previous_file is not None:
            msg = f"{path}: continues '{summary.previous_file}', which reads it by itself"
            raise DataError(f"{msg}; name only the first file of a split recording")
        if summary.maxshield and not allow_maxshield:
            msg = f"{following}: was taken with MaxShield (internal active shielding) and not"
            msg += " cleaned; its compensation signals are in the data. Run SSS (MaxFilter, or"
            msg += " mne.preprocessing.maxwell_filter) on it, or accept it as it is with"
            raise DataError(f"{msg} allow_maxshield = true")
        parts.append(following)
        following = _next_part(following, summary.next_file, parts)
    return tuple(parts)


def _next_part(current: Path, name: str | None, parts: list[Path]) -> Path | None:
    if name is None:
        return None
    following = current.with_name(name)
    if following in parts:
        msg = f"{current}: names '{name}' as its continuation, which came before it;"
        raise DataError(f"{msg} save the recording again from its first file")
    if not following.exists():
        msg = f"{current}: is the start of a split recording and its continuation '{name}' is not"
        raise DataError(f"{msg} beside it; copy all files of the recording, without renaming them")
    return following


def open_raw(path: Path) -> Any:
    """Open a recording lazily with MNE, whose complaints become one error.

    Raises
    ------
    DataError
        When MNE cannot make sense of the file.
    """
    import mne

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.io.read_raw_fif(path, allow_maxshield="yes", verbose="ERROR")
    except MNE_ERRORS as error:
        msg = f"{path}: its content is damaged, MNE cannot read it ({error});"
        raise DataError(f"{msg} copy it again from its source") from error
