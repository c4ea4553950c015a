"""Small stores of typed sentences, as data preparation writes them, that CTC can learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurodecode.contracts import SentenceFacts
from neurodecode.decoding.alphabet import SYMBOLS, encode

SFREQ_HZ = 100.0
WORDS = ("the", "cat", "sees", "a", "dog", "and", "they", "run", "home", "we", "like", "it")


def make_sentence_facts(
    channels: int = 6, subjects: int = 1, unplaced: Sequence[int] = ()
) -> SentenceFacts:
    rng = np.random.default_rng(3)
    places = [(float(x), float(y)) for x, y in rng.uniform(0, 1, (channels, 2))]
    for index in unplaced:
        places[index] = (-0.1, -0.1)
    return SentenceFacts(
        num_channels=channels,
        sfreq_hz=SFREQ_HZ,
        positions_C2=tuple(places),
        num_subjects=subjects,
        subjects=tuple(f"s{k:02d}" for k in range(subjects)),
        symbols=SYMBOLS,
    )


@dataclass(frozen=True)
class Keyboard:
    """Answers every key with a pattern of its own over sensors, and a bump in time."""

    pattern_KC: npt.NDArray[np.float32]
    interval_s: tuple[float, float] = (0.16, 0.28)
    signal: float = 3.0

    @classmethod
    def of(cls, channels: int, seed: int = 0, **options: Any) -> Keyboard:
        pattern_KC = np.random.default_rng(seed).normal(size=(len(SYMBOLS) + 1, channels))
        return cls(pattern_KC.astype(np.float32), **options)

    def type(
        self, text: str, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float16], list[float]]:
        """Return samples (time, channel), noise of 1 and keys of `signal`, and key onsets."""
        gaps = rng.uniform(*self.interval_s, len(text))
        onsets_s = 0.4 + np.concatenate([[0.0], np.cumsum(gaps[1:])])
        num_samples = round((onsets_s[-1] + 0.5) * SFREQ_HZ)
        x_TC = rng.normal(size=(num_samples, self.pattern_KC.shape[1]))
        time_s = np.arange(num_samples) / SFREQ_HZ
        for key, onset_s in zip(encode(text), onsets_s, strict=True):
            bump_T = np.exp(-0.5 * ((time_s - onset_s) / 0.03) ** 2)
            x_TC += self.signal * bump_T[:, None] * self.pattern_KC[key]
        return np.clip(x_TC, -5, 5).astype(np.float16), onsets_s.tolist()


def write_sentence_store(
    folder: Path,
    facts: SentenceFacts,
    counts: dict[str, int],
    *,
    keyboard: Keyboard | None = None,
    texts: Sequence[str] | None = None,
    words: int = 2,
    seed: int = 0,
) -> dict[str, str]:
    """Write a store; return the typed text of every item of val."""
    rng = np.random.default_rng(seed)
    keyboard = keyboard or Keyboard.of(facts.num_channels)
    held_back: dict[str, str] = {}
    for part, count in counts.items():
        items, samples, row = [], [], 0
        for number in range(count):
            text = (
                str(rng.choice(list(texts)))
                if texts
                else " ".join(rng.choice(WORDS, size=words).tolist())
            )
            subject = facts.subjects[number % facts.num_subjects]
            x_TC, onsets_s = keyboard.type(text, rng)
            item = f"{subject}/rec/{part}{number:03d}"
            entry: dict[str, Any] = {"item": item, "subject": subject, "recording": "rec"}
            entry |= {"start": row, "stop": row + len(x_TC), "onsets_s": onsets_s}
            if part in ("train", "dev"):
                entry |= {"text": text, "typed": text}
            else:
                held_back[item] = text
            items.append(entry)
            samples.append(x_TC)
            row += len(x_TC)
        (folder / part).mkdir(parents=True, exist_ok=True)
        np.save(folder / part / "x.npy", np.concatenate(samples))
        (folder / part / "items.json").write_text(json.dumps(items))
    channels = [f"MEG{c:03d}" for c in range(facts.num_channels)]
    layout = dict(zip(channels, facts.positions_C2, strict=True))
    meta = {
        "v": 1,
        "data_fp": "made-up",
        "kind": "sentences",
        "sfreq_hz": facts.sfreq_hz,
        "channels": channels,
        "layout": {name: place for name, place in layout.items() if place[0] >= 0},
        "symbols": SYMBOLS,
        "split": "by text",
        "chance": {"val_wer": 1.0, "val_cer": 0.9},
        "subjects": list(facts.subjects),
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return held_back
