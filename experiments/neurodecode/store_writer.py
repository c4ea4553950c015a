"""Write stores: what jobs may read, and the references that only the driver reads.

``x.npy`` (W, C, T) float32, ``y.npy`` (W,) int16, ``items.json``, ``codes/<item>.npy`` (W, S).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode.contracts import FloatArray, Item
from neurodecode.splits import Fold
from neurosweep.core.files import atomic_write_json, atomic_write_text, canonical_json
from neurosweep.evaluation.classification import CLASS_ALPHABET

SECRET_FOLDER = 0o700
SECRET_FILE = 0o600

Cut = Callable[[Sequence[Item]], FloatArray]


def write_fold(folder: Path, fold: Fold, cut: Cut) -> None:
    """Write train and dev with labels, and val without."""
    write_part(folder / "train", fold.train, cut, labelled=True)
    write_part(folder / "dev", fold.dev, cut, labelled=True)
    if fold.val:
        write_part(folder / "val", fold.val, cut, labelled=False)


def write_part(folder: Path, items: Sequence[Item], cut: Cut, *, labelled: bool) -> None:
    """Write the windows of a part; without labels nothing tells what an item's text is."""
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", cut(items), allow_pickle=False)
    entries: list[dict[str, Any]] = []
    start = 0
    for item in items:
        entries.append(_entry(item, start, labelled=labelled))
        start += len(item.labels)
        if item.codes_WS is not None:
            path = folder / "codes" / f"{item.item}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, item.codes_WS.astype(np.uint8), allow_pickle=False)
    if labelled:
        labels = np.array([label for item in items for label in item.labels], dtype=np.int16)
        np.save(folder / "y.npy", labels, allow_pickle=False)
    atomic_write_json(folder / "items.json", entries)


def _entry(item: Item, start: int, *, labelled: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "item": item.item,
        "subject": item.subject,
        "recording": item.recording,
        "start": start,
        "stop": start + len(item.labels),
    }
    if item.codes_WS is not None:
        entry |= {"onsets_s": list(item.onsets_s), "symbols": list(item.symbols)}
    if labelled:
        entry["text"] = item.reference
    return entry


def write_references(path: Path, items: Sequence[Item]) -> None:
    """Write references, readable by their owner alone."""
    lines = [canonical_json(_reference(item)) for item in items]
    atomic_write_text(path, "".join(f"{line}\n" for line in lines), mode=SECRET_FILE)


def _reference(item: Item) -> Mapping[str, str]:
    return {
        "item": item.item,
        "subject": item.subject,
        "reference": item.reference,
        "typed": item.typed,
        "windows": "".join(CLASS_ALPHABET[label] for label in item.labels),
    }


def make_private(folder: Path) -> None:
    """Take everybody else's rights on a folder and all that is in it."""
    for path in sorted(folder.rglob("*")):
        path.chmod(SECRET_FOLDER if path.is_dir() else SECRET_FILE)
    folder.chmod(SECRET_FOLDER)
