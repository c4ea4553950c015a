"""Text and word vectors of a reading, residuals, and spoiled words for training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _readings import HIDDEN, NUM_FEATURES, SCALE, reading, readings, sentences, targets

from neurodecode.llm.alignment import edit_distance
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.features import SentenceWords, noisy_words, read_words
from neurodecode.llm.projector import Projector
from neurodecode.llm.residuals import Residuals


@pytest.fixture
def projector() -> Projector:
    torch.manual_seed(0)
    return Projector(NUM_FEATURES, 24, HIDDEN)


def words_like(texts: list[str], cosine: float, seed: int = 0) -> list[SentenceWords]:
    """Return sentences read rightly, whose vectors have one cosine with the true ones."""
    rng = np.random.default_rng(seed)
    found = []
    for text in texts:
        rows = []
        for word in text.split():
            true_H = targets()(word) / SCALE
            noise_H = rng.standard_normal(HIDDEN)
            noise_H -= (noise_H @ true_H) * true_H
            noise_H /= np.linalg.norm(noise_H)
            rows.append(SCALE * (cosine * true_H + np.sqrt(1 - cosine**2) * noise_H))
        found.append(SentenceWords("s/r/1", text, np.array(rows, dtype=np.float32), text))
    return found


def test_every_word_of_the_text_has_a_vector_of_one_length(projector: Projector) -> None:
    texts = [*sentences(6, 0), "tree"]
    found = read_words(readings(texts, 0), projector, SCALE, texts)
    assert [one.greedy for one in found] == texts
    assert [one.typed for one in found] == texts
    for one in found:
        assert one.words_WH.shape == (len(one.greedy.split()), HIDDEN)
        assert np.linalg.norm(one.words_WH, axis=1) == pytest.approx(SCALE, rel=1e-5)


def test_vectors_do_not_depend_on_what_is_read_beside(projector: Projector) -> None:
    texts = sentences(5, 1)
    together = read_words(readings(texts, 0), projector, SCALE)
    for number, one in enumerate(together):
        (alone,) = read_words([reading(texts[number], number)], projector, SCALE)
        assert np.allclose(alone.words_WH, one.words_WH, atol=1e-5)
        assert one.typed is None


def test_a_reading_without_a_word_is_one_word(projector: Projector) -> None:
    (found,) = read_words([reading(" ", 0)], projector, SCALE)
    assert found.greedy == ""
    assert found.words_WH.shape == (1, HIDDEN)


def test_targets_have_the_length_of_an_embedding() -> None:
    known = targets()
    assert np.linalg.norm(known("tree")) == pytest.approx(SCALE)
    assert known("tree") is known("tree")


def test_residuals_know_how_far_and_how_wrong_each_word_was() -> None:
    residuals = Residuals.measure(words_like(["the old tree", "in summer"], 0.6), targets())
    assert residuals.cosine_R == pytest.approx([0.6] * 5, abs=1e-5)
    assert residuals.length_R == (3, 3, 4, 2, 6)
    assert residuals.errors_R == (0,) * 5
    assert np.linalg.norm(residuals.noise_RH, axis=1) == pytest.approx(0.8, abs=1e-5)


def test_a_word_read_out_of_two_counts_against_the_nearer() -> None:
    sentence = SentenceWords("s/r/1", "th tree", np.ones((2, HIDDEN), np.float32), "the old tree")
    residuals = Residuals.measure([sentence], targets())
    assert residuals.errors_R == (1, 0)
    empty = SentenceWords("s/r/2", "", np.ones((1, HIDDEN), np.float32), "the old tree")
    assert Residuals.measure([empty], targets()).length_R == (0,)
    assert len(Residuals.measure([], targets())) == 0


def test_a_spoiled_vector_is_as_far_off_as_the_words_of_dev() -> None:
    residuals = Residuals.measure(words_like(sentences(20, 3), 0.7), targets())
    rng = np.random.default_rng(0)
    for word in ("river", "walks", "queen"):
        true_H = targets()(word)
        spoiled_H = residuals.spoil(word, word, targets(), rng)
        assert np.linalg.norm(spoiled_H) == pytest.approx(SCALE, rel=1e-5)
        assert float(spoiled_H @ true_H) / SCALE**2 == pytest.approx(0.7, abs=1e-4)


def test_words_read_wrongly_get_the_vectors_of_such_words() -> None:
    right = Residuals.measure(words_like(sentences(20, 3), 0.9), targets())
    wrong = Residuals.measure(words_like(sentences(20, 4), 0.2), targets())
    both = Residuals(
        np.concatenate([right.noise_RH, wrong.noise_RH]),
        np.concatenate([right.cosine_R, wrong.cosine_R]),
        np.concatenate([right.toward_R, wrong.toward_R]),
        right.length_R + wrong.length_R,
        right.errors_R + (2,) * len(wrong),
    )
    rng = np.random.default_rng(0)
    true_H = targets()("tree")
    cosines = {
        read: [
            float(both.spoil("tree", read, targets(), rng) @ true_H) / SCALE**2 for _ in range(9)
        ]
        for read in ("tree", "rte")
    }
    assert min(cosines["tree"]) > 0.85
    assert max(cosines["rte"]) < 0.25


def between(true: str, read: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a noisy vector between a true word and the one that was read."""
    middle_H = (1 - share) * targets()(true) + share * targets()(read)
    noisy_H = middle_H / np.linalg.norm(middle_H) + 0.1 * rng.standard_normal(HIDDEN)
    return np.asarray(SCALE * noisy_H / np.linalg.norm(noisy_H), dtype=np.float32)


