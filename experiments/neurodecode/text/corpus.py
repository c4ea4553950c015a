"""Sentences that are shipped, normalised to the letters a to z and the space.

``python -m neurodecode.text.corpus SOURCE_FOLDER`` makes the files again from the lists of
Common Voice (CC0) and of Tatoeba (CC BY 2.0 FR).
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from neurosweep.core.errors import DataError

MIN_WORDS = 2
MAX_WORDS = 12
MAX_CHARACTERS = 80
SOURCES: dict[str, tuple[str, ...]] = {
    "cc0": (
        "common_voice_cc0/en_sentence-collector.txt",
        "common_voice_cc0/en_harvsents.txt",
    ),
    "tatoeba": ("tatoeba/eng_sentences.txt",),
}
_PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?"\u201c\u201d', " "))
_ACRONYM = re.compile(r"[A-Z]{2}")
_PLAIN = re.compile(r"[a-z]{2,}|a|i")


def normalise_sentence(line: str) -> str | None:
    """Return a sentence in the letters a to z and the space, or None for one left out.

    Parameters
    ----------
    line
        A written sentence.

    Returns
    -------
    str or None
        Lower case, without quotes and sentence punctuation, words parted by single spaces. None
        when that would not be what was written: digits, apostrophes, hyphens, accents and other
        signs, abbreviations in capitals, single letters other than "a" and "i"; and when
        there are fewer than 2 or more than 12 words, or more than 80 characters.
    """
    words = line.translate(_PUNCTUATION).split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or any(_ACRONYM.search(word) for word in words):
        return None
    text = " ".join(words).lower()
    plain = all(_PLAIN.fullmatch(word) for word in text.split(" "))
    return text if plain and len(text) <= MAX_CHARACTERS else None


@cache
def load_sentences() -> tuple[str, ...]:
    """Return the sentences without any condition of use (CC0), sorted: those that are typed."""
    return _read("cc0")


@cache
def load_tatoeba() -> tuple[str, ...]:
    """Return the sentences of tatoeba.org by way of manythings.org/anki (CC BY 2.0 FR), sorted."""
    return _read("tatoeba")


def _read(name: str) -> tuple[str, ...]:
    packed = files("neurodecode.text").joinpath("files", f"{name}.txt.gz").read_bytes()
    return tuple(gzip.decompress(packed).decode("ascii").splitlines())


def normalise_all(lines: Iterable[str]) -> list[str]:
    """Return the distinct normalised sentences, sorted."""
    return sorted({text for text in map(normalise_sentence, lines) if text is not None})


def pack(sentences: Sequence[str]) -> bytes:
    """Return sentences, one a line, compressed; equal sentences give equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write("".join(f"{text}\n" for text in sentences).encode("ascii"))
    return buffer.getvalue()


def make_files(source: Path, folder: Path) -> dict[str, int]:
    """Write the files of sentences.

    Parameters
    ----------
    source
        Folder with `SOURCES`.
    folder
        Gets ``cc0.txt.gz`` and ``tatoeba.txt.gz``.

    Returns
    -------
    dict
        Sentences in every file.

    Raises
    ------
    DataError
        When a list is missing.
    """
    counts = {}
    for name, parts in SOURCES.items():
        missing = [part for part in parts if not (source / part).is_file()]
        if missing:
            msg = f"{source}: has no {', '.join(missing)}; give the folder that holds"
            raise DataError(f"{msg} common_voice_cc0/ and tatoeba/")
        lines = (
            line
            for part in parts
            for line in (source / part).read_text(encoding="utf-8").splitlines()
        )
        sentences = normalise_all(lines)
        (folder / f"{name}.txt.gz").write_bytes(pack(sentences))
        counts[name] = len(sentences)
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the shipped files again."""
    parser = argparse.ArgumentParser(prog="python -m neurodecode.text.corpus", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with common_voice_cc0/ and tatoeba/")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "files")
    options = parser.parse_args(arguments)
    make_files(options.source, options.out)


if __name__ == "__main__":
    main()
