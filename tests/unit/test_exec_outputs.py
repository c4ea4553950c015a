"""Curves, predictions and printed output of a job."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.clock import SystemClock
from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import read_jsonl, sha256_file
from neurosweep.exec.job_api import Diverged
from neurosweep.exec.outputs import MetricsLog, OutputLog, write_predictions

Beats = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def beats() -> Beats:
    return []


@pytest.fixture
def curves(tmp_path: Path, beats: Beats) -> Iterator[MetricsLog]:
    log = MetricsLog(
        tmp_path / "metrics.jsonl", SystemClock(), lambda phase, **now: beats.append((phase, now))
    )
    yield log
    log.close()


def test_curves_are_strict_lines_and_signs_of_life(
    tmp_path: Path, curves: MetricsLog, beats: Beats
) -> None:
    curves.log(step=1, epoch=0, loss=np.float32(0.5), accuracy=1)
    curves.log(2, dev_error=float("nan"))
    first, second = read_jsonl(tmp_path / "metrics.jsonl")
    assert (first["step"], first["epoch"], first["loss"], first["accuracy"]) == (1, 0, 0.5, 1.0)
    assert second["dev_error"] is None
    assert beats[0] == ("train", {"step": 1, "epoch": 0, "loss": 0.5})


@pytest.mark.parametrize("name", ["loss", "train_loss", "Loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_left_the_numbers_ends_the_job(
    tmp_path: Path, curves: MetricsLog, name: str, value: float
) -> None:
    with pytest.raises(Diverged, match=f"{name} is .* at step 7"):
        curves.log(step=7, epoch=2, **{name: value})
    (line,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert line[name] is None


def test_predictions_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    rows = [{"item": "s/r/1", "hypothesis": "é", "nbest": [["a", -1.0]]}]
    number, sha = write_predictions(path, rows, 1.0)
    assert number == 1
    assert list(read_jsonl(path)) == rows
    assert sha == sha256_file(path)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_every_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("texts") / "predictions.jsonl"
    rows = [{"item": f"i{n}", "hypothesis": text} for n, text in enumerate(texts)]
    write_predictions(path, rows, 1.0)
    assert list(read_jsonl(path)) == rows


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"item": "a", "hypothesis": "b", "logp": float("nan")}, "cannot be written as JSON"),
        ({"item": "a", "hypothesis": "\ud800"}, "cannot be written as JSON"),
        ({"item": "a", "hypothesis": "b", "nbest": {1, 2}}, "cannot be written as JSON"),
        ({"item": "a"}, "hypothesis must be text"),
        ({"item": 1, "hypothesis": None}, "item and hypothesis must be text"),
        ("text", "is a str, expected a mapping"),
    ],
)
def test_a_wrong_prediction_leaves_nothing(tmp_path: Path, row: Any, problem: str) -> None:
    good = {"item": "s/r/1", "hypothesis": "fine"}
    with pytest.raises(PredictionsError, match=f"prediction 2.*{problem}"):
        write_predictions(tmp_path / "predictions.jsonl", [good, row], 1.0)
    assert list(tmp_path.iterdir()) == []


def test_endless_predictions_end_at_the_limit(tmp_path: Path) -> None:
    def endless() -> Iterator[Mapping[str, Any]]:
        while True:
            yield {"item": "s/r/1", "hypothesis": "x" * 1000}

    with pytest.raises(PredictionsError, match=r"pass the limit of 0\.1 MB"):
        write_predictions(tmp_path / "predictions.jsonl", endless(), 0.1)
    assert list(tmp_path.iterdir()) == []


def test_output_past_python_is_caught_and_streams_come_back(tmp_path: Path) -> None:
    path, before = tmp_path / "log.txt", (sys.stdout, sys.stderr)
    numbers = [os.fstat(number).st_ino for number in (1, 2)]
    with OutputLog(path, 1.0):
        sys.stdout.write("from Python\n")
        os.write(1, b"past Python\n")
        os.write(2, b"an error\n")
    assert (sys.stdout, sys.stderr) == before
    assert [os.fstat(number).st_ino for number in (1, 2)] == numbers
    assert path.read_text() == "from Python\npast Python\nan error\n"


def test_the_log_is_cut_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with OutputLog(path, 0.01) as log:
        os.write(1, b"x" * 20_000)
        log.check()
        os.write(1, b"dropped")
        log.check()
    content = path.read_bytes()
    assert len(content) < 11_000
    assert content.endswith(b"[log cut here: it passed its limit]\n")


def test_metrics_of_one_step_stay_one_line(tmp_path: Path, curves: MetricsLog) -> None:
    for step in range(20):
        curves.log(step=step, epoch=0, loss=1.0 / (step + 1))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(20))


def test_curves_go_on_behind_an_earlier_start(tmp_path: Path) -> None:
    """Three lines were saved, five written, half a line cut: the fourth and fifth come again."""
    path = tmp_path / "metrics.jsonl"
    curves = MetricsLog(path, SystemClock(), lambda *_, **__: None)
    for step in range(5):
        curves.log(step, loss=1.0)
    curves.close()
    written = path.read_bytes()
    path.write_bytes(written + b'{"step":5')
    again = MetricsLog(path, SystemClock(), lambda *_, **__: None)
    again.take_up(3)
    assert (again.num_lines, path.read_bytes()) == (3, written)
    for step in range(3, 7):
        again.log(step, loss=1.0)
    again.close()
    assert path.read_bytes().startswith(written)
    assert [line["step"] for line in read_jsonl(path)] == list(range(7))
    assert again.num_lines == 7


def test_a_start_from_scratch_repeats_no_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        curves = MetricsLog(path, SystemClock(), lambda *_, **__: None)
        curves.take_up(0)
        for step in range(4):
            curves.log(step, loss=1.0)
        curves.close()
    assert [line["step"] for line in read_jsonl(path)] == list(range(4))
