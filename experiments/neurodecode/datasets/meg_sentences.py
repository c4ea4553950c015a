"""Typed sentences in MEG recordings: files and an events table that the user gives.

Every sentence, from shortly before its first key to shortly after its last, is one item. Its
part (train, dev, val or test) depends on its text alone, so no sentence is in two parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from neurodecode.contracts import Location, Recording, Sentences
from neurodecode.datasets._sentences.items import sentence_items
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.reader import (
    each_sentence_recording,
    read_sentence_recordings,
    sentence_sources,
)

__all__ = ["DEFAULT_FOLDS", "Config", "read", "read_each", "sentences", "sources"]

DEFAULT_FOLDS = 1


class Config(SentenceReadOptions):
    """Where the recordings are, how sentences are cut, and what is accepted."""

    events: Annotated[str, Location(), Field(description="Events table, TSV or CSV")]
    pre_s: Annotated[
        float, Field(ge=0.0, le=5.0, description="Seconds before the first key that are kept")
    ] = 0.4
    post_s: Annotated[
        float, Field(ge=0.0, le=5.0, description="Seconds after the last key that are kept")
    ] = 0.45


def sources(config: Config) -> tuple[Path, ...]:
    """Name the table, every recording and every continuation.

    Raises
    ------
    DataError
        When one is missing or was cut, or the table cannot be read.
    """
    return sentence_sources(Path(config.events), config)


def read(config: Config) -> tuple[Recording, ...]:
    """Read every recording that the table names.

    Raises
    ------
    DataError
        When the table or a recording is damaged, absent, contradicts the other, or holds what the
        options do not accept.
    """
    return read_sentence_recordings(Path(config.events), config)


def read_each(config: Config) -> Iterator[Recording]:
    """Yield what `read` returns, one recording in memory at a time."""
    return each_sentence_recording(Path(config.events), config)


def sentences(config: Config, recordings: tuple[Recording, ...]) -> Sentences:
    """Make one item of every sentence, its part by its text."""
    return sentence_items(recordings, config.pre_s, config.post_s)
