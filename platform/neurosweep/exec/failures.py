"""From an exception to the kind of a failure and a text that says what to do."""

from __future__ import annotations

import errno

from neurosweep.core.errors import ErrorRecord, PredictionsError, WrongCodeError
from neurosweep.exec.job_api import Diverged
from neurosweep.records.trial import Kind

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_GPU_MEMORY = ("cuda out of memory", "hip out of memory", "cuda error: out of memory")
_HOST_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "unable to allocate",
    "std::bad_alloc",
)


class Stopped(Exception):  # noqa: N818 - an outcome of a request, not a mistake in code
    """Report that an attempt ended because it was asked to."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def classify(error: BaseException) -> Kind:
    """Return the kind of failure that an exception of a job means."""
    kind = _by_class(error)
    if kind is not None:
        return kind
    text = str(error).lower()
    if type(error).__name__ == "OutOfMemoryError" or any(part in text for part in _GPU_MEMORY):
        return Kind.OOM_GPU
    if isinstance(error, RuntimeError | OSError) and any(part in text for part in _HOST_MEMORY):
        return Kind.OOM_HOST
    return Kind.USER_ERROR


def _by_class(error: BaseException) -> Kind | None:
    if isinstance(error, Stopped):
        return error.kind
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return Kind.NODE_FAILURE
    table: tuple[tuple[type[BaseException], Kind], ...] = (
        (Diverged, Kind.DIVERGED),
        (MemoryError, Kind.OOM_HOST),
        (WrongCodeError, Kind.WRONG_CODE),
        (PredictionsError, Kind.BROKEN_PREDICTIONS),
        (KeyboardInterrupt, Kind.CANCELLED_USER),
    )
    return next((kind for cls, kind in table if isinstance(error, cls)), None)


def record_of(error: BaseException) -> ErrorRecord:
    """Return an exception as data, with advice where it has a cause outside the code."""
    record = ErrorRecord.of(error)
    text = record.text
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        where = f" ({error.filename})" if error.filename else ""
        text = f"the disk is full{where}; free space, then resume the study"
    elif isinstance(error, OSError) and error.errno == errno.EFBIG:
        text = f"a file grew past the limit of one attempt ({error.filename}): {error}"
    elif isinstance(error, MemoryError) and not text:
        text = "the job needed more memory than it was given; raise the limit or shrink the model"
    elif isinstance(error, SystemExit):
        text = f"the job called sys.exit({error.code!r}); a job ends by returning its predictions"
    return ErrorRecord(record.type, text[:20_000], record.traceback[-40_000:])
