from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.evaluation.intervals import (
    mean_of,
    nested_bootstrap,
    paired_difference,
    percentile_bounds,
    wilson,
)


def test_bootstrap_covers_the_true_mean_of_one_subject() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.exponential(size=60)
        drawn = nested_bootstrap([(60, mean_of(values))], seed=trial, resamples=400)
        low, high = percentile_bounds(drawn)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.98


def test_bootstrap_over_subjects_covers_where_items_alone_do_not() -> None:
    rng = np.random.default_rng(1)
    nested = flat = 0
    for trial in range(150):
        values = rng.normal(size=(12, 1)) + rng.normal(size=(12, 20))
        drawn = nested_bootstrap([(20, mean_of(row)) for row in values], seed=trial, resamples=400)
        low, high = percentile_bounds(drawn)
        nested += low <= 0.0 <= high
        pooled = nested_bootstrap([(240, mean_of(values.ravel()))], seed=trial, resamples=400)
        low, high = percentile_bounds(pooled)
        flat += low <= 0.0 <= high
    assert 0.85 <= nested / 150 <= 0.99
    assert flat / 150 < 0.6


def test_resamples_have_the_known_spread() -> None:
    values = np.random.default_rng(2).normal(size=50)
    drawn = nested_bootstrap([(50, mean_of(values))], seed=0, resamples=20_000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / np.sqrt(50), rel=0.03)


def test_equal_seeds_equal_resamples_and_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subjects = [(7, mean_of(np.arange(7.0))), (9, mean_of(np.arange(9.0)))]
    first = nested_bootstrap(subjects, seed=3, resamples=100)
    assert np.array_equal(first, nested_bootstrap(subjects, seed=3, resamples=100))
    assert not np.array_equal(first, nested_bootstrap(subjects, seed=4, resamples=100))
    monkeypatch.setattr("neurosweep.evaluation.intervals._CHUNK", 20)
    assert np.array_equal(first, nested_bootstrap(subjects, seed=3, resamples=100))


def test_wilson_golden_values() -> None:
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_is_symmetric(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    low, high = wilson(successes, total)
    assert 0.0 <= low <= successes / total <= high <= 1.0
    assert low < high
    mirrored = wilson(total - successes, total)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("successes", "total"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        wilson(successes, total)


def test_paired_difference_sees_what_separate_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(size=80)
    first = {str(i): float(value) for i, value in enumerate(hard)}
    second = {str(i): float(value + 0.02 + 0.01 * rng.normal()) for i, value in enumerate(hard)}
    subjects = dict.fromkeys(first, "s1")
    difference = paired_difference(first, second, subjects, seed=0)
    assert difference.mean == pytest.approx(-0.02, abs=0.005)
    assert difference.low < difference.mean < difference.high < 0.0
    assert difference.p_value < 0.01
    swapped = paired_difference(second, first, subjects, seed=0)
    assert swapped.mean == pytest.approx(-difference.mean)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))


def test_paired_difference_of_equals_is_nothing() -> None:
    values = {str(i): i / 10 for i in range(10)}
    subjects = {item: str(int(item) % 3) for item in values}
    difference = paired_difference(values, values, subjects, seed=0)
    assert (difference.mean, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert difference.p_value == 1.0


def test_paired_difference_weighs_subjects_equally() -> None:
    first = {"a0": 1.0} | {f"b{i}": 0.0 for i in range(9)}
    second = dict.fromkeys(first, 0.0)
    subjects = {item: item[0] for item in first}
    assert paired_difference(first, second, subjects, seed=0).mean == 0.5


def test_paired_difference_needs_the_same_items() -> None:
    with pytest.raises(ValueError, match=r"not shared: \['b'\]"):
        paired_difference({"a": 0.0, "b": 0.0}, {"a": 0.0}, {"a": "s", "b": "s"}, seed=0)
    with pytest.raises(ValueError, match="same items"):
        paired_difference({}, {}, {}, seed=0)
