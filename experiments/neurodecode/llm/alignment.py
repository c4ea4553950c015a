"""Which character of a typed text each character of a reading comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Range = tuple[int, int]


@dataclass(frozen=True)
class Edit:
    """One step of the shortest way from a typed text to a reading.

    Attributes
    ----------
    kind
        What happened to the typed character; ``insert`` when there is none.
    typed, read
        Index in each text. What was deleted stands before `read`, what was inserted before
        `typed`.
    """

    kind: Literal["equal", "substitute", "delete", "insert"]
    typed: int
    read: int


def align(pairs: Sequence[tuple[str, str]]) -> list[list[Edit]]:
    """Return the edits of every pair of a typed text and its reading, in the order of the text."""
    if not pairs:
        return []
    import jiwer

    characters = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    output = jiwer.process_words(
        [typed for typed, _ in pairs],
        [read for _, read in pairs],
        reference_transform=characters,
        hypothesis_transform=characters,
    )
    return [[edit for chunk in chunks for edit in _edits(chunk)] for chunks in output.alignments]


def edit_distance(typed: str, read: str) -> int:
    """Return the Levenshtein distance of two texts."""
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(typed, read))


def word_ranges(text: str) -> list[Range]:
    """Return where the words of a text begin and end: its runs without a space."""
    ranges: list[Range] = []
    start = 0
    for word in text.split(" "):
        if word:
            ranges.append((start, start + len(word)))
        start += len(word) + 1
    return ranges


def source_ranges(read: str, source: Sequence[Range]) -> list[Range]:
    """Return the range of typed characters behind every word of a reading.

    Parameters
    ----------
    read
        The reading.
    source
        Range of typed characters behind each of its characters; empty for an inserted one.

    Returns
    -------
    list of (int, int)
        One range a word, an empty one where all its characters were inserted.
    """
    ranges = []
    for start, stop in word_ranges(read):
        known = [one for one in source[start:stop] if one[0] < one[1]] or [source[start]]
        ranges.append((known[0][0], known[-1][1]))
    return ranges


def word_sources(pairs: Sequence[tuple[str, str]]) -> list[list[Range]]:
    """Return the typed range behind every word of every reading, found by alignment."""
    found = []
    for (_, read), edits in zip(pairs, align(pairs), strict=True):
        source = [
            (edit.typed, edit.typed + (edit.kind != "insert"))
            for edit in edits
            if edit.kind != "delete"
        ]
        found.append(source_ranges(read, source))
    return found


def nearest_word(text: str, source: Range) -> Range | None:
    """Return the range of the word that shares most with a range, or else lies nearest to it.

    None when the text has no word.
    """

    def closeness(word: Range) -> tuple[int, int]:
        overlap = min(word[1], source[1]) - max(word[0], source[0])
        return overlap, -abs(word[0] + word[1] - source[0] - source[1])

    return max(word_ranges(text), key=closeness, default=None)


def _edits(chunk: Any) -> list[Edit]:
    num_typed = chunk.ref_end_idx - chunk.ref_start_idx
    num_read = chunk.hyp_end_idx - chunk.hyp_start_idx
    return [
        Edit(
            chunk.type,
            chunk.ref_start_idx + min(step, num_typed),
            chunk.hyp_start_idx + min(step, num_read),
        )
        for step in range(max(num_typed, num_read))
    ]