def test_the_vector_of_a_wrong_word_leans_to_what_was_read() -> None:
    rng = np.random.default_rng(0)
    pairs = [("the", "thx"), ("bird", "bjrd"), ("tree", "trqe"), ("river", "rwver")] * 10
    dev = [
        SentenceWords("s/r/1", read, between(true, read, 0.7, rng)[None], true)
        for true, read in pairs
    ]
    residuals = Residuals.measure(dev, targets())
    assert residuals.toward_R.min() > 0.05
    known = targets()
    for true, read in (("walks", "wzlks"), ("summer", "svmmer")):
        true_H, read_H = known(true) / SCALE, known(read) / SCALE
        aside_H = read_H - (read_H @ true_H) * true_H
        for _ in range(5):
            spoiled_H = residuals.spoil(true, read, known, rng) / SCALE
            assert np.linalg.norm(spoiled_H) == pytest.approx(1.0, rel=1e-5)
            leaning = float(spoiled_H @ aside_H) / np.linalg.norm(aside_H)
            assert np.abs(residuals.toward_R - leaning).min() < 1e-4
    anagram = residuals.spoil("tree", "eert", known, rng)
    assert np.isfinite(anagram).all()
    assert np.isfinite(residuals.spoil("tree", "", known, rng)).all()


def test_without_a_residual_vectors_are_true() -> None:
    known = targets()
    none = Residuals.measure([], known)
    assert none.spoil("tree", "tre", known, np.random.default_rng(0)) is known("tree")


def test_residuals_that_do_not_match_are_refused() -> None:
    noise_RH, cosine_R = np.zeros((2, HIDDEN), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="of each word"):
        Residuals(noise_RH, cosine_R, cosine_R, (1, 2), (0,))
    with pytest.raises(ValueError, match="finite"):
        Residuals(noise_RH, cosine_R, cosine_R * np.nan, (1, 2), (0, 0))


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_noisy_words_are_as_wrong_as_those_of_dev(wrong: float, projector: Projector) -> None:
    texts = sentences(40, 5)
    dev = read_words(readings(texts, 0, wrong), projector, SCALE, texts)
    confusions = Confusions.fit([(one.typed or "", one.greedy) for one in dev])
    residuals = Residuals.measure(dev, targets())
    rng = np.random.default_rng(1)
    pairs, cosines = [], []
    for typed in sentences(150, 6):
        text, words_WH = noisy_words(typed, confusions, residuals, targets(), rng)
        pairs.append((typed, text))
        assert words_WH.dtype == np.float32
        assert words_WH.shape == (max(1, len(text.split())), HIDDEN)
        if len(text.split()) == len(typed.split()):
            true_WH = np.stack([targets()(word) for word in typed.split()])
            cosines += ((words_WH * true_WH).sum(axis=1) / SCALE**2).tolist()
    cer = sum(edit_distance(*pair) for pair in pairs) / sum(len(typed) for typed, _ in pairs)
    assert cer == pytest.approx(confusions.cer, rel=0.1, abs=1e-9)
    assert np.mean(cosines) == pytest.approx(residuals.cosine_R.mean(), abs=0.1)


def test_noisy_words_are_the_same_for_the_same_draws() -> None:
    texts = sentences(20, 5)
    dev = words_like(texts, 0.5)
    confusions, residuals = (
        Confusions.fit([(t, t[1:]) for t in texts]),
        Residuals.measure(dev, targets()),
    )
    one, two = (
        noisy_words("the old tree", confusions, residuals, targets(), np.random.default_rng(2))
        for _ in range(2)
    )
    assert one[0] == two[0]
    assert np.array_equal(one[1], two[1])


def test_an_empty_typed_text_is_one_word() -> None:
    confusions = Confusions.fit([("the old tree", "the old tree")])
    residuals = Residuals.measure([], targets())
    text, words_WH = noisy_words("", confusions, residuals, targets(), np.random.default_rng(0))
    assert text == ""
    assert words_WH.shape == (1, HIDDEN)


@pytest.mark.parametrize(
    ("one", "two", "edits"), [("", "", 0), ("tree", "tree", 0), ("tree", "", 4), ("abc", "xbcd", 2)]
)
def test_edit_distance(one: str, two: str, edits: int) -> None:
    assert edit_distance(one, two) == edit_distance(two, one) == edits
