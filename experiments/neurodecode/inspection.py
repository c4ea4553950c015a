"""Look at the data of a recipe without writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurodecode import splits
from neurodecode.checks import check_recording
from neurodecode.contracts import Dataset, Recording
from neurodecode.store_summary import chance, check_windows
from neurodecode.stores import load_dataset
from neurosweep.core.config import StrictModel, validate


def check_recordings(dataset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read every recording of a dataset and run all checks on it.

    Raises
    ------
    DataError
        At the first recording that is refused.
    """
    module, config = _open(dataset, options)
    recordings = module.read(config)
    lines = []
    for recording in recordings:
        check_recording(recording)
        lines.append(f"{_line(recording)}: good")
    check_windows(module.windows(config, recordings))
    return {"dataset": dataset, "recordings": [r.name for r in recordings], "lines": lines}


def describe_data(dataset: str, options: Mapping[str, Any], folds: int) -> dict[str, Any]:
    """Return recordings, classes, sizes of the parts, split and chance levels.

    Raises
    ------
    DataError
        When a recording is missing or damaged, or a fold would be empty.
    """
    module, config = _open(dataset, options)
    recordings = module.read(config)
    windows = module.windows(config, recordings)
    check_windows(windows)
    made = splits.make_folds(windows, folds)
    parts = {
        "train": [item for fold in made for item in fold.train],
        "dev": [item for fold in made for item in fold.dev],
        "val": [item for fold in made for item in fold.val],
        "test": list(splits.test_items(windows)),
    }
    sizes = {
        name: {"items": len(items), "windows": sum(len(item.labels) for item in items)}
        for name, items in parts.items()
    }
    levels = chance(windows, [*made[0].train, *made[0].dev])
    lines = [_line(recording) for recording in recordings]
    lines.append(f"windows {windows.window_s[0]:g} to {windows.window_s[1]:g} s, classes: ")
    lines[-1] += ", ".join(windows.classes)
    lines += [f"{name}: {n['items']} items, {n['windows']} windows" for name, n in sizes.items()]
    lines += [f"split: {splits.describe(windows, folds)}"]
    lines += ["chance: " + ", ".join(f"{name} {value:.3f}" for name, value in levels.items())]
    return {
        "dataset": dataset,
        "recordings": [recording.name for recording in recordings],
        "subjects": sorted({item.subject for item in windows.items}),
        "classes": list(windows.classes),
        "parts": sizes,
        "split": splits.describe(windows, folds),
        "chance": levels,
        "lines": lines,
    }


def _open(dataset: str, options: Mapping[str, Any]) -> tuple[Dataset, StrictModel]:
    module = load_dataset(dataset)
    return module, validate(module.Config, options, f"options of dataset '{dataset}'")


def _line(recording: Recording) -> str:
    return (
        f"{recording.name}: {len(recording.channels)} channels, {recording.sfreq_hz:g} Hz, "
        f"{recording.duration_s:.1f} s, {len(recording.events)} events"
    )
