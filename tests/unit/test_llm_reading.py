"""Sentences from frames, with projector, language model and adapter as a trial left them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from _readings import NUM_FEATURES, readings, sentences
from _tiny_lm import tiny_backend, write_tiny_lm

from neurodecode.decoding.ctc import greedy
from neurodecode.llm.config import LlmConfig, LlmDecodingConfig
from neurodecode.llm.features import read_words
from neurodecode.llm.generate import generate
from neurodecode.llm.lora import attach, save_adapter
from neurodecode.llm.projector import Projector, load_projector, save_projector
from neurodecode.llm.prompt import Reading
from neurodecode.llm.reading import backend_for, read_sentences_with
from neurosweep.core.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a projector, beside the language model and an adapter that does something."""
    home = tmp_path_factory.mktemp("home")
    backend = tiny_backend(write_tiny_lm(home / "lm", layers=1))
    (home / "store").mkdir()
    meta = {"v": 1, "kind": "features", "backend": "folder", "hidden": 16, "subjects": ["s01"]}
    meta |= {"scale": backend.scale, "backend_sha": backend.sha}
    (home / "store" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    torch.manual_seed(0)
    save_projector(home / "store", Projector(NUM_FEATURES, 8, 16))
    model = attach(backend, LlmConfig(lora_rank=2), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3)
    save_adapter(model, home / "adapter")
    return home / "store"


def _config(store: Path, **options: Any) -> Any:
    llm = LlmConfig(backend="folder", folder=str(store.parent / "lm"), **options)
    return SimpleNamespace(llm=llm, decoding=LlmDecodingConfig(beam=2, max_new_tokens=8))


def test_every_sentence_is_written(store: Path) -> None:
    encoded: Any = readings(sentences(5, 0), seed=0, wrong=0.1)
    found = read_sentences_with(_config(store), encoded, store, store.parent / "adapter")
    assert [set(line) for line in found] == [{"hypothesis", "logp", "greedy"}] * 5

    assert [line["greedy"] for line in found] == [greedy(one.log_p_FK).text for one in encoded]
    wider = read_sentences_with(_config(store), encoded, store, store.parent / "adapter", beam=6)
    assert [w["logp"] for w in wider] != [line["logp"] for line in found]


def test_projector_and_adapter_both_count(store: Path) -> None:
    encoded: Any = readings(sentences(6, 1), seed=0)
    config = _config(store)
    found = read_sentences_with(config, encoded, store, store.parent / "adapter")
    backend = backend_for(json.loads((store / "meta.json").read_text(encoding="utf-8")), config)

    words = read_words(encoded, load_projector(store), backend.scale)
    given = [Reading(one.item, one.greedy, one.words_WH) for one in words]
    untuned = generate(backend, backend.model, given, config.decoding)
    assert [line["logp"] for line in found] != [best.logp for best, *_ in untuned]
    bare = read_sentences_with(
        _config(store, meg_tokens=False), encoded, store, store.parent / "adapter"
    )
    assert [line["logp"] for line in bare] != [line["logp"] for line in found]


def test_what_does_not_belong_together_is_said(store: Path) -> None:
    config = _config(store)
    meta = json.loads((store / "meta.json").read_text(encoding="utf-8"))
    with pytest.raises(DataError, match=r"for backend 'shipped' with vectors of 16, not for 'fold"):
        backend_for(meta | {"backend": "shipped"}, config)
    with pytest.raises(DataError, match="other weights of backend 'folder'"):
        backend_for(meta | {"backend_sha": "0" * 16}, config)
    with pytest.raises(ConfigError, match="holds no adapter"):
        read_sentences_with(config, [], store, store.parent / "nothing")
