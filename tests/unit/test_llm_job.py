"""A whole job of the language-model stage on a small store of features."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _tiny_lm import tiny_backend, write_feature_store, write_tiny_lm
from _window_stores import Recorder
from peft import PeftModel
from transformers import AutoModelForCausalLM

from neurodecode.jobs import llm as job
from neurodecode.llm import generate
from neurodecode.llm.config import LlmConfig, LlmDecodingConfig
from neurodecode.llm.feature_store import read_feature_store
from neurodecode.llm.lora import attach, quiet_peft
from neurodecode.llm.sources import NoisySource, StoredSource, WithoutWords, reading_of
from neurodecode.models.conv_conformer.network import ConvConformer
from neurodecode.training import checkpoint, encoder_fit
from neurosweep.core.errors import DataError

WORDS = ("cat", "dog", "sees", "the", "old", "fox", "likes", "jumps")


def _sentences(num: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 4))) for _ in range(num)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model and a store made for it."""
    home = tmp_path_factory.mktemp("home")
    backend = tiny_backend(write_tiny_lm(home / "lm", layers=1))
    texts = {"train": _sentences(24, 0), "dev": _sentences(8, 1), "val": _sentences(9, 2)}
    references = write_feature_store(home / "store", backend, texts)
    (home / "references.json").write_text(json.dumps(references), encoding="utf-8")
    return home


def _config(home: Path, **changes: Any) -> dict[str, Any]:
    llm = {"backend": "folder", "folder": str(home / "lm"), "device": "cpu", "lora_rank": 2}
    decoding = {"beam": 2, "max_new_tokens": 8, "nbest": 2}
    config = {"llm": llm, "decoding": decoding}
    for path, value in changes.items():
        section, _, name = path.partition("__")
        config[section][name] = value
    data = {"dataset": "simulated_typing"}
    return {"data": data, "model": {"family": "conv_conformer"}} | config


def _run(home: Path, out: Path, *, seed: int = 0, **changes: Any) -> tuple[list[Any], Recorder]:
    recorder = Recorder()
    context = recorder.context(_config(home, **changes), [home / "store"], seed=seed)
    out.mkdir(exist_ok=True)
    return list(job.run(replace(context, attempt_dir=out))), recorder


def test_every_sentence_is_written_with_its_variants(home: Path, tmp_path: Path) -> None:
    lines, recorder = _run(home, tmp_path)
    items = {item.item: item for item in read_feature_store(home / "store", ("val",)).parts["val"]}
    assert [line["item"] for line in lines] == list(items)
    for line in lines:
        assert set(line) == {"item", "hypothesis", "logp", "nbest", "variants"}
        assert line["nbest"][0] == [line["hypothesis"], line["logp"]]
        assert set(line["variants"]) == {"greedy", "no_meg"}
        assert line["variants"]["greedy"] == items[line["item"]].greedy
        assert set(line["hypothesis"]) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert list(dict.fromkeys(recorder.phases)) == ["load fold 0", "train fold 0", "predict fold 0"]
    assert {"loss", "dev_loss", "learning_rate", "fold"} == set(recorder.lines[0][2])
    json.dumps(lines, allow_nan=False)


