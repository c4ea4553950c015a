"""Sentences as an encoder might misread them, before any encoder is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodecode.llm.alignment import word_ranges

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SYMBOLS = f"{_LETTERS} "
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_MIX = (2.0, 1.0, 1.5, 1.0)


def _neighbours() -> dict[str, str]:
    place = {
        letter: (row, column + 0.5 * row)
        for row, letters in enumerate(_ROWS)
        for column, letter in enumerate(letters)
    }
    return {
        a: "".join(
            b
            for b in _LETTERS
            if a != b
            and abs(place[a][0] - place[b][0]) <= 1
            and abs(place[a][1] - place[b][1]) <= 1
        )
        for a in _LETTERS
    }


NEIGHBOURS = _neighbours()


@dataclass(frozen=True)
class Noisy:
    """Hold a misread sentence.

    Attributes
    ----------
    text
        Single spaces, none at the ends.
    words
        For every word of it, the letters of the true sentence that it came from.
    """

    text: str
    words: tuple[str, ...]


def misread(sentence: str, rate: float, rng: np.random.Generator) -> Noisy:
    """Return a sentence with a share of its characters wrong.

    Parameters
    ----------
    sentence
        Letters a to z and single spaces.
    rate
        Probability that something happens at a character: a neighbour on the keyboard instead
        of it, any other character instead, nothing instead, or another one before it. How the
        four share it is drawn for every sentence.
    rng
        Generator.
    """
    share = np.cumsum(rng.dirichlet(_MIX))
    hit = (rng.random(len(sentence)) < rate).tolist()
    kind = np.minimum(np.searchsorted(share, rng.random(len(sentence))), 3).tolist()
    drawn = rng.random(len(sentence)).tolist()
    read: list[str] = []
    source: list[int] = []
    for place, true in enumerate(sentence):
        characters = _read(true, kind[place], drawn[place]) if hit[place] else true
        read += characters
        source += [place] * len(characters)
    text = "".join(read)
    ranges = word_ranges(text)
    words = tuple(
        "".join(sentence[i] for i in sorted(set(source[start:stop])) if sentence[i] != " ")
        for start, stop in ranges
    )
    return Noisy(" ".join(text[start:stop] for start, stop in ranges), words)


def _read(true: str, kind: int, drawn: float) -> str:
    """Return what is read in place of a character; `drawn` is uniform in [0, 1)."""
    near = NEIGHBOURS.get(true, _LETTERS)
    if kind == 0:
        return near[int(drawn * len(near))]
    if kind == 1:
        others = _SYMBOLS.replace(true, "")
        return others[int(drawn * len(others))]
    return "" if kind == 2 else _SYMBOLS[int(drawn * len(_SYMBOLS))] + true
