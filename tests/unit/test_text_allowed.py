from __future__ import annotations

import json
import random
from importlib.resources import files

import pytest
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from neurodecode.llm._pretrain_files import text_sha
from neurodecode.text.corpus import load_sentences, load_tatoeba
from neurodecode.text.near_duplicates import THRESHOLD, allowed_text, content_words, near_duplicates
from neurosweep.evaluation.splits import part_of_text, split_score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def allowed():
    return allowed_text()


@pytest.fixture(scope="module")
def scores():
    return {text: split_score(text) for text in {*load_sentences(), *load_tatoeba()}}


def test_no_language_model_learns_from_text_that_is_scored(allowed, scores):
    assert list(allowed) == sorted(set(allowed))
    assert max(scores[text] for text in allowed) < 0.8
    assert {part_of_text(text) for text in random.Random(0).sample(allowed, 10_000)} == {"train"}
    below = sum(score < 0.8 for score in scores.values())
    assert 0.8 * below < len(allowed) < 0.9 * below


def test_no_language_model_learns_from_a_near_duplicate_of_what_is_scored(allowed, scores):
    protected = sorted(text for text, score in scores.items() if score >= 0.8)
    same = {content_words(text) for text in protected if len(content_words(text)) >= 2}
    assert not [text for text in allowed if content_words(text) in same]
    for text in random.Random(0).sample(protected, 80):
        found = process.extractOne(text, allowed, scorer=Levenshtein.normalized_similarity)
        assert found[1] < THRESHOLD, (text, found[0])


def test_the_text_has_no_near_duplicate_left(allowed, scores):
    protected = [text for text, score in scores.items() if score >= 0.8]
    assert near_duplicates(allowed, protected) == set()
    # The search itself finds what is there.
    assert near_duplicates([*allowed[:50], protected[0] + "s"], protected) == {50}


def test_the_shipped_language_model_was_trained_on_the_allowed_text_alone(allowed):
    manifest = json.loads(files("neurodecode.llm").joinpath("shipped/manifest.json").read_text())
    assert manifest["text"]["sha256"] == text_sha(allowed)
    assert manifest["text"]["sentences"] == len(allowed)
    assert manifest["text"]["characters"] == sum(map(len, allowed))
