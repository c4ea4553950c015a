"""Every random number of a study follows from its one seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SEED_RANGE = 2**31 - 1


def training_seed(study_seed: int, purpose: str, round_number: int, index: int) -> int:
    """Return the seed of one training, in [0, 2**31 - 2].

    It depends on the study's seed and the trial's place alone: studies with one seed, for
    example those compared in an arena, train trial k of round r with the same seed.
    """
    return _seed("training", study_seed, purpose, round_number, index)


def sampler_seed(study_seed: int, round_number: int, answer: int = 0, first: int = 0) -> int:
    """Return the seed of an agent's answer.

    It differs by round, since a sampler created again with one constant seed would propose
    the same points again, by answer, so that a refused answer is not simply repeated, and by
    the place of the first trial that is proposed, where a round is planned piece by piece.
    """
    place = (first,) if first else ()
    return _seed("sampler", study_seed, round_number, answer, *place)


def sampler_rng(
    study_seed: int, round_number: int, answer: int = 0, first: int = 0
) -> np.random.Generator:
    """Return the random generator of an agent's answer."""
    import numpy as np

    return np.random.default_rng(sampler_seed(study_seed, round_number, answer, first))


def _seed(*parts: str | int) -> int:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SEED_RANGE
