"""Stores of what a frozen encoder reads: text and word vectors, computed once for all trials.

``meta.json`` (kind ``features``), ``confusions.json``, ``residuals.npy`` (R, H) and
``residuals.json`` tell of the encoder's errors on dev. Parts hold ``words.npy`` (W_total, H)
float16, sentences one after the other, and ``items.json`` with the rows of every sentence, its
greedy text, and, in train and dev only, what was typed and what should have been.

Array names carry their axes: H hidden, R residual, W word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.contracts import FloatArray
from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.residuals import Residuals
from neurodecode.training.windows import read_meta
from neurosweep.core.errors import DataError
from neurosweep.core.files import atomic_write_json, read_json

KIND = "features"
FORMAT = 1
LABELLED = ("train", "dev")

_PUBLIC = {"item": str, "subject": str, "recording": str, "start": int, "stop": int, "greedy": str}
_TEXTS = {"typed": str, "text": str}
_META = {
    "v": int,
    "data_fp": str,
    "kind": str,
    "backend": str,
    "hidden": int,
    "scale": float,
    "encoder_sha": str,
    "cross_fit": int,
    "residual_scale": float,
}
_AGAIN = "prepare the features again"


@dataclass(frozen=True)
class FeatureItem:
    """Hold what is known of one sentence.

    Attributes
    ----------
    item, subject, recording
        Which sentence, of whom.
    greedy
        Text of the encoder's likeliest path.
    words_WH
        Vector of every word of it; one vector when it has no word.
    typed, text
        What was typed, and what should have been; None where nobody may know.
    """

    item: str
    subject: str
    recording: str
    greedy: str
    words_WH: FloatArray
    typed: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class FeatureStore:
    """Hold a store of features.

    Attributes
    ----------
    meta
        Its description.
    confusions, residuals
        Errors of text and vectors on dev.
    parts
        Items of every part that was asked for.
    """

    meta: Mapping[str, Any]
    confusions: Confusions
    residuals: Residuals
    parts: Mapping[str, tuple[FeatureItem, ...]]


def write_errors(folder: Path, confusions: Confusions, residuals: Residuals) -> None:
    """Write what is known of an encoder's errors."""
    atomic_write_json(folder / "confusions.json", confusions.to_json())
    np.save(folder / "residuals.npy", residuals.noise_RH.astype(np.float16), allow_pickle=False)
    rows = {
        "cosine": [round(float(value), 6) for value in residuals.cosine_R],
        "toward": [round(float(value), 6) for value in residuals.toward_R],
        "length": list(residuals.length_R),
        "errors": list(residuals.errors_R),
    }
    atomic_write_json(folder / "residuals.json", rows)


def write_part(folder: Path, items: Sequence[FeatureItem], *, labelled: bool) -> None:
    """Write the items of a part; without labels nothing tells what was typed."""
    folder.mkdir(parents=True)
    words_WH = np.concatenate([item.words_WH for item in items]).astype(np.float16)
    np.save(folder / "words.npy", words_WH, allow_pickle=False)
    entries: list[dict[str, Any]] = []
    start = 0
    for item in items:
        entry: dict[str, Any] = {
            "item": item.item,
            "subject": item.subject,
            "recording": item.recording,
            "start": start,
            "stop": start + len(item.words_WH),
            "greedy": item.greedy,
        }
        start = entry["stop"]
        entries.append(entry | ({"typed": item.typed, "text": item.text} if labelled else {}))
    atomic_write_json(folder / "items.json", entries)


def read_feature_store(fold: Path, parts: Sequence[str]) -> FeatureStore:
    """Read a store.

    Parameters
    ----------
    fold
        Folder that holds the parts.
    parts
        Which of them.

    Raises
    ------
    DataError
        When it holds no features, or a file is missing or damaged.
    """
    meta = read_meta(fold)
    if meta.get("kind") != KIND:
        msg = f"{fold}: holds {meta.get('kind', 'windows')}, a language model needs {KIND};"
        raise DataError(f"{msg} prepare the data of a recipe of stage 'llm'")
    wrong = [name for name, kind in _META.items() if not _is_of(meta.get(name), kind)]
    if wrong or meta["v"] != FORMAT:
        raise DataError(f"{fold}: meta.json lacks {', '.join(wrong) or 'format 1'}; {_AGAIN}")
    confusions = Confusions.from_json(read_json(fold / "confusions.json"))
    hidden = int(meta["hidden"])
    residuals = _read_residuals(fold, hidden)
    return FeatureStore(
        meta, confusions, residuals, {part: read_part(fold / part, hidden) for part in parts}
    )


