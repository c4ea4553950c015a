"""The characters that sentences are typed with, and their CTC classes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

BLANK = 0
SYMBOLS = "abcdefghijklmnopqrstuvwxyz "
SPACE = SYMBOLS.index(" ") + 1
NUM_CLASSES = len(SYMBOLS) + 1

_ID_OF = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}


def encode(text: str) -> list[int]:
    """Return the class of every character: a-z are 1 to 26, a space is 27.

    Raises
    ------
    ValueError
        When a character is none of `SYMBOLS`.
    """
    unknown = sorted(set(text) - set(SYMBOLS))
    if unknown:
        msg = f"{text!r}: holds {', '.join(map(repr, unknown))}; allowed are a-z and space"
        raise ValueError(msg)
    return [_ID_OF[symbol] for symbol in text]


def decode_ids(ids: Iterable[int]) -> str:
    """Return the text of classes; blanks and classes beyond the alphabet are left out."""
    return "".join(SYMBOLS[number - 1] for number in ids if 0 < number <= len(SYMBOLS))


def greedy_text(ids: Iterable[int]) -> str:
    """Return the text of a path of frame classes: repeats collapse, then blanks go.

    Examples
    --------
    >>> greedy_text([3, 3, 0, 3, 27, 1, 1])
    'cc a'
    """
    return decode_ids(number for number, _ in groupby(ids))
