"""Confusions: counting, smoothing, spoiling text at the same rate, sources, strict JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.llm.alignment import (
    align,
    edit_distance,
    nearest_word,
    source_ranges,
    word_ranges,
    word_sources,
)
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.confusion_counts import keyboard_prior
from neurosweep.core.errors import DataError

TEXT = st.text(SYMBOLS, max_size=12)
SENTENCES = [
    "the bird sings in the old tree",
    "my father drinks a cup of coffee",
    "she walks along the quiet river",
    "we will meet again next summer",
]


def readings(rate: float, seed: int = 0, num: int = 60) -> list[tuple[str, str]]:
    """Spoil sentences by rules of our own, unlike those under test."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(num):
        typed = SENTENCES[number % len(SENTENCES)]
        read = ""
        for char in typed:
            draw = rng.random()
            if draw < rate / 3:
                continue
            if draw < 2 * rate / 3:
                char = SYMBOLS[rng.integers(27)] if char != "e" else "r"
            read += char
            if rng.random() < rate / 4:
                read += "t"
        pairs.append((typed, read))
    return pairs


NOISY = Confusions.fit(readings(0.5))


def cer(pairs: list[tuple[str, str]]) -> float:
    return sum(edit_distance(*pair) for pair in pairs) / sum(len(typed) for typed, _ in pairs)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_edits_turn_the_typed_text_into_the_reading(pairs: list[tuple[str, str]]) -> None:
    for (typed, read), edits in zip(pairs, align(pairs), strict=True):
        assert [e.typed for e in edits if e.kind != "insert"] == list(range(len(typed)))
        assert [e.read for e in edits if e.kind != "delete"] == list(range(len(read)))
        for edit in edits:
            if edit.kind in ("equal", "substitute"):
                assert (typed[edit.typed] == read[edit.read]) == (edit.kind == "equal")
    assert align([]) == []


def test_words_know_where_they_come_from() -> None:
    pairs = [("the old tree", "te oldtree"), ("the old tree", "th e old tre"), ("a b", "")]
    merged, cut, nothing = word_sources(pairs)
    assert merged == [(0, 3), (4, 12)]
    assert cut[-2] == (4, 7)
    assert cut[-1][0] == 8
    assert nothing == []
    assert word_ranges("  a bc ") == [(2, 3), (4, 6)]
    assert source_ranges("xx a", [(0, 0), (0, 0), (3, 4), (4, 5)]) == [(0, 0), (4, 5)]


def test_the_nearest_word_shares_most_or_lies_closest() -> None:
    text = "the old tree"
    assert nearest_word(text, (4, 12)) == (8, 12)
    assert nearest_word(text, (0, 5)) == (0, 3)
    assert nearest_word(text, (12, 12)) == (8, 12)
    assert nearest_word(text, (3, 4)) in [(0, 3), (4, 7)]
    assert nearest_word("  ", (0, 1)) is None


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_a_spoiled_text_has_the_error_rate_that_was_counted(rate: float) -> None:
    pairs = readings(rate)
    confusions = Confusions.fit(pairs)
    assert confusions.cer == pytest.approx(cer(pairs))
    rng = np.random.default_rng(7)
    spoiled = [(typed, confusions.corrupt(typed, rng).text) for typed in SENTENCES * 150]
    assert cer(spoiled) == pytest.approx(confusions.cer, rel=0.06)


def test_the_pattern_of_the_errors_is_kept() -> None:
    pairs = readings(0.3, num=200)
    confusions = Confusions.fit(pairs)
    row = np.array(confusions.substitute[SYMBOLS.index("e")])
    assert SYMBOLS[int(row.argmax())] == "r"
    assert row.max() > 0.7 * row.sum()
    assert SYMBOLS[int(np.argmax(confusions.insert))] == "t"


def test_a_character_never_seen_is_taken_for_a_near_key() -> None:
    confusions = Confusions.fit([("aaaa bbbb cccc", "aaca bbb cacc")])
    row = confusions.substitute[SYMBOLS.index("q")]
    assert row[SYMBOLS.index("w")] > 3 * row[SYMBOLS.index("p")] > 0
    assert confusions.delete[SYMBOLS.index("q")] > 0


