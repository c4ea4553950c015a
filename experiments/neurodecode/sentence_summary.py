"""What is told about a store of sentences: sizes, chance, split; and what makes it unusable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodecode.contracts import Recording, SentenceItem, Sentences
from neurodecode.preprocessing.pipeline import Prepared
from neurodecode.sentence_chance import chance
from neurodecode.store_summary import public_meta
from neurosweep.core.errors import DataError
from neurosweep.core.files import canonical_json, sha256_bytes

PARTS = ("train", "dev", "val", "test")
NO_PLACE = (-0.1, -0.1)

_MAX_LISTED = 10


def of_part(sentences: Sentences, part: str) -> tuple[SentenceItem, ...]:
    """Return the items of one part, in their order."""
    return tuple(item for item in sentences.items if item.part == part)


@dataclass(frozen=True)
class Told:
    """Keep what is told of a recording when its samples are gone.

    Attributes
    ----------
    recording
        Without samples.
    sfreq_hz
        Sampling rate after preprocessing.
    facts
        As `neurodecode.store_summary.public_meta`.
    warnings
        Of reader and preprocessing.
    """

    recording: Recording
    sfreq_hz: float
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]


def without_samples(recording: Recording, prepared: Prepared) -> Told:
    """Return what is told of a recording."""
    empty = np.zeros((len(recording.channels), 0), dtype=np.float32)
    warnings = [f"{recording.name}: {text}" for text in recording.meta.get("warnings", ())]
    return Told(
        replace(recording, data_CT=empty, events=()),
        prepared.sfreq_hz,
        public_meta(recording),
        (*warnings, *prepared.warnings),
    )


def check_sentences(sentences: Sentences) -> None:
    """Refuse sentences that cannot be trained on or scored, as `check_items`, `check_parts`."""
    check_items(sentences)
    check_parts(sentences)


def check_items(sentences: Sentences) -> None:
    """Refuse items whose names, texts or times are wrong.

    Raises
    ------
    DataError
        Listing them.
    """
    names = Counter(item.item for item in sentences.items)
    problems = [f"{name}: is the name of {n} sentences" for name, n in names.items() if n > 1]
    allowed = set(sentences.symbols)
    for item in sentences.items:
        if item.item.count("/") != 2:
            problems.append(f"{item.item}: must be subject/recording/trial")
        for what, text in (("reference", item.reference), ("typed", item.typed)):
            if not text or not set(text) <= allowed:
                problems.append(f"{item.item}: {what} is {text[:40]!r}, expected a-z and spaces")
        times = [item.start_s, *item.onsets_s, item.stop_s]
        if not item.onsets_s or times != sorted(times) or item.start_s < 0:
            problems.append(f"{item.item}: keys do not lie in order within the window")
    if problems:
        more = len(problems) - _MAX_LISTED
        listed = [*problems[:_MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]
        raise DataError("sentences of the dataset are wrong:\n  " + "\n  ".join(listed))


def check_parts(sentences: Sentences) -> None:
    """Refuse sentences that leave nothing to train on, to stop early with or to validate on.

    Raises
    ------
    DataError
        With the size of every part.
    """
    sizes = {part: len(of_part(sentences, part)) for part in PARTS}
    empty = [part for part in ("train", "dev", "val") if not sizes[part]]
    if empty:
        counts = ", ".join(f"{part} {size}" for part, size in sizes.items())
        msg = f"of {len(sentences.items)} sentences none is in {' and '.join(empty)} ({counts}); a"
        msg += " hash of its text puts each into a part, about 72, 8, 10 and 10 % of them;"
        raise DataError(f"{msg} use more different sentences")


def permute_texts(sentences: Sentences, seed: int) -> Sentences:
    """Return the sentences with texts permuted among items of train, and among those of dev.

    Val and test keep their texts. Reference and typed text stay together.

    Parameters
    ----------
    sentences
        Sentences with their true texts.
    seed
        Seed of the permutation; 0 changes nothing.
    """
    if seed == 0:
        return sentences
    rng = np.random.default_rng(seed)
    items = list(sentences.items)
    for part in ("train", "dev"):
        rows = [index for index, item in enumerate(items) if item.part == part]
        sources = [items[int(index)] for index in rng.permutation(rows)]
        for row, source in zip(rows, sources, strict=True):
            items[row] = replace(items[row], reference=source.reference, typed=source.typed)
    return replace(sentences, items=tuple(items))


def summarise_sentences(
    data_fp: str, told: Sequence[Told], sentences: Sentences, seed: int
) -> dict[str, Any]:
    """Return what `neurodecode.stores.prepare_store` tells of a store of sentences.

    Parameters
    ----------
    data_fp
        Fingerprint of the store.
    told, sentences
        What it is made of; texts are permuted already.
    seed
        Seed of that permutation, 0 for none.
    """
    parts = {part: of_part(sentences, part) for part in PARTS}
    warnings = [text for one in told for text in one.warnings]
    warnings += near_duplicate_warning(parts)
    if seed:
        warnings.append(f"texts are permuted (seed {seed}): only chance can be reached")
    val_names = sorted(item.item for item in parts["val"])
    return {
        "v": 1,
        "data_fp": data_fp,
        "stores": [f"store/{data_fp}"],
        "secret": f"secret/{data_fp}",
        "final": f"secret/{data_fp}/test" if parts["test"] else None,
        "items_sha": sha256_bytes(canonical_json(val_names).encode()),
        "parts": {part: part_size(items) for part, items in parts.items()},
        "chance": chance([item.reference for item in (*parts["train"], *parts["dev"])]),
        "split": sentences.split,
        "subjects": sorted({item.subject for item in sentences.items}),
        "warnings": warnings,
        "recordings": {one.recording.name: dict(one.facts) for one in told},
    }


def part_size(items: Sequence[SentenceItem]) -> dict[str, int | float]:
    """Return how many sentences, seconds and key presses there are."""
    return {
        "items": len(items),
        "seconds": round(sum(item.stop_s - item.start_s for item in items), 1),
        "keys": sum(len(item.onsets_s) for item in items),
    }


def near_duplicate_warning(parts: Mapping[str, Sequence[SentenceItem]]) -> list[str]:
    """Return a line on training sentences that nearly repeat sealed ones, or none."""
    from neurodecode.text.near_duplicates import THRESHOLD, near_duplicates

    trained = sorted({item.reference for part in ("train", "dev") for item in parts[part]})
    sealed = sorted({item.reference for part in ("val", "test") for item in parts[part]})
    found = len(near_duplicates(trained, sealed))
    if not found:
        return []
    return [
        f"{found} of {len(trained)} training sentences nearly repeat a sentence of val or test"
        f" (similarity of {THRESHOLD:g} or more, or the same content words): a model that learns"
        " whole sentences gains from that"
    ]


def sentence_meta(
    told: Sequence[Told], sentences: Sentences, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``meta.json``: what a model must know of the data, without the sampling rate.

    A sensor has no place when it is bad in every recording; where it is bad in some only, it
    keeps its place and these recordings have zeros.
    """
    first = told[0].recording
    layouts = [one.recording.meta.get("layout") or {} for one in told]
    layout = {}
    for name in first.channels:
        places = [tuple(own[name]) for own in layouts if name in own]
        layout[name] = list(next((p for p in places if p[0] >= 0 and p[1] >= 0), NO_PLACE))
    return {
        "v": 1,
        "data_fp": result["data_fp"],
        "kind": "sentences",
        "channels": list(first.channels),
        "layout": layout,
        "symbols": sentences.symbols,
        **{name: result[name] for name in ("split", "chance", "subjects")},
    }
