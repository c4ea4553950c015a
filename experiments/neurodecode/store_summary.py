"""What is told about a store: sizes, chance, split, sources; and what makes it unusable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from neurodecode import splits
from neurodecode.contracts import Item, Recording, Windows
from neurodecode.splits import Fold
from neurosweep.core.errors import DataError
from neurosweep.core.files import canonical_json, sha256_bytes


def check_windows(windows: Windows) -> None:
    """Refuse windows that cannot be trained on or scored.

    Raises
    ------
    DataError
        When there is no item, an item's name is used twice, or its parts do not match.
    """
    if not windows.items:
        raise DataError("the dataset has no item to decode; check its options and its events")
    names = Counter(item.item for item in windows.items)
    double = [name for name, count in names.items() if count > 1]
    problems = [f"{name}: is the name of {names[name]} items" for name in double]
    for item in windows.items:
        size = len(item.labels)
        if item.item.count("/") != 2 or not size or len(item.onsets_s) != size:
            problems.append(f"{item.item}: has {size} labels and {len(item.onsets_s)} onsets")
        elif item.codes_WS is not None and item.codes_WS.shape != (size, len(item.symbols)):
            problems.append(f"{item.item}: codes have shape {item.codes_WS.shape}")
        elif not 0 <= min(item.labels) <= max(item.labels) < len(windows.classes):
            problems.append(f"{item.item}: a label is outside {len(windows.classes)} classes")
    if problems:
        raise DataError("items of the dataset are wrong:\n  " + "\n  ".join(problems[:10]))


def summarise(
    data_fp: str,
    recordings: Sequence[Recording],
    windows: Windows,
    folds: Sequence[Fold],
    how: tuple[int, int],
) -> dict[str, Any]:
    """Return what `neurodecode.stores.prepare_store` tells of a store.

    Parameters
    ----------
    data_fp
        Fingerprint of the store.
    recordings, windows, folds
        What it is made of.
    how
        Number of folds asked for, and the seed of the permutation of labels.
    """
    num_folds, seed = how
    root = f"store/{data_fp}"
    stores = [f"{root}/fold{k:02d}" for k in range(len(folds))] if len(folds) > 1 else [root]
    test = splits.test_items(windows)
    parts = {
        "train": [item for fold in folds for item in fold.train],
        "dev": [item for fold in folds for item in fold.dev],
        "val": [item for fold in folds for item in fold.val],
        "test": list(test),
    }
    warnings = [f"{r.name}: {text}" for r in recordings for text in r.meta.get("warnings", ())]
    if unused := splits.unused_items(windows, num_folds):
        warnings.append(f"{unused} items of the official validation part are not used by the folds")
    if seed:
        warnings.append(f"labels are permuted (seed {seed}): only chance can be reached")
    return {
        "v": 1,
        "data_fp": data_fp,
        "stores": stores,
        "secret": f"secret/{data_fp}",
        "final": f"secret/{data_fp}/test" if test else None,
        "items_sha": sha256_bytes(canonical_json(sorted(i.item for i in parts["val"])).encode()),
        "parts": {
            name: {"items": len(items), "windows": sum(len(i.labels) for i in items)}
            for name, items in parts.items()
        },
        "chance": chance(windows, [*folds[0].train, *folds[0].dev]),
        "split": splits.describe(windows, num_folds),
        "subjects": sorted({item.subject for item in windows.items}),
        "warnings": warnings,
        "recordings": {r.name: public_meta(r) for r in recordings},
    }


def public_meta(recording: Recording) -> dict[str, Any]:
    """Return what may be told of a recording: its size, its files, its facts."""
    plain = {k: v for k, v in recording.meta.items() if isinstance(v, bool | int | float | str)}
    return {
        "channels": len(recording.channels),
        "sfreq_hz": recording.sfreq_hz,
        "seconds": round(recording.duration_s, 3),
        "sha256": dict(recording.source_sha256),
        **plain,
    }


def chance(windows: Windows, train: Sequence[Item]) -> dict[str, float]:
    """Return what a guess scores: always the commonest training text; any window class.

    The window error is balanced over the classes, so every constant or blind guess scores
    1 - 1 / classes.
    """
    labels = {label for item in train for label in item.labels}
    texts = Counter(item.reference for item in train)
    accuracy = windows.chance_acc
    if accuracy is None:
        accuracy = max(texts.values()) / texts.total()
    return {
        "val_acc": accuracy,
        "val_cer": 1.0 - accuracy,
        "val_window_err": 1.0 - 1.0 / len(labels),
    }


def store_meta(recording: Recording, windows: Windows, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``meta.json``: what a model must know of the data, without the sampling rate."""
    places = [recording.positions.get(name) for name in recording.channels]
    return {
        "v": 1,
        "data_fp": result["data_fp"],
        "kind": "windows",
        "channels": list(recording.channels),
        "positions": [list(p) if p else None for p in places] if any(places) else None,
        "layout": recording.meta.get("layout"),
        "window_s": list(windows.window_s),
        "classes": list(windows.classes),
        "symbols": list(windows.symbols),
        "folds": len(result["stores"]),
        **{name: result[name] for name in ("split", "chance", "subjects")},
    }