def read_part(folder: Path, hidden: int) -> tuple[FeatureItem, ...]:
    """Read the items of a part.

    Parameters
    ----------
    folder
        Of the part, whose name says whether it has labels.
    hidden
        Size of the vectors.

    Raises
    ------
    DataError
        When a file is missing, or items and vectors do not match.
    """
    words_WH = _read_array(folder / "words.npy", hidden)
    entries = read_json(folder / "items.json")
    expected = _PUBLIC | (_TEXTS if folder.name in LABELLED else {})
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{folder}: items.json must be a list of items; {_AGAIN}")
    items, start = [], 0
    for number, entry in enumerate(entries):
        problem = _problem(entry, expected, start, len(words_WH))
        if problem:
            raise DataError(f"{folder}: item {number} {problem}; {_AGAIN}")
        items.append(_item(entry, words_WH))
        start = entry["stop"]
    if start != len(words_WH):
        raise DataError(f"{folder}: {len(words_WH)} vectors, but items of {start}; {_AGAIN}")
    if len({item.item for item in items}) != len(items):
        raise DataError(f"{folder}: two items have one name; {_AGAIN}")
    return tuple(items)


def _item(entry: Mapping[str, Any], words_WH: FloatArray) -> FeatureItem:
    return FeatureItem(
        entry["item"],
        entry["subject"],
        entry["recording"],
        entry["greedy"],
        words_WH[entry["start"] : entry["stop"]],
        entry.get("typed"),
        entry.get("text"),
    )


def _problem(entry: Any, expected: Mapping[str, type], start: int, num_words: int) -> str:
    if not isinstance(entry, dict) or set(entry) != set(expected):
        return f"must have exactly {', '.join(expected)}"
    wrong = [name for name, kind in expected.items() if not _is_of(entry[name], kind)]
    if wrong:
        return f"has a wrong type in {', '.join(wrong)}"
    texts = [entry[name] for name in ("greedy", *_TEXTS) if name in entry]
    if not set("".join(texts)) <= set(SYMBOLS):
        return "has a text with characters other than a-z and space"
    stop = start + max(1, len(entry["greedy"].split()))
    if (entry["start"], entry["stop"]) != (start, stop) or stop > num_words:
        rows = f"{entry['start']} to {entry['stop']}"
        return f"names rows {rows} of {num_words}, expected {start} to {stop}"
    return ""


def _is_of(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not isinstance(value, bool)


def _read_array(path: Path, hidden: int) -> FloatArray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_AGAIN}") from error
    if array.ndim != 2 or array.shape[1] != hidden or array.dtype != np.float16:
        msg = f"{path}: is {array.dtype} of shape {array.shape}, expected float16 (words, {hidden})"
        raise DataError(f"{msg}; {_AGAIN}")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: holds values that are not finite; {_AGAIN}")
    return np.asarray(array, dtype=np.float32)


def _read_residuals(fold: Path, hidden: int) -> Residuals:
    noise_RH = _read_array(fold / "residuals.npy", hidden)
    rows = read_json(fold / "residuals.json")
    try:
        if set(rows) != {"cosine", "toward", "length", "errors"}:
            raise ValueError("residuals.json must hold cosine, toward, length and errors")
        return Residuals(
            noise_RH,
            np.array([float(value) for value in rows["cosine"]], dtype=np.float32),
            np.array([float(value) for value in rows["toward"]], dtype=np.float32),
            tuple(int(value) for value in rows["length"]),
            tuple(int(value) for value in rows["errors"]),
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"{fold}: residuals are damaged ({error}); {_AGAIN}") from error
