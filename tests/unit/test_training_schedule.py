"""The course of the learning rate."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodecode.training.schedule import warmup_cosine


def test_it_rises_in_a_line_and_falls_to_nothing() -> None:
    course = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert course[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert course[10] == 1.0
    assert course[55] == pytest.approx(0.5)
    assert course[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(course[10:]))


@given(st.integers(1, 5000), st.floats(0.0, 0.5), st.integers(0, 6000))
def test_it_stays_between_nothing_and_the_peak(total: int, warmup: float, step: int) -> None:
    assert 0.0 <= warmup_cosine(step, total, warmup) <= 1.0
