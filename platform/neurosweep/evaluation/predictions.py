"""Reading what a job wrote, as data of a stranger: nothing in the file is believed.

The file is read once, without following links, up to a size; every line is judged before any is
used; a problem ends in one error that lists the reasons.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import sha256_bytes
from neurosweep.evaluation.prediction_lines import (
    Limits,
    Prediction,
    RefusedLine,
    parse_line,
    short_text,
)


@dataclass(frozen=True)
class LoadedPredictions:
    """Hold predictions with the hash of the bytes they were read from.

    Attributes
    ----------
    predictions
        Item to prediction; every expected item is there.
    sha256
        Of the bytes that were parsed.
    num_missing
        Items for which the job gave nothing.
    """

    predictions: dict[str, Prediction]
    sha256: str
    num_missing: int


def read_predictions(
    path: Path, items: Collection[str], limits: Limits | None = None
) -> dict[str, Prediction]:
    """Return a prediction for every expected item.

    Parameters
    ----------
    path
        File that a job wrote: one JSON object a line.
    items
        The expected items. One without a line gets an empty prediction.
    limits
        Bounds of the file.

    Raises
    ------
    PredictionsError
        When the file is absent, no regular file, too large, not strict UTF-8 JSON, or a line is
        unknown, doubled or malformed; the reasons are listed.
    """
    return load_predictions(path, items, limits).predictions


def load_predictions(
    path: Path, items: Collection[str], limits: Limits | None = None
) -> LoadedPredictions:
    """Return predictions as `read_predictions` does, with the hash of the file.

    Raises
    ------
    PredictionsError
        As `read_predictions`.
    """
    limits = limits or Limits()
    data = _read(path, limits.max_bytes)
    given = parse_predictions(data, items, limits, str(path))
    every = {item: given.get(item) or Prediction(item, missing=True) for item in sorted(items)}
    return LoadedPredictions(every, sha256_bytes(data), len(every) - len(given))


def parse_predictions(
    data: bytes, items: Collection[str], limits: Limits, where: str
) -> dict[str, Prediction]:
    """Return the predictions that bytes hold, without those of missing items.

    Raises
    ------
    PredictionsError
        Listing the reasons, `limits.max_reasons` at most.
    """
    known = frozenset(items)
    given: dict[str, Prediction] = {}
    reasons: list[str] = []
    for number, line in enumerate(_lines(data), start=1):
        try:
            prediction = parse_line(line, limits)
            _refuse_item(prediction.item, known, given)
        except RefusedLine as refusal:
            reasons.append(f"line {number}: {refusal}")
            if len(reasons) >= limits.max_reasons:
                reasons.append("reading stopped here")
                break
        else:
            given[prediction.item] = prediction
    if reasons:
        raise PredictionsError(f"{where}: cannot be scored\n  " + "\n  ".join(reasons))
    return given


def _refuse_item(item: str, known: Collection[str], given: Collection[str]) -> None:
    if item not in known:
        raise RefusedLine(f"unknown item {short_text(item)}")
    if item in given:
        raise RefusedLine(f"item {short_text(item)} was given before")


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of a folder that is itself no link."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise PredictionsError(f"{path.parent}: cannot be opened ({_reason(error)})") from error
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path.name, flags, dir_fd=folder)
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({_reason(error)}); the job must leave a regular file here"
        raise PredictionsError(msg) from error
    finally:
        os.close(folder)
    try:
        return _read_descriptor(descriptor, path, max_bytes)
    except OSError as error:
        raise PredictionsError(f"{path}: cannot be read ({_reason(error)})") from error
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_descriptor(descriptor: int, path: Path, max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise PredictionsError(f"{path}: is not a regular file")
    too_large = f"{path}: is larger than the {max_bytes} bytes that predictions may have"
    if status.st_size > max_bytes:
        raise PredictionsError(too_large)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise PredictionsError(too_large)
    return data


def _lines(data: bytes) -> Iterator[bytes]:
    """Yield lines one by one: a file of line ends must not become a list of millions."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        yield data[start:end]
        start = end + 1
