"""The last word of an attempt: ``status.json``, and the exit code that repeats it."""

from __future__ import annotations

import logging
import shutil
from typing import Any

from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import AttemptDir
from neurosweep.records.trial import Kind, Outcome

logger = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_CLAIMED = 3
EXIT_NO_STATUS = 4
EXIT_YIELDED = 5


def save_status(files: AttemptDir, status: dict[str, Any]) -> int:
    """Write ``status.json`` and return the exit code that says the same.

    Where the disk is full, what the attempt made is given up for a status that says so.

    Parameters
    ----------
    files
        The attempt.
    status
        The whole status, with ``outcome``.

    Returns
    -------
    int
        0 done, 1 failed, 4 when no status could be written.
    """
    try:
        atomic_write_json(files.status, status)
    except OSError:
        # Most likely a full disk: what a failed attempt made is worth less than its reason.
        try:
            files.predictions.unlink(missing_ok=True)
            for made in (files.ckpt, files.out):
                shutil.rmtree(made, ignore_errors=True)
            reason = "the disk is full; free space, then resume the study"
            error = {"type": "OSError", "text": reason, "traceback": ""}
            failed = {"outcome": "failed", "kind": Kind.NODE_FAILURE.value, "error": error}
            atomic_write_json(files.status, status | failed | {"files": {}})
        except OSError as error:
            logger.error("%s cannot be written: %s", files.status, error)
            return EXIT_NO_STATUS
        return EXIT_FAILED
    return EXIT_DONE if status["outcome"] == Outcome.DONE.value else EXIT_FAILED