def test_the_prior_is_a_probability_and_knows_the_keyboard() -> None:
    prior_KK = keyboard_prior()
    assert np.allclose(prior_KK.sum(axis=1), 1.0)
    assert np.allclose(np.diag(prior_KK), 0.0)
    near = {SYMBOLS[j] for j in np.flatnonzero(prior_KK[SYMBOLS.index("g")] > 0.05)}
    assert near == set("ftyhbv")


def test_readings_without_an_error_stay_as_they_are() -> None:
    confusions = Confusions.fit([(text, text) for text in SENTENCES])
    rng = np.random.default_rng(0)
    assert confusions.cer == 0.0
    assert all(confusions.corrupt(text, rng).text == text for text in SENTENCES)


def test_readings_of_nothing_are_nearly_all_missed() -> None:
    confusions = Confusions.fit([(text, "") for text in SENTENCES])
    rng = np.random.default_rng(0)
    spoiled = [(text, confusions.corrupt(text, rng).text) for text in SENTENCES * 20]
    assert cer(spoiled) > 0.85


@settings(deadline=None, max_examples=60)
@given(TEXT, st.integers(0, 10_000))
def test_every_word_has_a_source_within_the_text(text: str, seed: int) -> None:
    spoiled = NOISY.corrupt(text, np.random.default_rng(seed))
    assert len(spoiled.source) == max(1, len(spoiled.text.split()))
    assert all(0 <= start <= stop <= len(text) for start, stop in spoiled.source)
    assert list(spoiled.source) == sorted(spoiled.source)
    again = NOISY.corrupt(text, np.random.default_rng(seed))
    assert again == spoiled


def test_sentences_differ_as_much_as_those_that_were_read() -> None:
    even = Confusions.fit(readings(0.3, num=200))
    assert even.spread < 0.1
    mixed = readings(0.02, num=100) + readings(0.6, num=100)
    uneven = Confusions.fit(mixed)
    assert uneven.spread > 0.5
    rng = np.random.default_rng(1)

    def sd(confusions: Confusions) -> float:
        pairs = [(text, confusions.corrupt(text, rng).text) for text in SENTENCES * 60]
        return float(np.std([edit_distance(*pair) / len(pair[0]) for pair in pairs]))

    assert sd(uneven) > 1.7 * sd(even)


def test_json_gives_the_same_confusions_back() -> None:
    confusions = Confusions.fit(readings(0.3))
    assert Confusions.from_json(json.loads(json.dumps(confusions.to_json()))) == confusions


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extra": 1}, "exactly"),
        ({"v": 2}, "exactly"),
        ({"cer": "0.3"}, "expected a number"),
        ({"cer": True}, "expected a number"),
        ({"cer": float("nan")}, "finite"),
        ({"spread": -1.0}, "not below 0"),
        ({"symbols": "abc"}, "27 characters"),
        ({"delete": [0.1] * 26}, "27 characters"),
        ({"delete": {}}, "expected a list"),
        ({"delete": [1.0] * 27}, "must not exceed 1"),
        ({"insert": [0.5] * 27}, "must not exceed 1"),
        ({"substitute": [[0.01] * 27] * 27}, "be its own"),
    ],
)
def test_damaged_json_is_refused(change: dict[str, Any], says: str) -> None:
    data = NOISY.to_json() | change
    with pytest.raises(DataError, match=f"{says}.*prepare the features again"):
        Confusions.from_json(data)


def test_missing_json_and_missing_text_are_refused() -> None:
    data = NOISY.to_json()
    del data["insert"]
    with pytest.raises(DataError, match="exactly"):
        Confusions.from_json(data)
    with pytest.raises(DataError, match="must hold exactly"):
        Confusions.from_json([1])
    with pytest.raises(DataError, match="no typed text in dev"):
        Confusions.fit([("", "a")])
    with pytest.raises(ValueError, match="allowed are a-z"):
        Confusions.fit([("été", "a")])
