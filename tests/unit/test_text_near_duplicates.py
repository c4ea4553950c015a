from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from neurodecode.text.corpus import load_tatoeba
from neurodecode.text.near_duplicates import (
    FUNCTION_WORDS,
    THRESHOLD,
    content_words,
    near_duplicates,
)


def edit_distance(a: str, b: str) -> int:
    """The textbook's table, on its own."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        above, row = row, [i + 1]
        for j, y in enumerate(b):
            row.append(min(above[j] + (x != y), above[j + 1] + 1, row[j] + 1))
    return row[-1]


def is_near(a: str, b: str, threshold: float) -> bool:
    alike = 1 - edit_distance(a, b) / max(len(a), len(b)) >= threshold - 1e-9
    words = content_words(a)
    return alike or (len(words) >= 2 and words == content_words(b))


@pytest.mark.parametrize(
    ("candidate", "protected", "near"),
    [
        ("he is a student", "she is a student", True),
        ("did tom really see the red car", "tom did see a car really red", True),
        ("she bought chicken", "she bought the chicken", True),
        ("it is so", "so it is", False),
        ("the boat sails on the river", "a fish swims in the ocean", False),
        ("abcdefgh ij", "abcdefgh kl", True),
        ("abcdefg hij", "abcdefg klm", False),
        ("same words", "same words", True),
    ],
)
def test_what_counts_as_nearly_the_same(candidate, protected, near):
    assert near_duplicates([candidate], [protected]) == ({0} if near else set())
    assert is_near(candidate, protected, THRESHOLD) is near


words = st.text("abet", min_size=1, max_size=5)
sentence = st.lists(words, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=150)
@given(
    st.lists(sentence, max_size=12),
    st.lists(sentence, max_size=12),
    st.sampled_from([0.55, 0.7, 0.75, 0.8, 0.9, 1.0]),
)
def test_the_index_finds_what_comparing_every_pair_finds(candidates, protected, threshold):
    expected = {
        i for i, a in enumerate(candidates) if any(is_near(a, b, threshold) for b in protected)
    }
    assert near_duplicates(candidates, protected, threshold) == expected


def test_the_index_finds_what_comparing_every_pair_finds_in_real_text():
    rng = random.Random(1)
    chosen = rng.sample(load_tatoeba(), 6000)
    protected, candidates = chosen[:500], chosen[500:]
    similarity = process.cdist(
        protected, candidates, scorer=Levenshtein.normalized_similarity, dtype=np.float64
    )
    same = {content_words(text) for text in protected if len(content_words(text)) >= 2}
    expected = set(np.flatnonzero((similarity >= THRESHOLD - 1e-9).any(axis=0)).tolist())
    assert len(expected) > 10
    expected |= {i for i, text in enumerate(candidates) if content_words(text) in same}
    assert near_duplicates(candidates, protected) == expected


@pytest.mark.parametrize("threshold", [0.5, 0.0, 1.01, float("nan")])
def test_thresholds_that_mean_nothing_are_refused(threshold):
    with pytest.raises(ValueError, match="must be above 0"):
        near_duplicates(["a b"], ["a b"], threshold)


def test_function_words_are_words():
    assert all(word.isalpha() and word.islower() for word in FUNCTION_WORDS)
