"""The symbol whose code fits best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neurodecode.decoding.code_fit import rank, symbol_scores
from neurosweep.core.errors import DataError

CODES = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 30), st.integers(2, 8)),
    elements=st.integers(0, 2),
)


def _sure(code_W: np.ndarray, doubt: float = 0.01) -> np.ndarray:
    p_WK = np.full((len(code_W), 3), doubt / 2)
    p_WK[np.arange(len(code_W)), code_W] = 1.0 - doubt
    return np.log(p_WK)


@given(CODES, st.integers(0, 7))
def test_sure_probabilities_pick_the_symbol_that_was_shown(codes_WS: np.ndarray, pick: int) -> None:
    cued = pick % codes_WS.shape[1]
    same = (codes_WS == codes_WS[:, [cued]]).all(axis=0)
    assume(same.sum() == 1)
    labels = [f"s{index}" for index in range(codes_WS.shape[1])]
    (best, log_p), *_ = rank(symbol_scores(_sure(codes_WS[:, cued]), codes_WS), labels, 3)
    assert best == f"s{cued}"
    assert log_p <= 0.0


@given(CODES, st.integers(0, 2**32 - 1))
def test_renumbering_symbols_renumbers_their_scores(codes_WS: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_p_WK = np.log(rng.dirichlet(np.ones(3), len(codes_WS)))
    order = rng.permutation(codes_WS.shape[1])
    np.testing.assert_allclose(
        symbol_scores(log_p_WK, codes_WS[:, order]), symbol_scores(log_p_WK, codes_WS)[order]
    )


@given(CODES)
def test_the_order_of_windows_does_not_matter(codes_WS: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    log_p_WK = np.log(rng.dirichlet(np.ones(3), len(codes_WS)))
    order = rng.permutation(len(codes_WS))
    np.testing.assert_allclose(
        symbol_scores(log_p_WK[order], codes_WS[order]), symbol_scores(log_p_WK, codes_WS)
    )


@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-500, 500)))
def test_a_full_list_is_a_distribution_in_falling_order(scores_S: np.ndarray) -> None:
    labels = [str(index) for index in range(len(scores_S))]
    ranked = rank(scores_S, labels, len(labels))
    log_p = [value for _, value in ranked]
    assert sorted(label for label, _ in ranked) == sorted(labels)
    assert np.exp(log_p).sum() == pytest.approx(1.0)
    assert log_p == sorted(log_p, reverse=True)


def test_a_high_temperature_is_less_sure_of_the_same_order() -> None:
    scores_S = np.array([1.0, 5.0, 3.0])
    cold, warm = (rank(scores_S, "abc", 3, temperature) for temperature in (1.0, 10.0))
    assert [label for label, _ in cold] == [label for label, _ in warm] == ["b", "c", "a"]
    assert warm[0][1] < cold[0][1]


def test_equal_scores_keep_the_order_of_the_symbols() -> None:
    assert [label for label, _ in rank(np.zeros(3), "xyz", 2)] == ["x", "y"]


def test_codes_that_do_not_fit_are_refused() -> None:
    log_p_WK = np.zeros((4, 2))
    with pytest.raises(DataError, match=r"codes of shape \(3, 5\) for 4 windows"):
        symbol_scores(log_p_WK, np.zeros((3, 5), dtype=np.uint8))
    with pytest.raises(DataError, match="a code names class 2, but there are 2 classes"):
        symbol_scores(log_p_WK, np.full((4, 5), 2, dtype=np.uint8))
