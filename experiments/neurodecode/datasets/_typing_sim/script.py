"""What every subject types when: sentences, slips, moments of all key presses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurodecode.datasets._typing_sim.keyboard import all_keys, key_sequence
from neurodecode.datasets._typing_sim.options import Config
from neurodecode.datasets._typing_sim.typing_times import press_times
from neurodecode.datasets._typing_sim.typos import mistype
from neurosweep.core.errors import ConfigError
from neurosweep.evaluation.splits import part_of_text

_LEAD_S, _TAIL_S = 2.0, 2.0
_PAUSE_SPREAD = 0.25
_LEAST_PAUSE_S = 0.95
DRAWN_PART = {"train": "train", "dev": "train", "val": "val", "test": "test"}


@dataclass(frozen=True)
class TypedSentence:
    """A sentence of a recording.

    Attributes
    ----------
    reference, typed
        What was asked for and what was typed.
    press_s
        Moment of every key of `typed`, seconds from the start of the recording.
    """

    reference: str
    typed: str
    press_s: NDArray[np.float64]


@dataclass(frozen=True)
class Script:
    """All sentences of one recording, in the order of time.

    Attributes
    ----------
    sentences
        At least one.
    duration_s
        Length of the recording.
    """

    sentences: tuple[TypedSentence, ...]
    duration_s: float

    def presses(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the moments of all key presses, and their keys as indices into `all_keys`."""
        press_s = np.concatenate([sentence.press_s for sentence in self.sentences])
        keys = [key for sentence in self.sentences for key in key_sequence(sentence.typed)]
        return press_s, np.array(keys, dtype=np.int64)

    def left_hand(self) -> NDArray[np.bool_]:
        """Return, for every key press, whether the left hand made it."""
        return np.array([all_keys()[key].hand == "left" for key in self.presses()[1]])


def draw_sentences(config: Config, rng: np.random.Generator) -> list[str]:
    """Draw the sentences that every subject types.

    The part of a sentence follows from its text alone; so many are drawn from each part as the
    options say, dev counted as train.

    Raises
    ------
    ConfigError
        When the text has too few sentences of the wanted length in a part, or the bounds of the
        length contradict each other.
    """
    from neurodecode.text.corpus import load_sentences

    if config.min_words > config.max_words:
        msg = f"data.min_words: is {config.min_words}, above data.max_words = {config.max_words}"
        raise ConfigError(f"{msg}; lower the one or raise the other")
    fitting = [text for text in load_sentences() if _fits(text, config)]
    wanted = {
        "train": config.train_sentences,
        "val": config.val_sentences,
        "test": config.test_sentences,
    }
    drawn: list[str] = []
    order = rng.permutation(len(fitting))
    for number in order:
        part = DRAWN_PART[part_of_text(fitting[number])]
        if wanted[part] > 0:
            drawn.append(fitting[number])
            wanted[part] -= 1
        if not any(wanted.values()):
            return drawn
    _raise_too_few(wanted, len(fitting), config)
    return drawn


def _fits(text: str, config: Config) -> bool:
    num_words = text.count(" ") + 1
    return config.min_words <= num_words <= config.max_words and len(text) <= config.max_chars


def _raise_too_few(missing: dict[str, int], num_fitting: int, config: Config) -> None:
    lacks = ", ".join(f"{part} lacks {num}" for part, num in missing.items() if num)
    if lacks:
        msg = f"data: the text has {num_fitting} sentences of {config.min_words} to"
        msg += f" {config.max_words} words and at most {config.max_chars} characters, too few:"
        raise ConfigError(f"{msg} {lacks}; ask for fewer, or widen min_words, max_words, max_chars")


def write_scripts(
    sentences: Sequence[str], log_pace: float, config: Config, rng: np.random.Generator
) -> list[Script]:
    """Return what one subject types in each recording; the order is theirs.

    Raises
    ------
    ConfigError
        When there are fewer sentences than recordings.
    """
    if len(sentences) < config.recordings:
        msg = f"data.recordings: is {config.recordings}, with {len(sentences)} sentences of a"
        raise ConfigError(f"{msg} subject; every recording needs one, ask for fewer recordings")
    order = rng.permutation(len(sentences))
    shares = np.array_split(order, config.recordings)
    return [_write_script([sentences[i] for i in share], log_pace, config, rng) for share in shares]


def _write_script(
    sentences: Sequence[str], log_pace: float, config: Config, rng: np.random.Generator
) -> Script:
    now = _LEAD_S
    typed_sentences = []
    for reference in sentences:
        typed = mistype(reference, config.typo_rate, rng)
        press_s = now + press_times(typed, log_pace, config.pace, rng)
        typed_sentences.append(TypedSentence(reference, typed, press_s))
        pause = config.pause_s * (1.0 + _PAUSE_SPREAD * rng.uniform(-1.0, 1.0))
        now = float(press_s[-1]) + max(pause, _LEAST_PAUSE_S)
    last = float(typed_sentences[-1].press_s[-1])
    num_samples = int(np.ceil((last + _TAIL_S) * config.sfreq_hz))
    return Script(tuple(typed_sentences), num_samples / config.sfreq_hz)
