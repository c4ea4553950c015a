from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.evaluation.classification import (
    CLASS_ALPHABET,
    balanced_error,
    chance_accuracy,
    chance_balanced_error,
    encode_windows,
    window_counts,
)


def test_golden_counts_per_item_and_class() -> None:
    references = {"a": "0011", "b": "1", "c": "00"}
    hypotheses = {"a": "0110", "b": None}
    items, wrong, total = window_counts(references, hypotheses)
    assert items == ["a", "b", "c"]
    assert total.tolist() == [[2, 2], [0, 1], [2, 0]]
    assert wrong.tolist() == [[1, 1], [0, 1], [2, 0]]
    assert balanced_error(wrong, total).tolist() == [0.5, 1.0, 1.0]
    assert balanced_error(wrong.sum(axis=0), total.sum(axis=0)) == (3 / 4 + 2 / 3) / 2


def test_rare_class_weighs_as_much_as_a_common_one() -> None:
    _, wrong, total = window_counts({"a": "0" * 99 + "1"}, {"a": "0" * 100})
    assert balanced_error(wrong, total).tolist() == [0.5]


def test_no_windows_is_nan() -> None:
    assert np.isnan(balanced_error(np.zeros((1, 2)), np.zeros((1, 2)))).all()


@given(st.lists(st.integers(0, 61), min_size=1, max_size=50), st.integers(0, 2**32 - 1))
def test_balanced_error_equals_its_definition(labels: list[int], seed: int) -> None:
    guesses = np.random.default_rng(seed).integers(0, 62, size=len(labels)).tolist()
    _, wrong, total = window_counts({"a": encode_windows(labels)}, {"a": encode_windows(guesses)})
    rates = []
    for name in set(labels):
        pairs = [(t, g) for t, g in zip(labels, guesses, strict=True) if t == name]
        rates.append(sum(t != g for t, g in pairs) / len(pairs))
    assert balanced_error(wrong, total)[0] == pytest.approx(sum(rates) / len(rates))


def test_encoding_refuses_other_indices() -> None:
    assert encode_windows(range(62)) == CLASS_ALPHABET
    for label in (-1, 62):
        with pytest.raises(ValueError, match=f"class index {label} is outside 0 to 61"):
            encode_windows([label])


def test_chance() -> None:
    assert chance_accuracy(["a", "b", "a", "a"]) == 0.75
    assert chance_balanced_error(4) == 0.75
    with pytest.raises(ValueError, match="no references"):
        chance_accuracy([])
