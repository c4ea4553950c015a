from __future__ import annotations

import hashlib
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neurosweep.evaluation.splits import (
    contiguous_folds,
    contiguous_parts,
    dev_score,
    part_of_text,
    split_score,
)

GOLDEN = {
    "the quick brown fox jumps over the lazy dog": 0.5513553576909686,
    "el perro come": 0.12146997829460038,
    "": 0.18497088090188007,
    "a": 0.6375994345606258,
    "hello world": 0.5918334343841887,
    "Glue the sheet to the dark blue background.": 0.9658145453631357,
    "ñandú": 0.41300155978991604,
}


@pytest.mark.parametrize(("text", "expected"), GOLDEN.items())
def test_golden_scores(text: str, expected: float) -> None:
    assert split_score(text) == expected


@given(st.text(max_size=40))
def test_score_is_the_exact_expression(text: str) -> None:
    seed = int(hashlib.sha256(text.encode()).hexdigest(), 16) + 0.0
    assert split_score(text) == random.Random(seed).random()
    score, part = split_score(text), part_of_text(text)
    assert (part == "test") == (score >= 0.9)
    assert (part == "val") == (0.8 <= score < 0.9)
    assert (part == "dev") == (score < 0.8 and dev_score(text) < 0.1)


def test_shares_of_many_sentences() -> None:
    counts = Counter(part_of_text(f"sentence number {number}") for number in range(10_000))
    assert counts["train"] + counts["dev"] == pytest.approx(8000, abs=160)
    assert counts["dev"] == pytest.approx(800, abs=110)
    assert counts["val"] == pytest.approx(1000, abs=120)
    assert counts["test"] == pytest.approx(1000, abs=120)


@given(
    st.integers(3, 400),
    st.integers(0, 3),
    st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.4, 0.0)]),
)
def test_contiguous_parts_are_ordered_blocks(
    num_items: int, gap: int, shares: tuple[float, float, float]
) -> None:
    named = dict(zip(("train", "val", "test"), shares, strict=True))
    try:
        parts = contiguous_parts(num_items, named, gap=gap)
    except ValueError:
        assume(False)
    used = [parts[name] for name, share in named.items() if share > 0]
    assert used[0].start == 0
    assert used[-1].stop == num_items
    for before, after in pairwise(used):
        assert after.start - before.stop == gap
    available = num_items - gap * (len(used) - 1)
    for name, share in named.items():
        assert len(parts[name]) == pytest.approx(share * available, abs=1)


def test_contiguous_parts_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        contiguous_parts(10, {"train": 0.5, "val": 0.4})
    with pytest.raises(ValueError, match="add up to 1"):
        contiguous_parts(10, {"train": 1.5, "val": -0.5})
    with pytest.raises(ValueError, match=r"leave nothing for \['val'\]"):
        contiguous_parts(3, {"train": 0.9, "val": 0.1})
    with pytest.raises(ValueError, match="leave nothing"):
        contiguous_parts(3, {"train": 0.5, "val": 0.5}, gap=5)


@given(st.integers(8, 300), st.integers(2, 10), st.integers(0, 3))
def test_folds_cover_val_once_and_keep_their_distance(
    num_items: int, num_folds: int, gap: int
) -> None:
    try:
        folds = contiguous_folds(num_items, num_folds, gap=gap)
    except ValueError:
        assume(False)
    assert [index for fold in folds for index in fold.val] == list(range(num_items))
    for fold in folds:
        parts = {"train": fold.train, "dev": fold.dev, "val": fold.val}
        owner = {index: name for name, part in parts.items() for index in part}
        assert len(owner) == sum(len(part) for part in parts.values())
        assert list(fold.dev) == list(range(fold.dev[0], fold.dev[-1] + 1))
        assert list(fold.train) == sorted(fold.train)
        for index, name in owner.items():
            near = range(index + 1, min(index + gap + 1, num_items))
            assert {owner.get(other, name) for other in near} == ({name} if near else set())
        assert num_items - len(owner) <= 4 * gap


def test_folds_golden() -> None:
    first, last = contiguous_folds(20, 4, gap=1)[0], contiguous_folds(20, 4, gap=1)[-1]
    assert first.val == (0, 1, 2, 3, 4)
    assert first.dev == (6,)
    assert first.train == tuple(range(8, 20))
    assert last.val == (15, 16, 17, 18, 19)
    assert last.dev == (13,)
    assert last.train == tuple(range(12))
    assert contiguous_folds(10, 5, dev_share=0.0)[1].dev == ()


def test_folds_refuse_what_does_not_fit() -> None:
    for num_items, num_folds in ((10, 1), (3, 4)):
        with pytest.raises(ValueError, match="at least 2 folds"):
            contiguous_folds(num_items, num_folds)
    with pytest.raises(ValueError, match="leave nothing to train"):
        contiguous_folds(4, 2, gap=3)
