"""Whether recordings can be decoded as one study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neurodecode.contracts import Recording
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurosweep.core.errors import DataError


def check_together(
    recordings: Sequence[Recording], options: SentenceReadOptions, where: str
) -> None:
    """Refuse recordings that should not be decoded as one study.

    Parameters
    ----------
    recordings
        All of the study.
    options
        What is accepted.
    where
        The table, for errors.

    Raises
    ------
    DataError
        When SSS was run on some only, two are the same, sensors differ, or a subject's head is
        at far places.
    """
    cleaned = [r.name for r in recordings if r.meta["sss"]]
    raw = [r.name for r in recordings if not r.meta["sss"]]
    if cleaned and raw and not options.allow_mixed_sss:
        msg = f"{where}: {len(cleaned)} recordings are cleaned by SSS (first {cleaned[0]}) and"
        msg += f" {len(raw)} are not (first {raw[0]}); SSS changes scale and rank. Treat all"
        raise DataError(f"{msg} alike, or accept the mix with allow_mixed_sss = true")
    _check_channels(recordings, where)
    _check_distinct(recordings)
    _check_heads(recordings, options)


def _check_channels(recordings: Sequence[Recording], where: str) -> None:
    counts = Counter(recording.channels for recording in recordings)
    if len(counts) == 1:
        return
    usual = counts.most_common(1)[0][0]
    other = next(r for r in recordings if r.channels != usual)
    odd = sorted(set(usual) ^ set(other.channels))
    differ = ", ".join(odd[:6]) if odd else "their order"
    msg = f"{where}: {other.name} has {len(other.channels)} sensors, others have {len(usual)}"
    raise DataError(f"{msg} ({differ}); one study needs one helmet, give each its own table")


def _check_distinct(recordings: Sequence[Recording]) -> None:
    """Refuse one recording under two names: its sentences would train and test at once."""
    owner: dict[str, Recording] = {}
    for recording in recordings:
        for file, digest in recording.source_sha256.items():
            other = owner.setdefault(digest, recording)
            if other is not recording:
                msg = f"{recording.name}: its file {file} has the content of a file of {other.name}"
                raise DataError(f"{msg}; give every timeline its own recording")


def _check_heads(recordings: Sequence[Recording], options: SentenceReadOptions) -> None:
    first: dict[str, Recording] = {}
    for recording in recordings:
        place = recording.meta["head_mm"]
        if place is None:
            continue
        other = first.setdefault(recording.subject, recording)
        there = other.meta["head_mm"]
        distance = sum((x - y) ** 2 for x, y in zip(place, there, strict=True)) ** 0.5
        if distance > options.head_shift_mm:
            msg = f"{recording.name}: the head is {distance:.1f} mm from where it is in"
            msg += f" {other.name}, allowed are {options.head_shift_mm:g} mm; transform both to one"
            raise DataError(f"{msg} head place (MaxFilter -trans), or raise head_shift_mm")