def test_every_step_and_every_batch_that_is_decoded_is_a_sign_of_life(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is silent for minutes is ended as hung."""
    monkeypatch.setattr(generate, "_MAX_BEAMS", 4)
    _, recorder = _run(home, tmp_path, llm__batch_size=4, llm__epochs=2)
    steps = recorder.lines[-1][0]
    assert steps == 2 * 24 // 4
    batches_of_dev = len(recorder.lines)
    assert recorder.phases.count("train fold 0") == steps + batches_of_dev
    # Nine sentences and the same without word vectors, two at a time, after a first sign.
    assert recorder.phases.count("predict fold 0") == 1 + 9


def test_no_encoder_runs_in_a_job(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that an encoder reads was stored when the data were prepared."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("an encoder is asked")

    asked = (encoder_fit.encode, encoder_fit.fit_encoder, checkpoint.load_encoder)
    modules = [module for name, module in sys.modules.items() if name.startswith("neurodecode")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if any(value is one for one in asked):
                monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(ConvConformer, "__init__", forbidden)
    without = shutil.copytree(home, tmp_path / "home")
    for file in ("encoder", "projector.safetensors", "projector.json"):
        assert not (without / "store" / file).exists()
    lines, _ = _run(without, tmp_path / "out")
    assert len(lines) == 9


def test_the_adapter_it_keeps_loads_with_peft_alone(home: Path, tmp_path: Path) -> None:
    _run(home, tmp_path)
    base = AutoModelForCausalLM.from_pretrained(str(home / "lm"), dtype=torch.float32)
    ids = torch.arange(3, 20)[None]
    before = base(input_ids=ids).logits
    with quiet_peft():
        model = PeftModel.from_pretrained(base, str(tmp_path / "ckpt" / "adapter"))
    assert not torch.allclose(model(input_ids=ids).logits, before, atol=1e-4)


def test_the_same_seed_writes_the_same(home: Path, tmp_path: Path) -> None:
    first, _ = _run(home, tmp_path / "a", seed=1, llm__lora_dropout=0.1)
    again, _ = _run(home, tmp_path / "b", seed=1, llm__lora_dropout=0.1)
    other, _ = _run(home, tmp_path / "c", seed=2, llm__lora_dropout=0.1)
    assert first == again
    assert [line["logp"] for line in first] != [line["logp"] for line in other]


def test_variants_can_be_left_out(home: Path, tmp_path: Path) -> None:
    lines, _ = _run(home, tmp_path / "a", decoding__variants=False)
    assert all("variants" not in line for line in lines)
    with_them, _ = _run(home, tmp_path / "b")
    assert [line["hypothesis"] for line in lines] == [line["hypothesis"] for line in with_them]


def test_without_meg_tokens_there_is_no_such_variant(home: Path, tmp_path: Path) -> None:
    lines, recorder = _run(home, tmp_path, llm__meg_tokens=False)
    assert {tuple(line["variants"]) for line in lines} == {("greedy",)}
    silenced = shutil.copytree(home, tmp_path / "silenced")
    words = np.load(silenced / "store" / "val" / "words.npy")
    np.save(silenced / "store" / "val" / "words.npy", np.zeros_like(words))
    same, _ = _run(silenced, tmp_path / "again", llm__meg_tokens=False)
    assert same == lines
    assert recorder.lines


def test_training_on_the_encoders_own_readings(home: Path, tmp_path: Path) -> None:
    noisy, _ = _run(home, tmp_path / "a", llm__epochs=2)
    stored, _ = _run(home, tmp_path / "b", llm__epochs=2, llm__noise="none")
    assert [line["logp"] for line in noisy] != [line["logp"] for line in stored]


def test_sources_give_targets_and_fresh_errors(home: Path) -> None:
    backend = tiny_backend(home / "lm")
    store = read_feature_store(home / "store", ("train",))
    noisy = job.training_source(backend, store, "confusion", seed=3)
    assert isinstance(noisy, NoisySource)
    first, again, second = noisy.readings(1), noisy.readings(1), noisy.readings(2)
    assert len(noisy) == len(first) == 24
    assert [r.greedy for r in first] == [r.greedy for r in again]
    assert [r.greedy for r in first] != [r.greedy for r in second]
    other = job.training_source(backend, store, "confusion", seed=4)
    assert [r.greedy for r in first] != [r.greedy for r in other.readings(1)]
    stored = job.training_source(backend, store, "none", seed=3)
    assert isinstance(stored, StoredSource)
    items = store.parts["train"]
    assert [r.greedy for r in stored.readings(1)] == [item.greedy for item in items]
    for source in (noisy, stored):
        assert [r.target for r in source.readings(1)] == [item.text for item in items]
        assert [r.item for r in source.readings(1)] == [item.item for item in items]
    bare = WithoutWords(noisy)
    assert len(bare) == 24
    assert all(len(r.words_WH) == 0 for r in bare.readings(1))


def test_features_of_another_model_are_refused(home: Path, tmp_path: Path) -> None:
    wider = shutil.copytree(home, tmp_path / "wider")
    shutil.rmtree(wider / "lm")
    write_tiny_lm(wider / "lm", hidden=24)
    with pytest.raises(
        DataError, match=r"'folder' with vectors of 16, not for 'folder' with .* 24"
    ):
        _run(wider, tmp_path)


def test_prediction_uses_no_labels(home: Path) -> None:
    """The part to predict holds no text, and its items alone decide what is written."""
    entries = json.loads((home / "store" / "val" / "items.json").read_text(encoding="utf-8"))
    assert all(not {"text", "typed"} & set(entry) for entry in entries)
    backend = tiny_backend(home / "lm")
    store = read_feature_store(home / "store", ("val",))
    readings = [reading_of(item) for item in store.parts["val"]]
    assert all(reading.target is None for reading in readings)
    config = LlmConfig(backend="folder", folder=str(home / "lm"))
    model = attach(backend, config, seed=0)
    lines = list(job.predict(backend, model, readings, config, LlmDecodingConfig(beam=2)))
    assert len(lines) == 9


@pytest.mark.slow
def test_importing_the_job_starts_no_thread() -> None:
    """A fork server imports it once; a forked child needs a parent with one thread."""
    code = (
        "import torch, transformers, peft, neurodecode.jobs.llm, pathlib;"
        "print(len(list(pathlib.Path('/proc/self/task').iterdir())))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
