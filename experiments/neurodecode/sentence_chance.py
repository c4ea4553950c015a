"""What guessing scores on sentences.

G guesses, J judges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MAX_GUESSES = 300
_MAX_JUDGES = 600


def chance(references: Sequence[str]) -> dict[str, float]:
    """Return the error rates of the best constant guess, judged on training sentences.

    The guess is the training sentence that is nearest to all others, or nothing at all: always
    the one that scores better. Up to 300 sentences are tried on up to 600.
    """
    texts = sorted(set(references))
    rng = np.random.default_rng(0)
    guesses = ["", *_some(texts, _MAX_GUESSES, rng)]
    judges = _some(sorted(references), _MAX_JUDGES, rng)
    words = sorted({word for text in texts for word in text.split()})
    code = {
        word: chr(0xE000 + k) if k < 0x1900 else chr(0xF0000 + k) for k, word in enumerate(words)
    }
    coded = ["".join(code[word] for word in text.split()) for text in (*guesses, *judges)]
    return {
        "val_wer": _best(coded[: len(guesses)], coded[len(guesses) :]),
        "val_cer": _best(guesses, judges),
    }


def _some(texts: Sequence[str], most: int, rng: np.random.Generator) -> list[str]:
    if len(texts) <= most:
        return list(texts)
    return [texts[int(index)] for index in rng.choice(len(texts), most, replace=False)]


def _best(guesses: Sequence[str], judges: Sequence[str]) -> float:
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    edits_GJ: npt.NDArray[np.int32] = process.cdist(
        guesses, judges, scorer=Levenshtein.distance, dtype=np.int32
    )
    lengths_J = np.array([len(text) for text in judges])
    return float((edits_GJ / lengths_J).mean(axis=1).min())
