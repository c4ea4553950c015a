from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.report.labels import Label, place_labels
from neurosweep.report.scales import value_limits
from neurosweep.report.stats import expected_luck, group_of, importance, mean_sd, ranks

finite = st.floats(min_value=-100, max_value=100, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=30))
def test_ranks_sum_to_what_numbers_from_one_sum_to(values: list[float]) -> None:
    found = ranks(values)
    assert found.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)
    assert np.all((np.argsort(values) >= 0) == (np.argsort(found) >= 0))


def test_ranks_average_ties() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_importance_sees_an_effect_that_falls_and_rises() -> None:
    settings = [i / 60 for i in range(60)]
    found = importance(settings, [(s - 0.5) ** 2 for s in settings], seed=0)
    assert found is not None
    assert found.share > 0.7
    assert found.stands_out


def test_importance_of_an_unrelated_parameter_is_near_zero() -> None:
    rng = np.random.default_rng(3)
    found = importance(rng.random(100).tolist(), rng.random(100).tolist(), seed=0)
    assert found is not None
    assert found.share < 0.1
    assert not found.stands_out


def test_importance_equals_the_kruskal_wallis_effect_size() -> None:
    from scipy.stats import kruskal

    rng = np.random.default_rng(1)
    settings = ["a", "b", "c"] * 12
    objective = [float(v) + (s == "b") for s, v in zip(settings, rng.random(36), strict=True)]
    groups = [[o for s, o in zip(settings, objective, strict=True) if s == g] for g in "abc"]
    found = importance(settings, objective, seed=0)
    assert found is not None
    assert found.share == pytest.approx((kruskal(*groups).statistic - 2) / 33)


def test_importance_needs_enough_trials_and_two_groups() -> None:
    assert importance([1, 2] * 4, [0.1] * 8, seed=0) is None
    assert importance(["a"] * 20, list(map(float, range(20))), seed=0) is None


def test_importance_is_the_same_every_time() -> None:
    rng = np.random.default_rng(5)
    values = rng.random(40).tolist(), rng.random(40).tolist()
    assert importance(*values, seed=2) == importance(*values, seed=2)


def test_groups_are_choices_or_quantiles() -> None:
    groups, names = group_of([16, 64, 16, 128])
    assert (groups.tolist(), names) == ([0, 1, 0, 2], ["16", "64", "128"])
    groups, names = group_of([i / 10 for i in range(60)])
    assert np.bincount(groups).tolist() == [10] * 6
    groups, names = group_of([True, False, True])
    assert names == ["False", "True"]


def test_expected_luck_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    simulated = rng.normal(size=(4000, 100)).max(axis=1).mean()
    assert expected_luck(1.0, 100) == pytest.approx(simulated, rel=0.02)
    assert expected_luck(0.5, 1) == 0.0


def test_mean_and_standard_deviation() -> None:
    assert mean_sd([2.0]) == (2.0, 0.0)
    assert mean_sd([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


@given(
    st.lists(finite, min_size=1, max_size=40),
    st.lists(finite, max_size=3),
    st.booleans(),
    st.none() | finite,
)
def test_the_axis_always_holds_the_best_and_the_default(
    values: list[float], extra: list[float], minimize: bool, chance: float | None
) -> None:
    low, high = value_limits(values, minimize, chance, extra)
    best = min(values) if minimize else max(values)
    assert low < high
    assert all(low <= value <= high for value in [best, *extra])


def test_far_outliers_do_not_flatten_the_axis() -> None:
    low, high = value_limits([0.2 + i / 1000 for i in range(100)] + [50.0], True, 0.9, [])
    assert 0.19 < low < 0.2
    assert high < 0.6


labels = st.lists(
    st.tuples(st.floats(min_value=0, max_value=600), st.floats(min_value=10, max_value=250)),
    max_size=12,
)


@given(labels, st.integers(min_value=1, max_value=8))
def test_placed_labels_never_meet(sizes: list[tuple[float, float]], rows: int) -> None:
    wanted = [Label(i, x, width, "t") for i, (x, width) in enumerate(sorted(sizes))]
    placed = place_labels(wanted, 700.0, rows)
    for one in placed:
        assert one.row < rows
        for other in placed:
            if one.key < other.key and one.row == other.row:
                first, second = sorted((one.span, other.span))
                assert first[1] < second[0]
            if one.row > other.row:
                assert not other.span[0] <= one.x <= other.span[1]


def test_the_last_label_always_fits_and_turns_at_the_edge() -> None:
    placed = place_labels([Label(0, 10, 100, "a"), Label(1, 690, 100, "b")], 700.0, 2)
    assert [label.flipped for label in placed] == [False, True]
