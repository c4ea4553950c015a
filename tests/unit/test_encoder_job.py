"""A whole job of an encoder on a small store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _sentence_stores import make_sentence_facts, write_sentence_store
from _window_stores import Recorder

from neurodecode.decoding.config import CtcDecodingConfig
from neurodecode.jobs.encoder import prediction, run
from neurodecode.training.checkpoint import load_encoder
from neurodecode.training.encoder_fit import Encoded, encode
from neurodecode.training.sentences import read_sentences
from neurosweep.core.errors import DataError

CONFIG: dict[str, Any] = {
    "data": {"dataset": "simulated_typing"},
    "model": {
        "family": "conv_conformer",
        "merger_channels": 8,
        "fourier_grid": 4,
        "mixed_channels": 8,
        "conv_width": 16,
        "num_convs": 2,
        "width": 16,
        "num_layers": 1,
        "ffn_width": 16,
        "conformer_kernel": 5,
    },
    "training": {"epochs": 2, "batch_size": 4, "device": "cpu"},
}
COUNTS = {"train": 8, "dev": 2, "val": 5, "test": 3}


def _run(recorder: Recorder, folder: Path, **options: Any) -> list[Any]:
    return list(run(recorder.context(CONFIG, [folder], **options)))


def test_a_job_trains_predicts_and_keeps_its_encoder(tmp_path: Path) -> None:
    facts = make_sentence_facts(5, 2)
    held_back = write_sentence_store(tmp_path, facts, COUNTS)
    recorder = Recorder()
    lines = _run(recorder, tmp_path)
    assert [line["item"] for line in lines] == [item for item in held_back if "/val" in item]
    assert all(line["nbest"][0] == [line["hypothesis"], line["logp"]] for line in lines)
    # Two epochs of two steps and a batch of dev; one batch to predict after a first sign.
    assert recorder.phases == ["load fold 0", *["train fold 0"] * 6, *["predict fold 0"] * 2]
    assert [epoch for _, epoch, _ in recorder.lines] == [1, 2]
    assert {"loss", "dev_cer", "learning_rate", "fold"} == set(recorder.lines[0][2])
    model, loaded_facts = load_encoder(tmp_path / "ckpt" / "encoder")
    assert loaded_facts == facts
    val = read_sentences(tmp_path, "val", facts.subjects)
    again = [
        prediction(one, CtcDecodingConfig()) for one in encode(model, val, torch.device("cpu"))
    ]
    assert [line["hypothesis"] for line in again] == [line["hypothesis"] for line in lines]


def test_equal_seeds_give_equal_predictions_and_a_confirmation_reads_test(tmp_path: Path) -> None:
    write_sentence_store(tmp_path, make_sentence_facts(5), COUNTS)
    first, again = (_run(Recorder(), tmp_path, seed=2, part="test") for _ in range(2))
    assert first == again
    assert [line["item"] for line in first] == [f"s00/rec/test{n:03d}" for n in range(3)]


def test_a_beam_writes_its_best_texts() -> None:
    log_p_FK = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], dtype=np.float32))
    one = Encoded("s00/rec/0", log_p_FK, np.zeros((2, 3), dtype=np.float32))
    line = prediction(one, CtcDecodingConfig())
    assert (line["item"], line["hypothesis"]) == ("s00/rec/0", "")
    assert line["logp"] == pytest.approx(2 * np.log(0.6), abs=1e-6)
    line = prediction(one, CtcDecodingConfig(beam=4, nbest=3))
    assert line["hypothesis"] == "a"
    assert [text for text, _ in line["nbest"]] == ["a", ""]
    assert line["logp"] == pytest.approx(np.log(0.64), abs=1e-6)


def test_a_store_of_windows_is_refused(tmp_path: Path) -> None:
    write_sentence_store(tmp_path, make_sentence_facts(5), COUNTS)
    meta = tmp_path / "meta.json"
    meta.write_text(meta.read_text().replace('"kind": "sentences"', '"kind": "windows"'))
    with pytest.raises(DataError, match="holds windows, this model needs sentences"):
        _run(Recorder(), tmp_path)
