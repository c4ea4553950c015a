"""Slips of the fingers: what was typed instead of what was asked for."""

from __future__ import annotations

import numpy as np

from neurodecode.datasets._typing_sim.bundle import read_typing
from neurodecode.datasets._typing_sim.keyboard import neighbours


def mistype(text: str, rate: float, rng: np.random.Generator) -> str:
    """Return a sentence as typed, with slips.

    Parameters
    ----------
    text
        Letters a to z and single spaces.
    rate
        Probability of a slip per character.
    rng
        Source of chance.

    Notes
    -----
    A slip presses a neighbour's key instead of the right one or before it, leaves the character
    out, doubles it, or swaps it with the next; shares of these kinds are those of 3,580 slips of
    real typists. One that would empty the text, or put a space at its edge or beside another, is
    not made.
    """
    shares = read_typing()["slips"]["shares"]
    weights = np.array(list(shares.values()))
    typed = ""
    position = 0
    while position < len(text):
        slip = (
            str(rng.choice(list(shares), p=weights / weights.sum())) if rng.random() < rate else ""
        )
        pressed, used = _press(text, position, slip, rng)
        before, after = typed + pressed, text[position + used :]
        if slip and not _is_plain(before + after):
            pressed, used = text[position], 1
        typed += pressed
        position += used
    return typed


def _press(text: str, position: int, slip: str, rng: np.random.Generator) -> tuple[str, int]:
    """Return what is pressed, and how many characters of the text that uses up."""
    character = text[position]
    following = text[position + 1 : position + 2]
    if slip == "substitution":
        return str(rng.choice(list(neighbours(character)))), 1
    if slip == "insertion":
        return str(rng.choice(list(neighbours(character)))) + character, 1
    if slip == "omission":
        return "", 1
    if slip == "doubling":
        return character * 2, 1
    if slip == "swap" and following:
        return following + character, 2
    return character, 1


def _is_plain(text: str) -> bool:
    return bool(text) and text == text.strip() and "  " not in text
