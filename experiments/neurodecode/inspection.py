"""Look at the data of a recipe without writing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from neurodecode import splits
from neurodecode.checks import check_recording
from neurodecode.contracts import (
    Dataset,
    Recording,
    SentenceDataset,
    SentenceItem,
    Sentences,
)
from neurodecode.sentence_chance import chance as sentence_chance
from neurodecode.sentence_summary import (
    PARTS,
    check_sentences,
    near_duplicate_warning,
    of_part,
    part_size,
)
from neurodecode.store_summary import chance, check_windows
from neurodecode.stores import check_folds, each_recording, has_sentences, load_dataset
from neurosweep.core.config import StrictModel, validate


def check_recordings(dataset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read every recording of a dataset and run all checks on it.

    Raises
    ------
    DataError
        At the first recording that is refused.
    """
    module, config = _open(dataset, options)
    if has_sentences(module):
        kept, sentences, lines = _each_with_sentences(module, config, check=True)
        lines += sentence_lines(kept, sentences)
        return {"dataset": dataset, "recordings": [r.name for r in kept], "lines": lines}
    recordings = tuple(each_recording(module, config))
    lines = []
    for recording in recordings:
        check_recording(recording)
        lines.append(f"{_line(recording)}: good")
    check_windows(cast(Dataset, module).windows(config, recordings))
    return {"dataset": dataset, "recordings": [r.name for r in recordings], "lines": lines}


def describe_data(dataset: str, options: Mapping[str, Any], folds: int) -> dict[str, Any]:
    """Return recordings, classes or characters, sizes of the parts, split and chance levels.

    Raises
    ------
    DataError
        When a recording is missing or damaged, or a fold would be empty.
    """
    module, config = _open(dataset, options)
    if has_sentences(module):
        check_folds(dataset, module, folds)
        return _describe_sentences(dataset, *_each_with_sentences(module, config, check=False))
    recordings = tuple(each_recording(module, config))
    windows = cast(Dataset, module).windows(config, recordings)
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


def _each_with_sentences(
    module: SentenceDataset, config: StrictModel, *, check: bool
) -> tuple[list[Recording], Sentences, list[str]]:
    """Return recordings without their samples, all sentences, and a line for each recording."""
    kept: list[Recording] = []
    found: list[Sentences] = []
    lines: list[str] = []
    for recording in each_recording(module, config):
        if check:
            check_recording(recording)
        lines.append(_line(recording) + (": good" if check else ""))
        found.append(module.sentences(config, (recording,)))
        kept.append(replace(recording, data_CT=recording.data_CT[:, :0].copy()))
        del recording
    items = tuple(item for sentences in found for item in sentences.items)
    sentences = replace(found[0], items=items)
    check_sentences(sentences)
    return kept, sentences, lines


def _describe_sentences(
    dataset: str, recordings: Sequence[Recording], sentences: Sentences, lines: list[str]
) -> dict[str, Any]:
    parts = {part: of_part(sentences, part) for part in PARTS}
    sizes = {part: part_size(items) for part, items in parts.items()}
    levels = sentence_chance([item.reference for item in (*parts["train"], *parts["dev"])])
    lines = [*lines, *sentence_lines(recordings, sentences)]
    lines += [
        f"{part}: {n['items']} sentences, {n['seconds']:g} s, {n['keys']} keys"
        for part, n in sizes.items()
    ]
    lines += [f"split: {sentences.split}"]
    lines += ["chance: " + ", ".join(f"{name} {value:.3f}" for name, value in levels.items())]
    lines += [f"warning: {text}" for text in near_duplicate_warning(parts)]
    return {
        "dataset": dataset,
        "recordings": [recording.name for recording in recordings],
        "subjects": sorted({item.subject for item in sentences.items}),
        "symbols": sentences.symbols,
        "typing": typing_facts(sentences.items),
        "parts": sizes,
        "split": sentences.split,
        "chance": levels,
        "lines": lines,
    }


def sentence_lines(recordings: Sequence[Recording], sentences: Sentences) -> list[str]:
    """Return lines on who typed what and how, and on the sensors."""
    facts = typing_facts(sentences.items)
    subjects = sorted({item.subject for item in sentences.items})
    shown = ", ".join(subjects[:5]) + (" and others" if len(subjects) > 5 else "")
    kinds = sorted({unit for recording in recordings for unit in recording.units})
    return [
        f"{facts['sentences']} sentences ({facts['different']} different) by {len(subjects)}"
        f" subjects ({shown}), {facts['seconds']:g} s from first to last keys",
        f"{facts['keys']} keys, {facts['keys_per_s']:.2f} a second;"
        f" {facts['characters_per_sentence']:.1f} characters a sentence",
        f"{facts['typed_exactly']:.0%} of sentences are typed without a slip; character error rate"
        f" of typing {facts['typo_cer']:.3f}",
        f"{len(recordings[0].channels)} sensors ({', '.join(kinds)}); characters:"
        f" {sentences.symbols.strip()} and the space",
        *(f"warning: {r.name}: {text}" for r in recordings for text in r.meta.get("warnings", ())),
    ]


def typing_facts(items: Sequence[SentenceItem]) -> dict[str, float]:
    """Return how much was typed, how fast, and how often the wrong key was pressed.

    ``keys_per_s`` counts the intervals between first and last keys; ``typo_cer`` is the edits
    between reference and typed text over the characters of all references.
    """
    from rapidfuzz.distance import Levenshtein

    seconds = sum(item.onsets_s[-1] - item.onsets_s[0] for item in items)
    intervals = sum(len(item.onsets_s) - 1 for item in items)
    characters = sum(len(item.reference) for item in items)
    edits = sum(Levenshtein.distance(item.reference, item.typed) for item in items)
    return {
        "sentences": len(items),
        "different": len({item.reference for item in items}),
        "seconds": round(seconds, 1),
        "keys": sum(len(item.onsets_s) for item in items),
        "keys_per_s": intervals / seconds if seconds else 0.0,
        "characters_per_sentence": characters / max(1, len(items)),
        "typed_exactly": sum(i.reference == i.typed for i in items) / max(1, len(items)),
        "typo_cer": edits / max(1, characters),
    }


def _open(
    dataset: str, options: Mapping[str, Any]
) -> tuple[Dataset | SentenceDataset, StrictModel]:
    module = load_dataset(dataset)
    return module, validate(module.Config, options, f"options of dataset '{dataset}'")


def _line(recording: Recording) -> str:
    return (
        f"{recording.name}: {len(recording.channels)} channels, {recording.sfreq_hz:g} Hz, "
        f"{recording.duration_s:.1f} s, {len(recording.events)} events"
    )
