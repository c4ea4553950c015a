from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.text import corpus
from neurodecode.text.corpus import load_sentences, load_tatoeba, normalise_sentence
from neurosweep.core.errors import DataError

SOURCE = Path(__file__).parents[2].parent / "shared" / "data" / "text"
SHIPPED = files("neurodecode.text").joinpath("files")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("The birch canoe slid on the smooth planks.", "the birch canoe slid on the smooth planks"),
        ('"A fog, miss," said the young gentleman.', "a fog miss said the young gentleman"),
        ("\u201cWhere to?\u201d I asked; he ran!", "where to i asked he ran"),
        ("Wait\u2026 what", None),
        ("It's easy", None),
        ("It\u2019s easy", None),
        ("a ball-point pen", None),
        ("room 12", None),
        ("a na\u00efve answer", None),
        ("the NASA is here", None),
        ("at 3 p.m.", None),
        ("he came at p.m. today", None),
        ("plan b is ready", None),
        ("O captain", None),
        ("alone.", None),
        ("", None),
        ("one two three four five six seven eight nine ten eleven twelve thirteen", None),
        ("i am a b", None),
        ("a " + "x" * 79, None),
        ("a " + "x" * 78, "a " + "x" * 78),
    ],
)
def test_what_is_kept_and_what_is_left_out(line, text):
    assert normalise_sentence(line) == text


@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab iI.,'\"?-\t 1", max_size=40)
)
def test_normalised_text_is_of_the_alphabet_and_stays_as_it_is(line):
    text = normalise_sentence(line)
    if text is not None:
        assert set(text) <= set(SYMBOLS)
        assert re.fullmatch(r"[a-z]+( [a-z]+){1,11}", text)
        assert normalise_sentence(text) == text
        assert normalise_sentence(f'"{text.capitalize()}."') == text


@pytest.mark.parametrize(("load", "least"), [(load_sentences, 30_000), (load_tatoeba, 60_000)])
def test_shipped_sentences_are_normalised_distinct_and_sorted(load, least):
    sentences = load()
    assert len(sentences) >= least
    assert list(sentences) == sorted(set(sentences))
    assert all(normalise_sentence(text) == text for text in sentences)


def test_shipped_files_are_small_and_name_their_sources():
    sizes = {file.name: len(file.read_bytes()) for file in SHIPPED.iterdir()}
    assert set(sizes) == {"cc0.txt.gz", "tatoeba.txt.gz", "SOURCES.md"}
    assert sum(sizes.values()) < 2_500_000
    named = SHIPPED.joinpath("SOURCES.md").read_text()
    for words in ("CC0 1.0", "CC BY 2.0 FR", "https://tatoeba.org", "manythings.org/anki"):
        assert words in named


def make_source(folder: Path, sentences: dict[str, str]) -> Path:
    for part, text in sentences.items():
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text(text, encoding="utf-8")
    return folder


def test_files_are_made_from_the_lists_with_equal_bytes_every_time(tmp_path):
    source = make_source(
        tmp_path / "source",
        {
            "common_voice_cc0/en_sentence-collector.txt": "We run.\nwe run\n\nIt's me\n",
            "common_voice_cc0/en_harvsents.txt": "Glue the sheet.\n",
            "tatoeba/eng_sentences.txt": "Tom sat.\n",
        },
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        corpus.main([str(source), "--out", str(tmp_path / name)])
    made = (tmp_path / "a" / "cc0.txt.gz").read_bytes()
    assert gzip.decompress(made).decode() == "glue the sheet\nwe run\n"
    assert gzip.decompress((tmp_path / "a" / "tatoeba.txt.gz").read_bytes()) == b"tom sat\n"
    assert made == (tmp_path / "b" / "cc0.txt.gz").read_bytes()


def test_a_missing_list_is_named(tmp_path):
    make_source(tmp_path, {"tatoeba/eng_sentences.txt": "Tom sat.\n"})
    with pytest.raises(DataError, match=r"has no common_voice_cc0/en_sentence-collector\.txt, "):
        corpus.make_files(tmp_path, tmp_path)


@pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the lists are not at {SOURCE}")
def test_the_shipped_files_are_what_the_lists_give(tmp_path):
    corpus.make_files(SOURCE, tmp_path)
    for name in ("cc0.txt.gz", "tatoeba.txt.gz"):
        made, shipped = (tmp_path / name).read_bytes(), SHIPPED.joinpath(name).read_bytes()
        assert gzip.decompress(made) == gzip.decompress(shipped)
