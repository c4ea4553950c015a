"""Write stores: what jobs may read, and the references that only the driver reads.

``x.npy`` (W, C, T) float32, ``y.npy`` (W,) int16, ``items.json``, ``codes/<item>.npy`` (W, S).
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode import splits
from neurodecode.contracts import FloatArray, Item, Windows
from neurodecode.splits import Fold
from neurosweep.core.files import atomic_write_json, atomic_write_text, canonical_json
from neurosweep.core.layout import Home
from neurosweep.evaluation.classification import CLASS_ALPHABET

SECRET_FOLDER = 0o700
SECRET_FILE = 0o600

Cut = Callable[[Sequence[Item]], FloatArray]


def write_store(
    home: Home,
    result: Mapping[str, Any],
    meta: Mapping[str, Any],
    split: tuple[Windows, Sequence[Fold]],
    cut: Cut,
) -> None:
    """Write a store and its references; both get their names when they are complete.

    Parameters
    ----------
    home
        Where they lie.
    result
        What `neurodecode.store_summary.summarise` returned; written as ``prepared.json``.
    meta
        Written as ``meta.json``.
    split
        All windows, and their folds.
    cut
        Items to their windows (W, C, T).

    Raises
    ------
    OSError
        When the disk is full or the home cannot be written; nothing is left behind.
    """
    with staged(home, str(result["data_fp"])) as (store, secret):
        _write_public(store, [Path(place).name for place in result["stores"]], split[1], cut)
        atomic_write_json(store / "meta.json", meta)
        atomic_write_json(store / "prepared.json", result)
        _write_secret(secret, meta, split, cut)


@contextmanager
def staged(home: Home, data_fp: str) -> Iterator[tuple[Path, Path]]:
    """Yield new folders for a store and its secret part, which get their names at the end.

    Nothing is left behind when the block fails; when another process was first, its folders stay.
    """
    secret_root(home)
    store, secret = home.store(data_fp), home.secret(data_fp)
    token = f".{store.name}.{secrets.token_hex(4)}.tmp"
    new_store, new_secret = store.with_name(token), secret.with_name(token)
    try:
        new_store.mkdir(parents=True)
        new_secret.mkdir(parents=True, mode=SECRET_FOLDER)
        yield new_store, new_secret
        if (store / "prepared.json").is_file() and secret.is_dir():
            return
        for temporary, folder in ((new_secret, secret), (new_store, store)):
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    finally:
        for temporary in (new_store, new_secret):
            shutil.rmtree(temporary, ignore_errors=True)


def secret_root(home: Home) -> Path:
    """Return the folder of all secret parts, which only its owner may enter."""
    folder = home.root / "secret"
    folder.mkdir(parents=True, exist_ok=True, mode=SECRET_FOLDER)
    folder.chmod(SECRET_FOLDER)
    return folder


def _write_public(folder: Path, names: Sequence[str], folds: Sequence[Fold], cut: Cut) -> None:
    for name, fold in zip(names, folds, strict=True):
        write_fold(folder / name if len(folds) > 1 else folder, fold, cut)


def _write_secret(
    folder: Path, meta: Mapping[str, Any], split: tuple[Windows, Sequence[Fold]], cut: Cut
) -> None:
    windows, folds = split
    write_references(folder / "val_refs.jsonl", [item for fold in folds for item in fold.val])
    if test := splits.test_items(windows):
        write_references(folder / "test_refs.jsonl", test)
        final = splits.full_training(windows) if len(folds) > 1 else folds[0]
        write_fold(folder / "test", Fold(final.train, final.dev, ()), cut)
        write_part(folder / "test" / "test", test, cut, labelled=False)
        atomic_write_json(folder / "test" / "meta.json", meta)
    make_private(folder)


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
    """Take everybody else's rights on a folder and all that is in it; links are not followed."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(SECRET_FOLDER if path.is_dir() else SECRET_FILE)
    folder.chmod(SECRET_FOLDER)
