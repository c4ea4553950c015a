from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.core.errors import DataError
from neurosweep.evaluation.rates import Edits, symbol_edits, text_edits
from neurosweep.evaluation.text import is_symbol, normalise, normalise_symbol

GOLDEN = [
    # The columns: reference; hypothesis; s, d, i, n of words; s, d, i, n of characters.
    ("the cat", "the cat", (0, 0, 0, 2), (0, 0, 0, 7)),
    ("the cat", "", (0, 2, 0, 2), (0, 7, 0, 7)),
    ("the cat", "   ", (0, 2, 0, 2), (0, 7, 0, 7)),
    ("the cat", "the car", (1, 0, 0, 2), (1, 0, 0, 7)),
    ("the cat", "the cat sat", (0, 0, 1, 2), (0, 0, 4, 7)),
    ("the cat sat", "the sat", (0, 1, 0, 3), (0, 4, 0, 11)),
    ("a", "b c d", (1, 0, 2, 1), (1, 0, 4, 1)),
    ("kitten", "sitting", (1, 0, 0, 1), (2, 0, 1, 6)),
]


def _tuple(edits: Edits) -> tuple[int, int, int, int]:
    return edits.substitutions, edits.deletions, edits.insertions, edits.length


@pytest.mark.parametrize(("reference", "hypothesis", "word", "char"), GOLDEN)
def test_golden_counts(
    reference: str,
    hypothesis: str,
    word: tuple[int, int, int, int],
    char: tuple[int, int, int, int],
) -> None:
    words, characters = text_edits({"x": reference}, {"x": hypothesis})["x"]
    assert _tuple(words) == word
    assert _tuple(characters) == char
    assert words.rate == sum(word[:3]) / word[3]
    assert characters.to_dict() == dict(zip("sdin", char, strict=True))


def _distance(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """The definition of the Levenshtein distance, by recursion."""

    @cache
    def tail(i: int, j: int) -> int:
        if i == len(first) or j == len(second):
            return len(first) - i + len(second) - j
        if first[i] == second[j]:
            return tail(i + 1, j + 1)
        return 1 + min(tail(i + 1, j), tail(i, j + 1), tail(i + 1, j + 1))

    return tail(0, 0)


sentences = st.text(alphabet="ab ç", max_size=12)


@settings(max_examples=150, deadline=None)
@given(sentences.filter(lambda text: text.strip()), sentences)
def test_edits_are_the_levenshtein_distance(reference: str, hypothesis: str) -> None:
    words, characters = text_edits({"x": reference}, {"x": hypothesis})["x"]
    truth, guess = normalise(reference), normalise(hypothesis)
    assert words.total == _distance(tuple(truth.split()), tuple(guess.split()))
    assert characters.total == _distance(tuple(truth), tuple(guess))
    for edits, units in (
        (words, (truth.split(), guess.split())),
        (characters, (list(truth), list(guess))),
    ):
        assert edits.length == len(units[0])
        assert edits.length - edits.deletions + edits.insertions == len(units[1])


def test_batch_equals_one_by_one_and_missing_is_deleted() -> None:
    references = {"a": "one two", "b": "three", "c": "four five six"}
    hypotheses = {"a": "one", "c": "four fife six"}
    batch = text_edits(references, hypotheses)
    for item, reference in references.items():
        alone = text_edits({item: reference}, {item: hypotheses.get(item, "")})
        assert batch[item] == alone[item]
    assert _tuple(batch["b"][1]) == (0, 5, 0, 5)


def test_empty_reference_names_the_items() -> None:
    with pytest.raises(DataError, match=r"2 of the references are empty: s1/r/2, s1/r/3"):
        text_edits({"s1/r/1": "ok", "s1/r/2": "", "s1/r/3": " \n"}, {})
    with pytest.raises(DataError, match="s1/r/9"):
        symbol_edits({"s1/r/9": ""}, {"s1/r/9": "a"})
    assert text_edits({}, {}) == {}


def test_long_list_of_empty_references_is_cut() -> None:
    with pytest.raises(DataError, match="and 20 more"):
        text_edits({str(number): "" for number in range(30)}, {})


def test_symbols_are_right_or_wrong_as_a_whole() -> None:
    references = {"a": "left", "b": "left", "c": " ", "d": " ", "e": "left"}
    hypotheses = {"a": "left", "b": "lefx", "c": " ", "d": "", "e": " left"}
    edits = symbol_edits(references, hypotheses)
    assert {item: _tuple(char) for item, (_, char) in edits.items()} == {
        "a": (0, 0, 0, 1),
        "b": (1, 0, 0, 1),
        "c": (0, 0, 0, 1),
        "d": (0, 1, 0, 1),
        "e": (1, 0, 0, 1),
    }
    assert all(word == char for word, char in edits.values())


def test_normalisation_rule() -> None:
    assert normalise("  The\tquick \n  fox's ") == "The quick fox's"
    assert normalise("cafe\u0301") == "caf\u00e9"
    assert normalise_symbol(" ") == " "
    assert normalise_symbol("e\u0301") == "\u00e9"


@given(st.text(max_size=30))
def test_normalisation_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", True), (" ", True), ("left", True), ("two words", False), ("", False), ("  ", False)],
)
def test_is_symbol(text: str, expected: bool) -> None:
    assert is_symbol(text) is expected
