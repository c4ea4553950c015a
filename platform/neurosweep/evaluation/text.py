"""Text as it is compared: one stated rule for references and hypotheses alike."""

from __future__ import annotations

import unicodedata

NORMALISATION = (
    "Unicode NFC; every run of white space is one space; none at the ends; "
    "case, digits and punctuation count"
)


def normalise(text: str) -> str:
    """Return text as `NORMALISATION` says.

    Examples
    --------
    >>> normalise("  the  quick fox ")
    'the quick fox'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def normalise_symbol(text: str) -> str:
    """Return one symbol of a keyboard or one class label: only Unicode NFC, a space stays."""
    return unicodedata.normalize("NFC", text)


def is_symbol(text: str) -> bool:
    """Return whether a reference is a single character or a single word."""
    return len(text) == 1 or len(text.split()) == 1
