"""Simulated MEG of typed sentences: FIF recordings and an events table that the simulator writes.

Real are the text (CC0), the statistics of key timing (fitted to 2,328 typists), the geometry of
the 306 sensors and the covariance of an empty room. Simulated are a spherical head, dipoles of
key presses in both motor cortices, ongoing cortex, alpha and beta rhythms with their fall before
and rise after movement, heart, blinks and mains.

Every subject types the same sentences in an order of their own. Whether a sentence trains,
validates or is sealed follows from a hash of its text, as in recorded data; the simulator draws
so many sentences of each part as its options say, so that a small simulation has enough of each
part. Dev counts as train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from neurodecode.contracts import Recording, Sentences
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._typing_sim.options import Config
from neurosweep.core.errors import DataError

__all__ = [
    "DEFAULT_FOLDS",
    "Config",
    "default_folder",
    "make",
    "read",
    "read_each",
    "sentences",
    "sources",
]

DEFAULT_FOLDS = 1


def default_folder(config: Config, home_root: Path) -> Path:
    """Return the folder under a home that is named after all options and the simulator's code."""
    from neurodecode.datasets._typing_sim import study

    return study.default_folder(config, home_root)


def make(config: Config, say: Callable[[str], None]) -> list[str]:
    """Write the recordings unless they are there; the folder appears when it is complete.

    Parameters
    ----------
    config
        Options with a folder.
    say
        Told about progress.

    Returns
    -------
    list of str
        Paths of the table and of the recordings.

    Raises
    ------
    ConfigError
        When options contradict each other, or ask for more text than there is.
    DataError
        When the folder holds something else or cannot be written.
    """
    from neurodecode.datasets._typing_sim import study

    return study.make_study(config, say)


def sources(config: Config) -> tuple[Path, ...]:
    """Name the table and every recording.

    Raises
    ------
    DataError
        When they were not made, or a file is missing or was cut.
    """
    from neurodecode.datasets._sentences.reader import sentence_sources

    return sentence_sources(_table(config), SentenceReadOptions())


def read(config: Config) -> tuple[Recording, ...]:
    """Read the recordings as recorded ones are read.

    Raises
    ------
    DataError
        When they were not made, or are damaged.
    """
    from neurodecode.datasets._sentences.reader import read_sentence_recordings

    return read_sentence_recordings(_table(config), SentenceReadOptions())


def read_each(config: Config) -> Iterator[Recording]:
    """Yield the recordings of `read` one at a time, so that one only is in memory.

    Raises
    ------
    DataError
        When they were not made, or are damaged.
    """
    from neurodecode.datasets._sentences.reader import each_sentence_recording

    return each_sentence_recording(_table(config), SentenceReadOptions())


def sentences(config: Config, recordings: tuple[Recording, ...]) -> Sentences:
    """Return one item a sentence, its part from its text."""
    from neurodecode.datasets._sentences.items import sentence_items

    del config
    return sentence_items(recordings)


def _table(config: Config) -> Path:
    from neurodecode.datasets._typing_sim.study import TABLE

    path = Path(config.folder) / TABLE
    if not config.folder or not path.is_file():
        where = config.folder or "data.folder is empty"
        msg = f"{where}: has no simulated recordings; make them with 'neurosweep data make'"
        raise DataError(msg)
    return path
