"""Reading what the driver scored, as the ledger says it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import loads_strict, read_bytes_capped, sha256_bytes

_MAX_BYTES = 32 * 1024 * 1024


def scores_content(path: Path, sha: str) -> bytes:
    """Return the bytes of a trial's scores.json.

    Parameters
    ----------
    path
        The file.
    sha
        SHA-256 that the ledger has of it; empty when the ledger has none.

    Raises
    ------
    DataError
        When the file is absent, too large, or another than the ledger says.
    """
    content = read_bytes_capped(path, _MAX_BYTES)
    if sha and sha256_bytes(content) != sha:
        msg = f"{path}: was changed after it had been scored; the ledger has another hash of it"
        raise DataError(msg)
    return content


def read_scores(path: Path, sha: str) -> dict[str, Any]:
    """Return a trial's scores.json as data.

    Raises
    ------
    DataError
        As `scores_content`, and when it is no JSON object.
    """
    try:
        scores = loads_strict(scores_content(path, sha))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        msg = f"{path}: is not valid JSON ({error})"
        raise DataError(msg) from error
    if not isinstance(scores, dict):
        msg = f"{path}: is {type(scores).__name__}, expected an object"
        raise DataError(msg)
    return scores
