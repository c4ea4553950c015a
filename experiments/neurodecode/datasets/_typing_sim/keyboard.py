"""QWERTY under ten fingers: which finger presses a key, how it reaches, what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Hand = Literal["left", "right"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPACE = "space"
FINGERS = ("little", "ring", "middle", "index", "thumb")
_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
_HOME_ROW = 1
_FINGER_OF_COLUMN = (0, 1, 2, 3, 3, 3, 3, 2, 1, 0)
_LEFT_COLUMNS = 5
_STRETCHED = frozenset("tgbyhn")
_NEIGHBOUR = 1.2
_SPACE_CENTRE, _SPACE_ROW = 4.75, 3


@dataclass(frozen=True)
class Key:
    """A key and the finger that presses it.

    Attributes
    ----------
    name
        Letter, or ``space``.
    hand
        ``left`` or ``right``.
    finger
        0 little, 1 ring, 2 middle, 3 index, 4 thumb.
    reach
        Rows that the finger goes up (+1) or down (-1) from its rest.
    stretch
        Columns that it goes sideways towards the other hand: 0 or 1.
    """

    name: str
    hand: Hand
    finger: int
    reach: int
    stretch: int


@cache
def all_keys() -> tuple[Key, ...]:
    """Return the 26 letters in order, then the space bar under the left and the right thumb."""
    keys = {}
    for row, (letters, _) in enumerate(_ROWS):
        for column, letter in enumerate(letters):
            hand: Hand = "left" if column < _LEFT_COLUMNS else "right"
            stretch = int(letter in _STRETCHED)
            finger = _FINGER_OF_COLUMN[column]
            keys[letter] = Key(letter, hand, finger, _HOME_ROW - row, stretch)
    thumbs = (Key(SPACE, "left", 4, 0, 0), Key(SPACE, "right", 4, 0, 0))
    return (*(keys[letter] for letter in LETTERS), *thumbs)


def key_sequence(typed: str) -> list[int]:
    """Return the index into `all_keys` of every character.

    Parameters
    ----------
    typed
        Letters a to z and spaces. The space bar is pressed by the thumb of the hand that did not
        press the key before.
    """
    keys = all_keys()
    sequence: list[int] = []
    for character in typed:
        if character != " ":
            sequence.append(LETTERS.index(character))
            continue
        after_left = not sequence or keys[sequence[-1]].hand == "left"
        sequence.append(len(LETTERS) + int(after_left))
    return sequence


@cache
def neighbours(character: str) -> str:
    """Return the letters beside a character's key; for the space, those above its bar."""
    places = _places()
    if character == " ":
        return "".join(c for c, (x, y) in places.items() if y == 2 and abs(x - _SPACE_CENTRE) < 2)
    x, y = places[character]
    return "".join(
        other
        for other, (u, v) in places.items()
        if other != character and (u - x) ** 2 + (v - y) ** 2 <= _NEIGHBOUR**2
    )


def _places() -> dict[str, tuple[float, float]]:
    return {
        letter: (column + shift, float(row))
        for row, (letters, shift) in enumerate(_ROWS)
        for column, letter in enumerate(letters)
    }
