"""Readings of a made-up encoder: frames that tell letters, and a language model's word vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurodecode.decoding.alphabet import BLANK, NUM_CLASSES, encode
from neurodecode.llm.features import WordTargets

WORDS = ("the", "bird", "sings", "in", "old", "tree", "river", "walks", "along", "summer")
NUM_FEATURES = 32
HIDDEN = 16
SCALE = 2.5

_RNG = np.random.default_rng(5)
_LETTERS = _RNG.standard_normal((NUM_CLASSES, NUM_FEATURES))
_EMBEDDING = torch.from_numpy(_RNG.standard_normal((NUM_CLASSES, HIDDEN)).astype(np.float32))


@dataclass(frozen=True)
class Reading:
    """Hold what an encoder gives for a sentence."""

    item: str
    log_p_FK: np.ndarray
    feature_FD: np.ndarray


def sentences(num: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 6))) for _ in range(num)]


def reading(typed: str, seed: int = 0, wrong: float = 0.0, noise: float = 0.3) -> Reading:
    """Return frames, a letter and a blank for each character, some letters wrong."""
    rng = np.random.default_rng([seed, *typed.encode()])
    ids: list[int] = []
    for number in encode(typed):
        other = rng.random() < wrong
        ids += [int(rng.integers(1, NUM_CLASSES)) if other else number, BLANK]
    log_p_FK = np.full((len(ids), NUM_CLASSES), -8.0, dtype=np.float32)
    log_p_FK[np.arange(len(ids)), ids] = -0.01
    shown = [number or before for before, number in zip([0, *ids], ids, strict=False)]
    feature_FD = _LETTERS[shown] + noise * rng.standard_normal((len(ids), NUM_FEATURES))
    return Reading(f"s01/r1/{seed}-{typed[:20]}", log_p_FK, feature_FD.astype(np.float32))


def readings(texts: list[str], seed: int, wrong: float = 0.0, noise: float = 0.3) -> list[Reading]:
    return [reading(text, seed + i, wrong, noise) for i, text in enumerate(texts)]


def word_target(text: str) -> Tensor:
    return _EMBEDDING[encode(text) or [0]].mean(dim=0)


def targets() -> WordTargets:
    return WordTargets(word_target, SCALE, HIDDEN)
