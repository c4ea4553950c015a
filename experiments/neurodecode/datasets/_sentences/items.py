"""From recordings with sentences and keys to whole-sentence items and their parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from neurodecode.contracts import Recording, SentenceItem, Sentences
from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.events import Event, select
from neurosweep.evaluation.splits import part_of_text

SPLIT = (
    "by a hash of the sentence alone: 80 % train (a tenth of it dev), 10 % val, 10 % sealed test;"
    " no sentence is in two parts, whoever typed it"
)


def sentence_items(
    recordings: Sequence[Recording], pre_s: float = 0.4, post_s: float = 0.45
) -> Sentences:
    """Return one item a sentence, in the order of time within a recording.

    Parameters
    ----------
    recordings
        As `read_sentence_recordings` returns them.
    pre_s, post_s
        Seconds before the first and after the last key press that belong to the window.

    Notes
    -----
    Brain2Qwerty v2, section 4.1, draws the tail from U(0.4, 0.5) s; its mean is taken here, so
    that a sentence is always the same window. Windows end at the borders of the recording and
    never share samples: between neighbours that are too close they end half way.
    """
    items: list[SentenceItem] = []
    for recording in recordings:
        keys = _keys_by_trial(recording)
        rows = [row for row in select(recording.events, "Sentence") if keys.get(row.trial_id)]
        rows.sort(key=lambda row: keys[row.trial_id][0])
        middles = [(keys[a.trial_id][-1] + keys[b.trial_id][0]) / 2 for a, b in pairwise(rows)]
        low, high = [0.0, *middles], [*middles, recording.duration_s]
        for row, earliest, latest in zip(rows, low, high, strict=True):
            onsets = keys[row.trial_id]
            segment = _segment_of(recording, onsets)
            items.append(
                SentenceItem(
                    item=f"{recording.name}/{row.trial_id}",
                    part=part_of_text(row.text),
                    start_s=max(onsets[0] - pre_s, earliest, segment[0]),
                    stop_s=min(onsets[-1] + post_s, latest, segment[1]),
                    onsets_s=onsets,
                    reference=row.text,
                    typed=row.value("typed"),
                )
            )
    return Sentences(tuple(items), SYMBOLS, SPLIT)


def _keys_by_trial(recording: Recording) -> dict[str, tuple[float, ...]]:
    keys: dict[str, list[Event]] = {}
    for event in select(recording.events, "Keystroke"):
        keys.setdefault(event.trial_id, []).append(event)
    return {name: tuple(sorted(key.start for key in own)) for name, own in keys.items()}


def _segment_of(recording: Recording, onsets: Sequence[float]) -> tuple[float, float]:
    """Return the contiguous stretch, seconds, that holds the first key."""
    stretches = [
        (start / recording.sfreq_hz, stop / recording.sfreq_hz)
        for start, stop in recording.segments
    ]
    return next((s for s in stretches if s[0] <= onsets[0] <= s[1]), stretches[-1])
