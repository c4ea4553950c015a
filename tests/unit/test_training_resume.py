"""Jobs that are interrupted at every point where they can be end as if nobody had touched them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _sentence_stores import make_sentence_facts, write_sentence_store
from _tiny_lm import tiny_backend, write_feature_store, write_tiny_lm
from _window_stores import Recorder, make_facts, single_window_store
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodecode.jobs import encoder, llm, windows
from neurodecode.recipe import load_recipe
from neurodecode.training.interrupts import Interrupts, random_state, set_random_state
from neurosweep.core.clock import SystemClock
from neurosweep.core.files import sha256_file
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.job_api import JobContext, Yielded
from neurosweep.exec.resume import ResumeFolder, SavePoint
from neurosweep.exec.saving import Saver

Job = Callable[[JobContext], Iterator[Mapping[str, Any]]]
WORDS = ("cat", "dog", "sees", "the", "old", "fox")


class Life:
    """One start of a job after another, each saved as soon as it can be, and ended there."""

    def __init__(self, job: Job, config: Mapping[str, Any], folds: list[Path], out: Path) -> None:
        self.job, self.config, self.folds = job, config, folds
        self.files = AttemptDir(out)
        self.recorder = Recorder()
        out.mkdir()

    def start(self, *, leaving: bool, every_s: float = 0.0) -> list[Any] | None:
        """Return the predictions of the job, None when it left."""
        self._disturb()
        folder = ResumeFolder(self.files, "run")
        folder.find()
        saver = Saver(folder, every_s, lambda: leaving, lambda: SavePoint("run"), SystemClock())
        context = self.recorder.context(self.config, self.folds, seed=3)
        try:
            return list(self.job(replace(context, attempt_dir=self.files.root, saves=saver)))
        except Yielded:
            return None

    def to_the_end(self) -> tuple[list[Any], int]:
        """Return the predictions and how many starts were needed."""
        for number in range(1, 200):
            predictions = self.start(leaving=True)
            if predictions is not None:
                return predictions, number
        raise AssertionError("the job does not get on")

    def checkpoints(self) -> dict[str, str]:
        ckpt = self.files.ckpt
        paths = sorted(ckpt.rglob("*.safetensors")) if ckpt.exists() else []
        return {path.relative_to(ckpt).as_posix(): sha256_file(path) for path in paths}

    @staticmethod
    def _disturb() -> None:
        """Leave random numbers as another process has them."""
        torch.manual_seed(random.SystemRandom().randrange(2**31))
        np.random.seed(random.SystemRandom().randrange(2**31))  # noqa: NPY002
        random.seed()


def _windows(tmp_path: Path, family: str) -> tuple[Job, dict[str, Any], list[Path]]:
    folds = [tmp_path / "a", tmp_path / "b"]
    for number, fold in enumerate(folds):
        single_window_store(fold, make_facts(), seed=number, signal=0.3)
    changes: dict[str, Any] = {"training.batch_size": 64, "training.epochs": 3}
    changes |= {"training.noise_sd": 0.2, "training.shift_s": 0.02, "training.device": "cpu"}
    if family == "sync_conv":
        changes |= {"model.width": 8, "model.num_blocks": 1, "model.stride": 1}
        changes |= {"model.pooling": "flatten", "model.dropout": 0.3}
    else:
        changes |= {"model.family": family}
    config = load_recipe("speller", changes).config.model_dump(mode="json")
    return windows.run, config, folds


def _encoder(tmp_path: Path) -> tuple[Job, dict[str, Any], list[Path]]:
    folds = [tmp_path / "a", tmp_path / "b"]
    counts = {"train": 8, "dev": 2, "val": 3}
    for number, fold in enumerate(folds):
        write_sentence_store(fold, make_sentence_facts(5), counts, seed=number, words=1)
    model = {"family": "conv_conformer", "merger_channels": 8, "fourier_grid": 4}
    model |= {"mixed_channels": 8, "conv_width": 16, "num_convs": 1, "width": 16}
    model |= {"num_layers": 1, "ffn_width": 16, "conformer_kernel": 5, "dropout": 0.3}
    training = {"epochs": 3, "batch_size": 4, "device": "cpu", "noise_sd": 0.2}
    data = {"dataset": "simulated_typing"}
    return encoder.run, {"data": data, "model": model, "training": training}, folds


def _llm(tmp_path: Path) -> tuple[Job, dict[str, Any], list[Path]]:
    backend = tiny_backend(write_tiny_lm(tmp_path / "lm", layers=1))
    rng = np.random.default_rng(0)
    texts = {
        part: [" ".join(rng.choice(WORDS, 2)) for _ in range(count)]
        for part, count in (("train", 24), ("dev", 2), ("val", 3))
    }
    folds = [tmp_path / "store", tmp_path / "other"]
    for number, fold in enumerate(folds):
        write_feature_store(fold, backend, texts, seed=number)
    options = {"backend": "folder", "folder": str(tmp_path / "lm"), "device": "cpu"}
    options |= {"lora_rank": 2, "lora_dropout": 0.2, "batch_size": 4, "epochs": 2}
    config = {"data": {"dataset": "simulated_typing"}, "model": {"family": "conv_conformer"}}
    decoding = {"beam": 2, "max_new_tokens": 6}
    return llm.run, config | {"llm": options, "decoding": decoding}, folds


CASES: dict[str, Callable[[Path], tuple[Job, dict[str, Any], list[Path]]]] = {
    "network": lambda path: _windows(path, "sync_conv"),
    "closed form": lambda path: _windows(path, "linear"),
    "sentences": _encoder,
    "adapter": _llm,
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_at_every_step_a_job_ends_as_if_it_had_not_been(
    case: str, tmp_path: Path
) -> None:
    """Equal are predictions, curves and every bit of the weights."""
    job, config, folds = CASES[case](tmp_path)
    whole = Life(job, config, folds, tmp_path / "whole")
    undisturbed = whole.start(leaving=False, every_s=1e9)
    torn = Life(job, config, folds, tmp_path / "torn")
    predictions, starts = torn.to_the_end()
    assert starts >= whole.recorder.lines[-1][0]
    assert predictions == undisturbed
    assert torn.recorder.lines == whole.recorder.lines
    assert torn.checkpoints() == whole.checkpoints()


@pytest.mark.parametrize("case", ["sentences", "adapter"])
def test_saving_changes_nothing(case: str, tmp_path: Path) -> None:
    job, config, folds = CASES[case](tmp_path)
    never, always = (Life(job, config, folds, tmp_path / name) for name in ("never", "always"))
    assert never.start(leaving=False, every_s=1e9) == always.start(leaving=False)
    assert never.recorder.lines == always.recorder.lines
    assert never.checkpoints() == always.checkpoints()


def test_a_trained_fold_is_not_trained_again(tmp_path: Path) -> None:
    job, config, folds = CASES["sentences"](tmp_path)
    life = Life(job, config, folds, tmp_path / "life")
    first = life.start(leaving=False)
    life.recorder = Recorder()
    assert life.start(leaving=False) == first
    assert life.recorder.lines == []
    assert not [phase for phase in life.recorder.phases if phase.startswith("train")]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), draws=st.integers(0, 700))
def test_random_numbers_go_on_where_they_stood(seed: int, draws: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    for _ in range(draws):
        random.random()
    np.random.normal(size=draws)  # noqa: NPY002
    torch.rand(draws)
    state = random_state()
    first = [(random.random(), np.random.normal(), torch.randn(3).tolist()) for _ in range(3)]  # noqa: NPY002
    set_random_state(state)
    again = [(random.random(), np.random.normal(), torch.randn(3).tolist()) for _ in range(3)]  # noqa: NPY002
    assert first == again


def test_a_state_is_read_without_running_code(tmp_path: Path) -> None:
    """What is read is tensors, numbers and texts: a pickle that calls something is refused."""

    class Call:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "called",))

    files = AttemptDir(tmp_path)
    folder = ResumeFolder(files, "run")
    folder.save("training", lambda file: torch.save({"x": Call()}, file), SavePoint("run"))
    saver = Saver(folder, 1.0, lambda: False, lambda: SavePoint("run"), SystemClock())
    with pytest.raises(Exception, match="Weights only load failed"):
        Interrupts(saves=saver).load()
    assert not (tmp_path / "called").exists()
