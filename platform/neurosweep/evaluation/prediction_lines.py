"""One line of predictions, as data of a stranger: it is strict, or it is refused with a reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from neurosweep.core.plugins import near_misses
from neurosweep.evaluation.classification import CLASS_ALPHABET

_KEYS = ("item", "hypothesis", "nbest", "logp", "windows", "variants", "v")
_CLASSES = frozenset(CLASS_ALPHABET)
_VARIANT_NAME = re.compile(r"[a-z_]{1,24}")
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
    max_variants
        Variants of one item.
    max_reasons
        Reasons listed before reading stops.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_line_bytes: int = 1024 * 1024
    max_hypothesis: int = 4096
    max_nbest: int = 1000
    max_windows: int = 500_000
    max_variants: int = 8
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
    variants
        Name to another output for the same item, scored beside the hypothesis: for example what
        an earlier stage of the decoder says.
    """

    item: str
    hypothesis: str = ""
    nbest: tuple[tuple[str, float], ...] = ()
    logp: float | None = None
    windows: str | None = None
    missing: bool = False
    variants: Mapping[str, str] = field(default_factory=dict)


class RefusedLine(Exception):  # noqa: N818 - a reason, which the reader of the file collects
    """Carry the reason against one line."""


def _no_constant(name: str) -> NoReturn:
    raise RefusedLine(f"the constant {name} is not JSON")


def _no_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise RefusedLine("an object gives one key twice")
    return keys


def parse_line(line: bytes, limits: Limits) -> Prediction:
    """Return the prediction that a line holds.

    Raises
    ------
    RefusedLine
        With the reason, when the line is anything but one.
    """
    if len(line) > limits.max_line_bytes:
        raise RefusedLine(f"is longer than {limits.max_line_bytes} bytes")
    try:
        value = json.loads(
            line.decode("utf-8"),
            parse_constant=_no_constant,
            object_pairs_hook=_no_double_keys,
        )
    except UnicodeDecodeError as error:
        raise RefusedLine("is not UTF-8 text") from error
    except ValueError as error:
        raise RefusedLine(f"is not JSON ({short_text(str(error))})") from error
    except RecursionError as error:
        raise RefusedLine("is nested too deeply") from error
    if not isinstance(value, dict):
        raise RefusedLine(f"is {type(value).__name__}, expected an object")
    return _prediction(value, limits)


def _prediction(value: dict[str, Any], limits: Limits) -> Prediction:
    for key in value:
        if key not in _KEYS:
            hint = near_misses(key[:_SHOWN], _KEYS) or f"; known are {', '.join(_KEYS)}"
            raise RefusedLine(f"unknown key {short_text(key)}{hint}")
    if value.get("v", 1) != 1:
        raise RefusedLine(f"is of version {short_text(value['v'])}, expected 1")
    for key in ("item", "hypothesis"):
        if key not in value:
            raise RefusedLine(f"'{key}' is missing")
    logp = value.get("logp")
    return Prediction(
        item=_text("item", value["item"], 1024),
        hypothesis=_text("hypothesis", value["hypothesis"], limits.max_hypothesis),
        nbest=_nbest(value.get("nbest"), limits),
        logp=None if logp is None else _number("logp", logp),
        windows=_windows(value.get("windows"), limits),
        variants=_variants(value.get("variants"), limits),
    )


def _text(key: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise RefusedLine(f"'{key}' is {type(value).__name__}, expected text")
    if len(value) > limit:
        raise RefusedLine(f"'{key}' has {len(value)} characters, at most {limit} are allowed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RefusedLine(f"'{key}' holds half a character (a lone surrogate)") from error
    return value


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedLine(f"'{key}' is {type(value).__name__}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RefusedLine(f"'{key}' is not a finite number")
    return number


def _nbest(value: object, limits: Limits) -> tuple[tuple[str, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > limits.max_nbest:
        raise RefusedLine(f"'nbest' is not a list of at most {limits.max_nbest} pairs")
    pairs: list[tuple[str, float]] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RefusedLine("'nbest' holds something else than pairs [text, logp]")
        text = _text("nbest text", pair[0], limits.max_hypothesis)
        pairs.append((text, _number("nbest logp", pair[1])))
    return tuple(pairs)


def _windows(value: object, limits: Limits) -> str | None:
    if value is None:
        return None
    text = _text("windows", value, limits.max_windows)
    if not _CLASSES.issuperset(text):
        raise RefusedLine("'windows' holds other characters than 0-9, a-z, A-Z")
    return text


def _variants(value: object, limits: Limits) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > limits.max_variants:
        raise RefusedLine(f"'variants' is not an object of at most {limits.max_variants} texts")
    for name in value:
        if not _VARIANT_NAME.fullmatch(name):
            msg = f"variant {short_text(name)}: a name has 1 to 24 of the characters a-z and _"
            raise RefusedLine(msg)
    return {
        name: _text(f"variant {name}", text, limits.max_hypothesis) for name, text in value.items()
    }


def short_text(value: object) -> str:
    """Return a value of a stranger as a few characters of ASCII."""
    # Showing a deeply nested list would recurse as deep as parsing it did.
    text = ascii(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
