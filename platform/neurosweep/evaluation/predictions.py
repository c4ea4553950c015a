"""Reading what a job wrote, as data of a stranger: nothing in the file is believed.

The file is read once, without following links, up to a size; every line is judged before any is
used; a problem ends in one error that lists the reasons.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import sha256_bytes
from neurosweep.core.plugins import near_misses
from neurosweep.evaluation.classification import CLASS_ALPHABET

_KEYS = ("item", "hypothesis", "nbest", "logp", "windows", "v")
_CLASSES = frozenset(CLASS_ALPHABET)
_SHOWN = 60


@dataclass(frozen=True)
class Limits:
    """Bound what a file of predictions may hold.

    Attributes
    ----------
    max_bytes
        Size of the file.
    max_line_bytes
        Size of one line.
    max_hypothesis
        Characters of one hypothesis.
    max_nbest
        Hypotheses of one n-best list.
    max_windows
        Windows of one item.
    max_reasons
        Reasons listed before reading stops.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_line_bytes: int = 1024 * 1024
    max_hypothesis: int = 4096
    max_nbest: int = 1000
    max_windows: int = 500_000
    max_reasons: int = 20


@dataclass(frozen=True)
class Prediction:
    """Hold the answer of a job to one item.

    Attributes
    ----------
    item
        Name of the item.
    hypothesis
        Decoded text; empty when the job gave none.
    nbest
        Alternatives with their log probability.
    logp
        Log probability of the hypothesis.
    windows
        Predicted class of every window, one character each.
    missing
        Whether the job gave no line for the item.
    """

    item: str
    hypothesis: str = ""
    nbest: tuple[tuple[str, float], ...] = ()
    logp: float | None = None
    windows: str | None = None
    missing: bool = False


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
            prediction = _parse_line(line, limits)
            _refuse_item(prediction.item, known, given)
        except _RefusedLine as refusal:
            reasons.append(f"line {number}: {refusal}")
            if len(reasons) >= limits.max_reasons:
                reasons.append("reading stopped here")
                break
        else:
            given[prediction.item] = prediction
    if reasons:
        raise PredictionsError(f"{where}: cannot be scored\n  " + "\n  ".join(reasons))
    return given


class _RefusedLine(Exception):  # noqa: N818 - a reason, which never leaves this file
    """Carry the reason against one line."""


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


def _no_constant(name: str) -> NoReturn:
    raise _RefusedLine(f"the constant {name} is not JSON")


def _no_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise _RefusedLine("an object gives one key twice")
    return keys


def _parse_line(line: bytes, limits: Limits) -> Prediction:
    if len(line) > limits.max_line_bytes:
        raise _RefusedLine(f"is longer than {limits.max_line_bytes} bytes")
    try:
        value = json.loads(
            line.decode("utf-8"),
            parse_constant=_no_constant,
            object_pairs_hook=_no_double_keys,
        )
    except UnicodeDecodeError as error:
        raise _RefusedLine("is not UTF-8 text") from error
    except ValueError as error:
        raise _RefusedLine(f"is not JSON ({_short(str(error))})") from error
    except RecursionError as error:
        raise _RefusedLine("is nested too deeply") from error
    if not isinstance(value, dict):
        raise _RefusedLine(f"is {type(value).__name__}, expected an object")
    return _prediction(value, limits)


def _prediction(value: dict[str, Any], limits: Limits) -> Prediction:
    for key in value:
        if key not in _KEYS:
            hint = near_misses(key[:_SHOWN], _KEYS) or f"; known are {', '.join(_KEYS)}"
            raise _RefusedLine(f"unknown key {_short(key)}{hint}")
    if value.get("v", 1) != 1:
        raise _RefusedLine(f"is of version {_short(value['v'])}, expected 1")
    for key in ("item", "hypothesis"):
        if key not in value:
            raise _RefusedLine(f"'{key}' is missing")
    logp = value.get("logp")
    return Prediction(
        item=_text("item", value["item"], 1024),
        hypothesis=_text("hypothesis", value["hypothesis"], limits.max_hypothesis),
        nbest=_nbest(value.get("nbest"), limits),
        logp=None if logp is None else _number("logp", logp),
        windows=_windows(value.get("windows"), limits),
    )


def _refuse_item(item: str, known: Collection[str], given: Collection[str]) -> None:
    if item not in known:
        raise _RefusedLine(f"unknown item {_short(item)}")
    if item in given:
        raise _RefusedLine(f"item {_short(item)} was given before")


def _text(key: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise _RefusedLine(f"'{key}' is {type(value).__name__}, expected text")
    if len(value) > limit:
        raise _RefusedLine(f"'{key}' has {len(value)} characters, at most {limit} are allowed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _RefusedLine(f"'{key}' holds half a character (a lone surrogate)") from error
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RefusedLine(f"'{key}' is {type(value).__name__}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _RefusedLine(f"'{key}' is not a finite number")
    return number


def _nbest(value: object, limits: Limits) -> tuple[tuple[str, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > limits.max_nbest:
        raise _RefusedLine(f"'nbest' is not a list of at most {limits.max_nbest} pairs")
    pairs: list[tuple[str, float]] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _RefusedLine("'nbest' holds something else than pairs [text, logp]")
        text = _text("nbest text", pair[0], limits.max_hypothesis)
        pairs.append((text, _number("nbest logp", pair[1])))
    return tuple(pairs)


def _windows(value: object, limits: Limits) -> str | None:
    if value is None:
        return None
    text = _text("windows", value, limits.max_windows)
    if not _CLASSES.issuperset(text):
        raise _RefusedLine("'windows' holds other characters than 0-9, a-z, A-Z")
    return text


def _short(value: object) -> str:
    # Showing a deeply nested list would recurse as deep as parsing it did.
    text = ascii(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
