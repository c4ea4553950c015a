"""Wrong words of a sentence, marked as the word error rate counts them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.evaluation.rates import text_edits
from neurosweep.report.marks import marked


def _plain(html: str) -> str:
    return re.sub(r'<span class="heard">\w+: </span>', "", html)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "html"),
    [
        ("the cat sat", "the cat sat", "the cat sat"),
        ("the cat sat", "the  cat sat ", "the cat sat"),
        ("the cat sat", "the hat sat", 'the <mark class="wrong">hat</mark> sat'),
        ("the cat sat", "the cat", "the cat <del>sat</del>"),
        ("the cat sat", "", "<del>the</del> <del>cat</del> <del>sat</del>"),
        ("the cat", "the big cat", 'the <mark class="added">big</mark> cat'),
        ("a <b>", "a <i>", 'a <mark class="wrong">&lt;i&gt;</mark>'),
        ("<b> & c", "c", "<del>&lt;b&gt;</del> <del>&amp;</del> c"),
        ("the cat", "the\x00\u202e cat", "the cat"),
    ],
)
def test_wrong_added_and_missing_words(reference: str, hypothesis: str, html: str) -> None:
    assert _plain(marked(reference, hypothesis)) == html


def test_who_hears_the_page_is_told_too() -> None:
    assert '<mark class="wrong"><span class="heard">wrong: </span>hat</mark>' in marked(
        "cat", "hat"
    )


def test_an_endless_hypothesis_is_cut() -> None:
    assert len(marked("cat", "x" * 10_000)) < 600


texts = st.text("abc <>&\x00\u202e{}", min_size=0, max_size=30)


@settings(max_examples=60, deadline=None)
@given(texts.filter(lambda text: text.strip("\x00\u202e ")), texts)
def test_marks_are_as_many_as_edits_and_everything_is_escaped(
    reference: str, hypothesis: str
) -> None:
    html = _plain(marked(reference, hypothesis))
    tags = re.findall(r"<[^>]*>", html)
    allowed = {'<mark class="wrong">', '<mark class="added">', "</mark>", "<del>", "</del>"}
    assert set(tags) <= allowed
    if not re.search("[\x00\u202e]", reference + hypothesis):
        edits = text_edits({"a": reference}, {"a": hypothesis})["a"][0]
        assert len([tag for tag in tags if not tag.startswith("</")]) == edits.total
