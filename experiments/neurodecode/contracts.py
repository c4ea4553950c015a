"""What a dataset gives and a decoder gets: shapes and units are written here.

Array names carry their axes: C channels, T samples, W windows, S symbols.

There are two kinds of data. In *windows* every event is a labelled window of fixed length. In
*sentences* an item is everything from the first key of a typed sentence to its last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from neurodecode.events import Event
from neurosweep.core.config import StrictModel
from neurosweep.evaluation.splits import TextPart

FloatArray = npt.NDArray[np.float32]
CodeArray = npt.NDArray[np.uint8]
Unit = Literal["V", "T", "T/m", "a.u."]
Part = Literal["train", "val", "test", "pool"]


@dataclass(frozen=True)
class Location:
    """Mark an option that says where files are: their content counts, not their place.

    Examples
    --------
    >>> from typing import Annotated
    >>> class Config(StrictModel):
    ...     path: Annotated[str, Location()]
    """


@dataclass(frozen=True)
class Recording:
    """One recording of one subject.

    Attributes
    ----------
    subject, recording
        Who, and which recording of theirs; both are parts of item names.
    sfreq_hz
        Sampling rate.
    data_CT
        Samples (channels, time) in the units of `units`.
    channels
        Name of every channel.
    units
        Physical unit of every channel; ``a.u.`` when the file does not tell.
    segments
        Sample ranges (start, stop) that are contiguous in time. Filters never cross their
        borders. One range for a continuous recording, one an epoch for epoched data.
    events
        What happened; `Event.start` is seconds from sample 0 of `data_CT`.
    positions
        Channel name to (x, y, z) metres in the head frame; empty when unknown.
    source_sha256
        File name to SHA-256 of every file that was read.
    meta
        JSON data worth keeping beside the results.
    """

    subject: str
    recording: str
    sfreq_hz: float
    data_CT: FloatArray
    channels: tuple[str, ...]
    units: tuple[Unit, ...]
    segments: tuple[tuple[int, int], ...]
    events: tuple[Event, ...] = ()
    positions: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Subject and recording, as item names begin."""
        return f"{self.subject}/{self.recording}"

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to the end of the last."""
        return float(self.data_CT.shape[1] / self.sfreq_hz)


@dataclass(frozen=True)
class Item:
    """What is decoded and scored as one: a sentence, a symbol, a key press.

    Attributes
    ----------
    item
        ``<subject>/<recording>/<trial_id>``.
    part
        ``train``, ``val`` or ``test`` of an official split; ``pool`` items are split into
        contiguous folds.
    onsets_s
        Onset of every window, seconds from sample 0 of the recording, in order of time.
    labels
        Class index of every window, into `Windows.classes`.
    reference
        Text that hypotheses are compared with.
    typed
        What was really typed or selected; equal to `reference` where nobody knows.
    codes_WS
        Expected class of every window under every symbol of `symbols`; None where windows
        stand for themselves. Known to whoever presents the stimuli, so public.
    symbols
        Label of every column of `codes_WS`.
    """

    item: str
    part: Part
    onsets_s: tuple[float, ...]
    labels: tuple[int, ...]
    reference: str
    typed: str
    codes_WS: CodeArray | None = None
    symbols: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """First part of the item's name."""
        return self.item.split("/")[0]

    @property
    def recording(self) -> str:
        """Second part of the item's name."""
        return self.item.split("/")[1]


