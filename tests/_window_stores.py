"""Small stores of windows, as data preparation writes them, with a signal that can be learned."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurodecode.contracts import DataFacts
from neurodecode.training.windows import WindowSet
from neurosweep.exec.job_api import JobContext

SYMBOLS = tuple("abcdef")


def make_facts(
    channels: int = 3, samples: int = 20, classes: int = 2, subjects: int = 1
) -> DataFacts:
    return DataFacts(
        num_channels=channels,
        num_samples=samples,
        sfreq_hz=100.0,
        num_classes=classes,
        classes=tuple(f"class{k}" for k in range(classes)),
        num_subjects=subjects,
        subjects=tuple(f"s{k:02d}" for k in range(subjects)),
        positions=(None,) * channels,
    )


def make_windows(
    count: int, facts: DataFacts, seed: int, *, signal: float = 1.0, labelled: bool = True
) -> WindowSet:
    """Each class bends another channel at another latency; `signal` 0 is noise alone."""
    rng = np.random.default_rng(seed)
    target_W = rng.integers(0, facts.num_classes, count)
    x_WCT = rng.normal(size=(count, facts.num_channels, facts.num_samples)).astype(np.float32)
    time_T = np.arange(facts.num_samples)
    for label in range(facts.num_classes):
        peak = (label + 1) * facts.num_samples / (facts.num_classes + 1)
        bump_T = np.exp(-0.5 * ((time_T - peak) / 1.5) ** 2)
        x_WCT[target_W == label, label % facts.num_channels] += 3.0 * signal * bump_T
    return WindowSet(
        x_WCT,
        rng.integers(0, facts.num_subjects, count),
        target_W if labelled else None,
        (),
    )


def write_part(
    folder: Path, windows: WindowSet, spans: Sequence[Mapping[str, Any]], *, labelled: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "x.npy", windows.x_WCT)
    if labelled:
        np.save(folder / "y.npy", windows.targets().astype(np.int16))
    (folder / "items.json").write_text(json.dumps(list(spans)))


def write_meta(folder: Path, facts: DataFacts, symbols: Sequence[str]) -> None:
    meta = {
        "v": 1,
        "kind": "windows",
        "sfreq_hz": facts.sfreq_hz,
        "channels": [f"EEG{c}" for c in range(facts.num_channels)],
        "positions": None,
        "classes": list(facts.classes),
        "symbols": list(symbols),
        "subjects": list(facts.subjects),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(meta))


def single_window_store(
    folder: Path, facts: DataFacts, *, signal: float = 1.0, permute: bool = False, seed: int = 0
) -> dict[str, str]:
    """Write a store whose items are one window each; return the references of val."""
    symbols = SYMBOLS[: facts.num_classes]
    references: dict[str, str] = {}
    for number, (part, count) in enumerate((("train", 240), ("dev", 60), ("val", 120))):
        windows = make_windows(count, facts, 10 * seed + number, signal=signal)
        if permute and part != "val":
            np.random.default_rng(seed).shuffle(windows.targets())
        spans = [
            {
                "item": f"{facts.subjects[windows.subject_W[row]]}/rec/{part}{row:03d}",
                "subject": facts.subjects[windows.subject_W[row]],
                "recording": "rec",
                "start": row,
                "stop": row + 1,
            }
            for row in range(count)
        ]
        write_part(folder / part, windows, spans, labelled=part != "val")
        if part == "val":
            labels = [symbols[label] for label in windows.targets()]
            references = {str(s["item"]): t for s, t in zip(spans, labels, strict=True)}
    write_meta(folder, facts, symbols)
    return references


def speller_store(
    folder: Path, facts: DataFacts, *, flashes: int = 40, signal: float = 1.0
) -> dict[str, str]:
    """Write a store whose items are trials of flashes with codes; return val's references."""
    rng = np.random.default_rng(5)
    references: dict[str, str] = {}
    for part, trials in (("train", 8), ("dev", 2), ("val", 5)):
        spans, chosen = [], []
        codes = rng.integers(0, facts.num_classes, (trials, flashes, len(SYMBOLS)))
        for trial in range(trials):
            item = f"s00/rec/{part}{trial}"
            cued = int(rng.integers(len(SYMBOLS)))
            chosen.append(codes[trial, :, cued])
            span = {"item": item, "subject": "s00", "recording": "rec", "symbols": list(SYMBOLS)}
            spans.append(span | {"start": trial * flashes, "stop": (trial + 1) * flashes})
            path = folder / part / "codes" / f"{item}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, codes[trial].astype(np.uint8))
            if part == "val":
                references[item] = SYMBOLS[cued]
        windows = _windows_of(np.concatenate(chosen), facts, rng, signal)
        write_part(folder / part, windows, spans, labelled=part != "val")
    write_meta(folder, facts, SYMBOLS)
    return references


def _windows_of(
    target_W: npt.NDArray[np.int64], facts: DataFacts, rng: np.random.Generator, signal: float
) -> WindowSet:
    shape = (len(target_W), facts.num_channels, facts.num_samples)
    x_WCT = rng.normal(size=shape).astype(np.float32)
    x_WCT[:, 0, 3:8] += (signal * (2.0 * target_W - 1.0))[:, None]
    return WindowSet(x_WCT, np.zeros(len(target_W), dtype=np.int64), target_W, ())


@dataclass
class Recorder:
    """Stands for the harness: keeps what a job reports."""

    lines: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def log(self, step: int, epoch: int, **metrics: float) -> None:
        self.lines.append((step, epoch, metrics))

    def beat(self, phase: str, **_: float) -> None:
        self.phases.append(phase)

    def context(
        self,
        config: Mapping[str, Any],
        folds: Sequence[Path],
        *,
        seed: int = 0,
        part: str = "val",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> JobContext:
        return JobContext(
            attempt_dir=folds[0],
            config=config,
            seed=seed,
            threads=1,
            folds=tuple(folds),
            log=self.log,
            beat=self.beat,
            should_stop=should_stop,
            part=part,
        )
