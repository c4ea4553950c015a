"""Text from CTC frames: greedy words and the prefix beam search against all paths."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.decoding.alphabet import NUM_CLASSES, SPACE, encode, greedy_text
from neurodecode.decoding.ctc import greedy, prefix_beam

FloatArray = npt.NDArray[np.float64]


def _lattice(path: list[int]) -> FloatArray:
    log_p_FK = np.full((len(path), NUM_CLASSES), -9.0)
    log_p_FK[np.arange(len(path)), path] = -0.01
    return log_p_FK


def _all_texts(log_p_FK: FloatArray) -> dict[str, float]:
    """Return the log-probability of every text, summed over all paths."""
    total: dict[str, float] = defaultdict(float)
    frames, classes = log_p_FK.shape
    for path in itertools.product(range(classes), repeat=frames):
        log_p = sum(log_p_FK[frame, k] for frame, k in enumerate(path))
        total[greedy_text(path)] += math.exp(log_p)
    return {text: math.log(p) for text, p in total.items()}


def _random_lattice(frames: int, classes: int, seed: int) -> FloatArray:
    logits = 2.0 * np.random.default_rng(seed).normal(size=(frames, classes))
    lattice: FloatArray = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return lattice


def test_greedy_collapses_repeats_and_drops_blanks() -> None:
    assert greedy_text([3, 3, 0, 3, 27, 1, 1]) == "cc a"
    assert greedy(_lattice([3, 3, 0, 3, 27, 1, 1])).text == "cc a"


@pytest.mark.parametrize(
    ("path", "text", "frames"),
    [
        ([3, 3, 0, 3, 27, 1, 1], "cc a", [(0, 4), (5, 7)]),
        ([0, 1, 0, 27, 27, 0, 2, 0], "a b", [(0, 3), (5, 8)]),
        ([27, 1, 27, 0, 0, 27, 2, 27], "a b", [(1, 2), (6, 7)]),
        ([0, 0, 0], "", [(0, 3)]),
        ([0, 27, 0], "", [(0, 3)]),
        ([20, 8, 5], "the", [(0, 3)]),
    ],
)
def test_words_are_cut_at_spaces(path: list[int], text: str, frames: list[tuple[int, int]]) -> None:
    found = greedy(_lattice(path))
    assert found.text == text
    assert list(found.word_frames) == frames


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 1, 2, SPACE]), min_size=1, max_size=25))
def test_every_word_of_the_text_has_its_frames(path: list[int]) -> None:
    found = greedy(_lattice(path))
    assert found.text == " ".join(greedy_text(path).split())
    assert len(found.word_frames) == max(1, len(found.text.split()))
    words = [greedy_text(path[first:end]) for first, end in found.word_frames]
    if found.text:
        assert words == found.text.split()
    starts = [edge for frames in found.word_frames for edge in frames]
    assert starts == sorted(starts)


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 5), classes=st.integers(2, 4), seed=st.integers(0, 10_000))
def test_a_wide_beam_finds_the_exact_probability_of_every_text(
    frames: int, classes: int, seed: int
) -> None:
    log_p_FK = _random_lattice(frames, classes, seed)
    expected = _all_texts(log_p_FK)
    found = prefix_beam(log_p_FK, beam=5000, nbest=5000)
    assert dict(found).keys() == expected.keys()
    for text, log_p in found:
        assert log_p == pytest.approx(expected[text], abs=1e-9)
    assert [log_p for _, log_p in found] == sorted((p for _, p in found), reverse=True)


@settings(max_examples=25, deadline=None)
@given(beam=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_a_narrow_beam_never_claims_more_than_the_truth(beam: int, seed: int) -> None:
    log_p_FK = _random_lattice(5, 4, seed)
    expected = _all_texts(log_p_FK)
    found = prefix_beam(log_p_FK, beam, nbest=3)
    assert 1 <= len(found) <= min(3, beam)
    assert all(log_p <= expected[text] + 1e-9 for text, log_p in found)


def test_the_beam_sums_paths_where_greedy_takes_one() -> None:
    """Blank is the likeliest of every frame, yet most paths spell an a."""
    log_p_FK = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert greedy(log_p_FK).text == ""
    text, log_p = prefix_beam(log_p_FK, beam=4, nbest=1)[0]
    assert (text, math.exp(log_p)) == ("a", pytest.approx(0.64))


def test_a_sure_lattice_is_read_alike_by_both() -> None:
    ids = [k for letter in encode("hello all") for k in (letter, 0)]
    assert greedy(_lattice(ids)).text == "hello all"
    assert prefix_beam(_lattice(ids), beam=8, nbest=2)[0][0] == "hello all"


def test_outputs_beyond_the_alphabet_spell_nothing() -> None:
    log_p_FK = np.full((3, NUM_CLASSES + 1), -9.0)
    log_p_FK[[0, 1, 2], [1, NUM_CLASSES, 2]] = -0.1
    assert greedy(log_p_FK).text == "ab"
    assert prefix_beam(log_p_FK, beam=100, nbest=1)[0][0] in {"a", "ab", "b"}


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="beam is 0 and nbest 1; both must be at least 1"):
        prefix_beam(np.zeros((1, 3)), 0, 1)