@dataclass(frozen=True)
class Windows:
    """How recordings are cut into labelled windows.

    Attributes
    ----------
    window_s
        (start, stop) of a window, seconds relative to its onset.
    classes
        Label of every window class.
    symbols
        All symbols that a reference may hold, one character each. Where an item is one window,
        `symbols[k]` is the text of class k.
    items
        In the order of time within a recording: contiguous folds are cut from this order.
    split
        One sentence for reports: how train, val and test come about.
    dev_fraction
        Share of the training items, the last of every recording, that judge early stopping.
    chance_acc
        Share of items that a guess gets right; None for the share of the commonest reference.
    epoched
        Whether windows are epochs cut by others: neighbours in number need not be in time.
    """

    window_s: tuple[float, float]
    classes: tuple[str, ...]
    symbols: tuple[str, ...]
    items: tuple[Item, ...]
    split: str
    dev_fraction: float = 0.1
    chance_acc: float | None = None
    epoched: bool = False


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data to be built.

    Attributes
    ----------
    num_channels, num_samples
        Shape (C, T) of one window.
    sfreq_hz
        Sampling rate of the windows.
    num_classes, classes
        Window classes.
    num_subjects, subjects
        Subjects, in the order of their indices.
    positions
        (x, y, z) metres of every channel in order, None for one without a position.
    """

    num_channels: int
    num_samples: int
    sfreq_hz: float
    num_classes: int
    classes: tuple[str, ...]
    num_subjects: int
    subjects: tuple[str, ...]
    positions: tuple[tuple[float, float, float] | None, ...]


@dataclass(frozen=True)
class SentenceItem:
    """A typed sentence: what is decoded and scored as one.

    Attributes
    ----------
    item
        ``<subject>/<recording>/<trial_id>``.
    part
        Part of the data, from the text of `reference` alone.
    start_s, stop_s
        The window around all key presses, seconds from sample 0 of the recording.
    onsets_s
        Key presses, seconds from sample 0 of the recording.
    reference
        The sentence that was shown; hypotheses are compared with it.
    typed
        What was typed, slips included; CTC trains on it.
    """

    item: str
    part: TextPart
    start_s: float
    stop_s: float
    onsets_s: tuple[float, ...]
    reference: str
    typed: str

    @property
    def subject(self) -> str:
        """First part of the item's name."""
        return self.item.split("/")[0]

    @property
    def recording(self) -> str:
        """Second part of the item's name."""
        return self.item.split("/")[1]


@dataclass(frozen=True)
class Sentences:
    """All typed sentences of a dataset.

    Attributes
    ----------
    items
        In the order of time within a recording.
    symbols
        All characters that a text may hold.
    split
        One sentence for reports: how train, dev, val and test come about.
    """

    items: tuple[SentenceItem, ...]
    symbols: str
    split: str


@dataclass(frozen=True)
class SentenceFacts:
    """What a model of whole sentences must know of the data to be built.

    Attributes
    ----------
    num_channels
        Sensors.
    sfreq_hz
        Sampling rate.
    positions_C2
        Places of the sensors on a flat map, both axes in [0, 1]; (-0.1, -0.1) for one without a
        place or without a signal of its own.
    num_subjects, subjects
        Subjects, in the order of their indices.
    symbols
        Characters; CTC class k is ``symbols[k - 1]``, class 0 the blank.
    """

    num_channels: int
    sfreq_hz: float
    positions_C2: tuple[tuple[float, float], ...]
    num_subjects: int
    subjects: tuple[str, ...]
    symbols: str


class Dataset(Protocol):
    """A module of `neurodecode.datasets`: one dataset.

    One of sentences has ``sentences(config, recordings) -> Sentences`` in place of `windows`, see
    `SentenceDataset`.

    Attributes
    ----------
    Config
        Options of the dataset, all with defaults but paths that only the user knows; these
        are marked with `Location`.
    DEFAULT_FOLDS
        Contiguous folds unless the user names another number; 1 keeps the official split.
    """

    Config: type[StrictModel]
    DEFAULT_FOLDS: int

    def sources(self, config: Any) -> tuple[Path, ...]:
        """Name every file that `read` opens, without opening it.

        Raises
        ------
        neurosweep.core.errors.DataError
            When one is missing.
        """
        ...

    def read(self, config: Any) -> tuple[Recording, ...]:
        """Read the recordings.

        Raises
        ------
        neurosweep.core.errors.DataError
            When a file is missing, damaged or not what it claims to be.
        """
        ...

    def windows(self, config: Any, recordings: tuple[Recording, ...]) -> Windows:
        """Define windows, items and their official split; reads events, never samples."""
        ...


class SentenceDataset(Protocol):
    """A module of `neurodecode.datasets` whose items are typed sentences.

    A simulated one also has ``make(config, say)``, which writes the recordings, and
    ``default_folder(config, home)``, which says where; its ``Config`` has a field ``folder``.
    """

    Config: type[StrictModel]
    DEFAULT_FOLDS: int

    def sources(self, config: Any) -> tuple[Path, ...]:
        """Name every file that `read` opens, as `Dataset.sources` does."""
        ...

    def read(self, config: Any) -> tuple[Recording, ...]:
        """Read the recordings, as `Dataset.read` does."""
        ...

    def sentences(self, config: Any, recordings: tuple[Recording, ...]) -> Sentences:
        """Find the typed sentences and their parts; reads events, never samples."""
        ...
