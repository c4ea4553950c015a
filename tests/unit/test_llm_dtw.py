"""Warping: the diagonal, brute force over all paths, first matches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodecode.llm.dtw import cosine_cost, dtw_path, first_match

STEPS = {(1, 0), (0, 1), (1, 1)}


def all_paths(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    if (rows, columns) == (1, 1):
        yield [(0, 0)]
        return
    for down, right in STEPS:
        if rows > down and columns > right:
            for path in all_paths(rows - down, columns - right):
                yield [*path, (rows - 1, columns - 1)]


def test_identical_sequences_give_the_diagonal() -> None:
    words_NH = np.random.default_rng(0).standard_normal((6, 9))
    path = dtw_path(cosine_cost(words_NH, 2.0 * words_NH))
    assert path == [(i, i) for i in range(6)]
    assert first_match(path) == list(range(6))


def test_equal_costs_prefer_the_diagonal() -> None:
    assert dtw_path(np.ones((3, 3))) == [(0, 0), (1, 1), (2, 2)]
    assert dtw_path(np.zeros((2, 2))) == [(0, 0), (1, 1)]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**20), st.booleans())
def test_no_path_is_cheaper(rows: int, columns: int, seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 3, (rows, columns)) if whole else rng.uniform(0, 2, (rows, columns))
    path = dtw_path(cost.astype(float))
    assert path[0] == (0, 0)
    assert path[-1] == (rows - 1, columns - 1)
    moves = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)}
    assert moves <= STEPS
    best = min(sum(cost[at] for at in other) for other in all_paths(rows, columns))
    assert sum(cost[at] for at in path) == pytest.approx(best)


def test_a_word_cut_in_two_matches_its_word_twice() -> None:
    true_MH = np.eye(3)
    assert first_match(dtw_path(cosine_cost(true_MH[[0, 1, 1, 2]], true_MH))) == [0, 1, 1, 2]


def test_two_words_read_as_one_match_the_first_of_them() -> None:
    true_MH = np.eye(4)
    read_NH = np.stack([true_MH[0], true_MH[1] + 1.01 * true_MH[2], true_MH[3]])
    assert first_match(dtw_path(cosine_cost(read_NH, true_MH))) == [0, 1, 3]


def test_a_vector_of_zeros_has_a_finite_cost() -> None:
    cost_NM = cosine_cost(np.zeros((1, 3)), np.eye(3))
    assert cost_NM.tolist() == [[1.0, 1.0, 1.0]]
    assert first_match(dtw_path(cost_NM)) == [0]


@pytest.mark.parametrize("cost", [np.zeros((0, 3)), np.zeros((2, 0)), np.array([[np.nan]])])
def test_what_has_no_path_is_refused(cost: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite matrix with a row and a column"):
        dtw_path(cost)
