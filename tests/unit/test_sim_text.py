"""What the simulator types: keys, slips, moments of key presses, sentences of every part."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.datasets._typing_sim.bundle import read_typing
from neurodecode.datasets._typing_sim.keyboard import (
    LETTERS,
    all_keys,
    key_sequence,
    neighbours,
)
from neurodecode.datasets._typing_sim.options import Config
from neurodecode.datasets._typing_sim.person import log_paces
from neurodecode.datasets._typing_sim.script import draw_sentences, write_scripts
from neurodecode.datasets._typing_sim.typing_times import mean_log_intervals, press_times
from neurodecode.datasets._typing_sim.typos import mistype
from neurosweep.core.config import validate
from neurosweep.core.errors import ConfigError
from neurosweep.evaluation.rates import text_edits
from neurosweep.evaluation.splits import part_of_text

WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=7), min_size=1, max_size=5)
SENTENCES = WORDS.map(" ".join)


def small(**options: Any) -> Config:
    values = {"train_sentences": 4, "val_sentences": 2, "test_sentences": 1, **options}
    return validate(Config, values, "data")


def test_all_fingers_type_and_both_thumbs_press_the_space_bar() -> None:
    keys = all_keys()
    assert "".join(key.name for key in keys[:26]) == LETTERS
    assert {(key.hand, key.finger) for key in keys} == {
        (hand, finger) for hand in ("left", "right") for finger in range(5)
    }
    by_name = {key.name: key for key in keys}
    assert (by_name["f"].hand, by_name["f"].finger, by_name["f"].stretch) == ("left", 3, 0)
    assert (by_name["y"].hand, by_name["y"].reach, by_name["y"].stretch) == ("right", 1, 1)
    assert (by_name["p"].finger, by_name["z"].reach) == (0, -1)


def test_space_is_pressed_by_the_hand_that_did_not_type_last() -> None:
    keys = all_keys()
    hands = [keys[key].hand for key in key_sequence("a l a")]
    assert hands == ["left", "right", "right", "left", "left"]


def test_neighbours_lie_beside_and_are_mutual() -> None:
    assert set(neighbours("s")) == set("adwzx")
    assert set(neighbours("q")) == set("wa")
    assert set(neighbours(" ")) <= set("zxcvbnm")
    for letter in LETTERS:
        assert all(letter in neighbours(other) for other in neighbours(letter))


@settings(deadline=None, max_examples=60)
@given(SENTENCES, st.integers(0, 1000), st.floats(0.0, 1.0))
def test_typed_text_stays_in_the_alphabet(text: str, seed: int, rate: float) -> None:
    typed = mistype(text, rate, np.random.default_rng(seed))
    assert typed
    assert set(typed) <= set(LETTERS + " ")
    assert typed == " ".join(typed.split())
    assert mistype(text, 0.0, np.random.default_rng(seed)) == text


def test_slips_come_at_the_stated_rate() -> None:
    rng = np.random.default_rng(0)
    text = "the quick brown fox jumps over a lazy dog"
    for rate in (0.02, 0.1):
        typed = {str(trial): mistype(text, rate, rng) for trial in range(400)}
        edits = text_edits(dict.fromkeys(typed, text), typed)
        errors = sum(characters.total for _, characters in edits.values())
        # A swap costs two edits, and one slip may hide another.
        assert errors / (400 * len(text)) == pytest.approx(rate * 1.1, rel=0.15)


def test_kinds_of_slips_have_the_counted_shares() -> None:
    shares = read_typing()["slips"]["shares"]
    rng = np.random.default_rng(1)
    text = "sphinx of black quartz judge my vow"
    lengths = [len(mistype(text, 0.01, rng)) - len(text) for _ in range(6000)]
    shorter = np.mean([length == -1 for length in lengths])
    longer = np.mean([length == 1 for length in lengths])
    expected = (shares["doubling"] + shares["insertion"]) / shares["omission"]
    assert longer / shorter == pytest.approx(expected, rel=0.2)


def test_key_intervals_have_the_fitted_spread() -> None:
    timing = read_typing()["timing"]
    rng = np.random.default_rng(2)
    text = "when will the meeting start today " * 200
    logs = np.log(np.diff(press_times(text, 0.0, 1.0, rng)) * 1e3)
    residual = logs - mean_log_intervals(text)
    assert residual.std() == pytest.approx(timing["residual_sd"], rel=0.03)
    assert residual.mean() == pytest.approx(0.0, abs=0.02)
    slower = np.diff(press_times(text, 0.5, 2.0, np.random.default_rng(2)))
    assert np.median(slower) / np.median(np.exp(logs) / 1e3) == pytest.approx(
        2 * np.exp(0.5), rel=0.05
    )


def test_intervals_of_everyday_text_are_those_of_typists() -> None:
    timing = read_typing()["timing"]
    people = np.random.default_rng(3).normal(0.0, timing["user_sd"], 60)
    sentences = draw_sentences(small(train_sentences=30), np.random.default_rng(0))
    rng = np.random.default_rng(4)
    logs = np.concatenate(
        [
            np.log(np.diff(press_times(text, pace, 1.0, rng)) * 1e3)
            for pace in people
            for text in sentences
        ]
    )
    assert logs.mean() == pytest.approx(timing["log_mean"], abs=0.1)
    assert logs.std() == pytest.approx(timing["log_sd"], abs=0.08)
    quantiles = np.exp(np.percentile(logs, [25, 50, 75]))
    assert quantiles == pytest.approx(timing["quantiles_ms"][1:4], rel=0.15)


def test_one_subject_is_a_median_typist_and_many_spread() -> None:
    assert log_paces(small()) == [0.0]
    paces = log_paces(small(subjects=50))
    assert np.std(paces) == pytest.approx(read_typing()["timing"]["user_sd"], rel=0.1)
    assert paces != sorted(paces)


def test_parts_are_filled_by_the_hash_of_the_text_alone() -> None:
    config = small(train_sentences=20, val_sentences=7, test_sentences=3)
    drawn = draw_sentences(config, np.random.default_rng(0))
    parts = [part_of_text(text) for text in drawn]
    assert (parts.count("train") + parts.count("dev"), parts.count("val")) == (20, 7)
    assert parts.count("test") == 3
    assert len(set(drawn)) == 30
    for text in drawn:
        assert 3 <= len(text.split()) <= 6
        assert len(text) <= config.max_chars


def test_recordings_share_the_sentences_in_an_order_of_their_own() -> None:
    config = small(recordings=2)
    sentences = draw_sentences(config, np.random.default_rng(0))
    scripts = write_scripts(sentences, 0.0, config, np.random.default_rng(1))
    typed = [sentence.reference for script in scripts for sentence in script.sentences]
    assert sorted(typed) == sorted(sentences)
    assert typed != sentences
    for script in scripts:
        presses = [sentence.press_s for sentence in script.sentences]
        assert all((np.diff(press_s) > 0).all() for press_s in presses)
        gaps = [b[0] - a[-1] for a, b in pairwise(presses)]
        # Windows of neighbours, 0.4 s before and 0.5 s after, must not meet.
        assert min(gaps) >= 0.9
        assert presses[0][0] >= 0.5
        assert script.duration_s >= presses[-1][-1] + 0.5
        press_s, keys = script.presses()
        assert len(press_s) == len(keys) == len(script.left_hand())
        assert len(keys) == sum(len(sentence.typed) for sentence in script.sentences)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_words": 7}, "data.min_words: is 7, above data.max_words = 6"),
        ({"max_chars": 12, "val_sentences": 500}, "val lacks"),
        ({"recordings": 9}, "data.recordings: is 9, with 7 sentences"),
        ({"layout": "opm65"}, "layout"),
        ({"typo_rate": 0.9}, "typo_rate"),
        ({"moment_nam": -1.0}, "moment_nam"),
        ({"snr": 3.0}, "snr: unknown key"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], expected: str) -> None:
    def draw() -> None:
        config = small(**options)
        sentences = draw_sentences(config, np.random.default_rng(0))
        write_scripts(sentences, 0.0, config, np.random.default_rng(0))

    with pytest.raises(ConfigError) as caught:
        draw()
    assert expected in str(caught.value)
