"""Word and character error rates of one item, split into their three parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.evaluation.text import normalise, normalise_symbol


@dataclass(frozen=True)
class Edits:
    """Count the edits that turn a reference into a hypothesis.

    Attributes
    ----------
    substitutions, deletions, insertions
        Of the shortest edit script that jiwer finds.
    length
        Units (words or characters) of the reference; at least 1.
    """

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def total(self) -> int:
        """All edits: the Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per unit of the reference; above 1 when much is inserted."""
        return self.total / self.length

    def to_dict(self) -> dict[str, int]:
        """Return the counts as JSON data, with the names s, d, i, n."""
        return {
            "s": self.substitutions,
            "d": self.deletions,
            "i": self.insertions,
            "n": self.length,
        }


def text_edits(
    references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> dict[str, tuple[Edits, Edits]]:
    """Return word edits and character edits of every item.

    Parameters
    ----------
    references
        Item to reference text; compared after `normalise`, as are the hypotheses.
    hypotheses
        Item to hypothesis; empty or absent is all deletions.

    Raises
    ------
    DataError
        When a reference is empty after normalisation; names every such item.
    """
    items = list(references)
    truths = [normalise(references[item]) for item in items]
    refuse_empty(item for item, truth in zip(items, truths, strict=True) if not truth)
    guesses = [normalise(hypotheses.get(item, "")) for item in items]
    words = _count(truths, guesses, by_word=True)
    characters = _count(truths, guesses, by_word=False)
    return dict(zip(items, zip(words, characters, strict=True), strict=True))


def symbol_edits(
    references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> dict[str, tuple[Edits, Edits]]:
    """Return the edits of items that are one symbol each: right, wrong or absent.

    A symbol may have a name of several characters; it is right or wrong as a whole, so the mean
    rate is the share of wrong symbols. Words and characters count alike.

    Raises
    ------
    DataError
        When a reference is empty; names every such item.
    """
    refuse_empty(item for item, reference in references.items() if not reference)
    edits: dict[str, tuple[Edits, Edits]] = {}
    for item, reference in references.items():
        hypothesis = normalise_symbol(hypotheses.get(item, ""))
        wrong = hypothesis != normalise_symbol(reference)
        one = Edits(int(wrong and bool(hypothesis)), int(wrong and not hypothesis), 0, 1)
        edits[item] = (one, one)
    return edits


def refuse_empty(items: Iterable[str]) -> None:
    """Raise when there are items, which all have an empty reference.

    Raises
    ------
    DataError
        Naming the items, 10 at most.
    """
    empty = list(items)
    if not empty:
        return
    shown = ", ".join(empty[:10]) + (f" and {len(empty) - 10} more" if len(empty) > 10 else "")
    msg = (
        f"{len(empty)} of the references are empty: {shown}; an error rate needs at least one "
        "character to divide by. Leave these trials out when the data are prepared"
    )
    raise DataError(msg)


def _count(truths: list[str], guesses: list[str], *, by_word: bool) -> list[Edits]:
    if not truths:
        return []
    import jiwer  # imported where scoring happens: a status command does not wait for it

    units = jiwer.ReduceToListOfListOfWords() if by_word else jiwer.ReduceToListOfListOfChars()
    output = jiwer.process_words(
        truths, guesses, reference_transform=units, hypothesis_transform=units
    )
    return [
        _edits(chunks, len(reference))
        for chunks, reference in zip(output.alignments, output.references, strict=True)
    ]


def _edits(chunks: Iterable[Any], length: int) -> Edits:
    counts = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in chunks:
        size_in_reference = chunk.ref_end_idx - chunk.ref_start_idx
        size_in_hypothesis = chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += max(size_in_reference, size_in_hypothesis)
    return Edits(counts["substitute"], counts["delete"], counts["insert"], length)
