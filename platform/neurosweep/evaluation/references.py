"""References: what was to be decoded. Only the driver reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import read_jsonl
from neurosweep.evaluation.classification import CLASS_ALPHABET

_MAX_PROBLEMS = 20


@dataclass(frozen=True)
class Reference:
    """Hold the truth of one item.

    Attributes
    ----------
    item
        ``<subject>/<recording>/<trial_id>``.
    subject
        Whose trial it is.
    text
        The sentence, symbol or class that hypotheses are compared with.
    typed
        What was really typed; the same as `text` where nobody knows.
    windows
        True class of every window, one character each; None where windows have no labels.
    """

    item: str
    subject: str
    text: str
    typed: str = ""
    windows: str | None = None


def read_references(path: Path) -> dict[str, Reference]:
    """Read a file of references, one JSON object a line.

    Raises
    ------
    DataError
        When the file is absent or damaged, holds no item, or an item is doubled, empty or
        incomplete; up to 20 problems are listed.
    """
    references: dict[str, Reference] = {}
    problems: list[str] = []
    for number, line in enumerate(read_jsonl(path), start=1):
        problem = _problem(line, references)
        if problem is None:
            references[line["item"]] = _reference(line)
        else:
            problems.append(f"entry {number}: {problem}")
    if not references and not problems:
        problems.append("holds no item")
    if problems:
        raise DataError(_message(path, problems))
    return references


def _reference(line: Mapping[str, Any]) -> Reference:
    text = line["reference"]
    typed = line.get("typed")
    return Reference(
        item=line["item"],
        subject=line["subject"],
        text=text,
        typed=text if typed is None else typed,
        windows=line.get("windows"),
    )


def _problem(line: Any, known: Mapping[str, Reference]) -> str | None:
    if not isinstance(line, dict):
        return f"is {type(line).__name__}, expected an object"
    for key in ("item", "subject", "reference"):
        if not isinstance(line.get(key), str):
            return f"'{key}' is missing or no text"
    if line["item"] in known:
        return f"item {line['item']!r} was given before"
    if not line["reference"]:
        return f"item {line['item']!r} has an empty reference"
    for key in ("typed", "windows"):
        if not isinstance(line.get(key), str | None):
            return f"item {line['item']!r}: '{key}' is no text"
    if not set(line.get("windows") or "") <= set(CLASS_ALPHABET):
        return f"item {line['item']!r}: 'windows' holds other characters than {CLASS_ALPHABET}"
    return None


def _message(path: Path, problems: Iterable[str]) -> str:
    listed = list(problems)
    shown = "\n  ".join(listed[:_MAX_PROBLEMS])
    more = f"\n  and {len(listed) - _MAX_PROBLEMS} more" if len(listed) > _MAX_PROBLEMS else ""
    return f"{path}: {len(listed)} problems; prepare the data again\n  {shown}{more}"
