from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from neurodecode.llm import _pretrain_loop as loop
from neurodecode.llm import pretrain as module
from neurodecode.llm._pretrain_files import save_model, text_sha
from neurodecode.llm._pretrain_loop import PretrainConfig, build_model, pretrain
from neurodecode.llm._pretrain_noise import NEIGHBOURS, misread
from neurodecode.llm._pretrain_prompts import (
    IGNORED,
    PromptNoise,
    denoising_row,
    embed_rows,
    plain_row,
)
from neurodecode.llm._pretrain_score import bits_per_character, denoising
from neurodecode.llm._pretrain_tokenizer import (
    BOS_ID,
    CHARACTERS,
    EOS_ID,
    LETTER_IDS,
    UNKNOWN_ID,
    VOCABULARY,
    character_tokenizer,
    encode,
)
from neurodecode.llm.pretrain import write_pretrained
from neurodecode.llm.word_vectors import centre_and_scale, word_vector, word_vectors
from neurodecode.text.corpus import load_sentences
from neurosweep.evaluation.splits import part_of_text

SHIPPED = Path(str(files("neurodecode.llm") / "shipped"))
TINY = PretrainConfig(
    hidden=32,
    layers=1,
    heads=2,
    feed_forward=48,
    batch_size=4,
    learning_rate=1e-2,
    minutes=None,
    steps=15,
)
TEXT = ("we ran home", "he ran away", "she ran home", "they sat here", "i sat down here")
sentences = st.lists(st.text("abcxyz", min_size=1, max_size=6), min_size=1, max_size=6).map(
    " ".join
)


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture(scope="module")
def shipped():
    return AutoModelForCausalLM.from_pretrained(SHIPPED).eval()


@given(text=st.text(CHARACTERS, max_size=60))
def test_a_token_is_a_character_and_comes_back(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == tokenizer.encode(text) == encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_the_tokenizer_knows_the_prompt_and_nothing_else(tokenizer):
    assert UNKNOWN_ID not in tokenizer.encode("CTC: \nMEG: \nOutput: ")
    assert tokenizer.encode("a!\u00e9") == [LETTER_IDS[0], UNKNOWN_ID, UNKNOWN_ID]
    assert tokenizer.decode([4, EOS_ID, 5], skip_special_tokens=True) == "ab"
    assert [VOCABULARY[i] for i in LETTER_IDS] == list("abcdefghijklmnopqrstuvwxyz")


def test_neighbours_on_the_keyboard():
    assert set(NEIGHBOURS["g"]) == set("tyfhvb")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert all(a in NEIGHBOURS[b] for a, near in NEIGHBOURS.items() for b in near)


@given(sentence=sentences, rate=st.floats(0, 1), seed=st.integers(0, 1000))
def test_misread_text_keeps_the_letters_behind_its_words(sentence, rate, seed):
    noisy = misread(sentence, rate, np.random.default_rng(seed))
    assert len(noisy.words) == len(noisy.text.split())
    assert noisy.text == " ".join(noisy.text.split())
    assert set("".join(noisy.words)) <= set(sentence) - {" "}
    clean = misread(sentence, 0.0, np.random.default_rng(seed))
    assert (clean.text, clean.words) == (sentence, tuple(sentence.split()))


def test_about_as_many_characters_are_misread_as_asked_for():
    text = " ".join(load_sentences()[:300])
    rng = np.random.default_rng(0)
    rates = [len(text) and _error_rate(text[i : i + 200], 0.3, rng) for i in range(0, 8000, 200)]
    assert 0.22 < np.mean(rates) < 0.32


def _error_rate(text, rate, rng):
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(text, misread(text, rate, rng).text) / len(text)


@pytest.fixture(name="embedding_VH")
def embedding():
    return torch.randn(len(VOCABULARY), 16, generator=torch.Generator().manual_seed(0))


def test_word_vectors_point_where_their_letters_do(embedding_VH):
    centre_H, scale = centre_and_scale(embedding_VH, LETTER_IDS)
    letters = embedding_VH[4:30]
    torch.testing.assert_close(centre_H, letters.mean(0))
    assert float(scale) == pytest.approx(math.sqrt(float((letters**2).sum(1).mean())))
    vector_H = word_vector(embedding_VH, encode("bad"), centre_H, scale)
    mean_H = (embedding_VH[4] + embedding_VH[5] + embedding_VH[7]) / 3 - centre_H
    torch.testing.assert_close(vector_H, mean_H / mean_H.norm() * scale)
    torch.testing.assert_close(word_vector(embedding_VH, encode("dab"), centre_H, scale), vector_H)
    ids_N, word_N = torch.tensor(encode("cabbad")), torch.tensor([2, 2, 2, 0, 0, 0])
    three_WH = word_vectors(embedding_VH, ids_N, word_N, 3, centre_H, scale)
    torch.testing.assert_close(three_WH[0], vector_H)
    assert not three_WH[1].any()
    assert not word_vector(embedding_VH, [], centre_H, scale).any()


def test_prompts_hold_text_vectors_and_the_answer_that_is_learnt(embedding_VH):
    quiet = PromptNoise(max_rate=0, max_vector_noise=0, no_vectors=0, blind=0, dropout=0)
    row = denoising_row("we ran", quiet, np.random.default_rng(0))
    x_BLH, target_BL, mask_BL = embed_rows([row], embedding_VH, torch.Generator())
    before = len("CTC: we ran\nMEG: ")
    centre_H, scale = centre_and_scale(embedding_VH, LETTER_IDS)
    torch.testing.assert_close(x_BLH[0, :before], embedding_VH[encode("CTC: we ran\nMEG: ")])
    for place, word in enumerate(("we", "ran")):
        wanted_H = word_vector(embedding_VH, encode(word), centre_H, scale)
        torch.testing.assert_close(x_BLH[0, before + place], wanted_H)
    after = [*encode("\nOutput: we ran"), EOS_ID]
    torch.testing.assert_close(x_BLH[0, before + 2 :], embedding_VH[after])
    learnt = [*encode("we ran"), EOS_ID]
    assert target_BL[0].tolist() == [IGNORED] * (x_BLH.shape[1] - 7) + learnt
    assert mask_BL.all()


def test_noise_keeps_the_length_of_vectors_and_dropout_makes_zeros(embedding_VH):
    rng, text = np.random.default_rng(0), "we ran home again today"
    noisy = PromptNoise(max_rate=0, max_vector_noise=1.5, no_vectors=0, blind=0, dropout=0)
    rows = [denoising_row(text, noisy, rng) for _ in range(20)]
    x_BLH, _, _ = embed_rows(rows, embedding_VH, torch.Generator().manual_seed(0))
    start = len(f"CTC: {text}\nMEG: ")
    _, scale = centre_and_scale(embedding_VH, LETTER_IDS)
    norm_BW = x_BLH[:, start : start + 5].norm(dim=-1)
    torch.testing.assert_close(norm_BW, scale.expand(20, 5))
    gone = replace(noisy, dropout=1.0)
    x_BLH, _, _ = embed_rows([denoising_row(text, gone, rng)], embedding_VH, torch.Generator())
    assert not x_BLH[0, 5 : 5 + len(text)].any()
    assert not x_BLH[0, start : start + 5].any()
    assert x_BLH[0, :5].any(dim=-1).all()
    assert x_BLH[0, start + 5 :].any(dim=-1).all()
    assert denoising_row(text, replace(noisy, no_vectors=1.0), rng).words == ()


def test_misreadings_grow_from_nothing_to_full_strength():
    noise = PromptNoise()
    assert noise.weaker(1.0) == noise.weaker(3.0) == noise
    assert noise.weaker(0.5).max_rate == noise.max_rate / 2
    quiet = noise.weaker(0.0)
    assert (quiet.max_rate, quiet.max_vector_noise, quiet.dropout) == (0, 0, 0)
    assert quiet.no_vectors == noise.no_vectors

    def lengths(progress):
        _, misread = next(loop._batches(TEXT[:1], TINY, lambda: progress))
        return {len(row.places) - len(row.words) for row in misread}

    assert len(lengths(0.0)) == 1
    assert len(lengths(TINY.ramp)) > 1


def test_hidden_words_leave_their_vectors_and_the_spaces(embedding_VH):
    text = "we ran home again today"
    noise = PromptNoise(max_rate=0, no_vectors=1, blind=1, dropout=1)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(60):
        row = denoising_row(text, noise, rng)
        assert row.words == tuple(text.split())
        x_BLH, _, _ = embed_rows([row], embedding_VH, torch.Generator())
        seen = x_BLH[0, 5 : 5 + len(text)].any(dim=-1).tolist()
        assert all(there for there, letter in zip(seen, text, strict=True) if letter == " ")
        words = "".join("x" if there else "." for there in seen)
        parts = [
            words[start : start + len(word)]
            for start, word in ((text.index(word), word) for word in text.split())
        ]
        assert all(len(set(part)) == 1 for part in parts)
        shares.append(np.mean([part[0] == "." for part in parts]))
    assert 0.5 < np.mean(shares) < 0.8


def test_padding_is_silent_on_either_side(embedding_VH):
    rows = [plain_row("ab"), plain_row("abcd")]
    for left in (False, True):
        x_BLH, target_BL, mask_BL = embed_rows(rows, embedding_VH, torch.Generator(), left=left)
        assert mask_BL.sum(1).tolist() == [4, 6]
        assert mask_BL[0].tolist() == (
            [False] * 2 + [True] * 4 if left else [True] * 4 + [False] * 2
        )
        assert not x_BLH[~mask_BL].any()
        assert (target_BL[~mask_BL] == IGNORED).all()
        torch.testing.assert_close(x_BLH[0][mask_BL[0]], embedding_VH[[BOS_ID, 4, 5, EOS_ID]])


def test_a_tiny_model_learns_and_equal_seeds_give_equal_weights():
    first, losses = pretrain(TEXT, TINY)
    again, same = pretrain(TEXT, TINY)
    assert len(losses) == 15
    assert losses == same
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    assert losses[0] == pytest.approx(math.log(len(VOCABULARY)), rel=0.1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    _, others = pretrain(TEXT, replace(TINY, seed=1, steps=2))
    assert others != losses[:2]


def test_training_ends_by_time_and_saves_on_the_way(monkeypatch):
    saved = []
    config = replace(TINY, steps=None, minutes=0.01)
    lines = []
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    _, losses = pretrain(TEXT, config, log=lines.append, save=saved.append, save_every_s=0)
    assert losses
    assert len(saved) == len(lines) == len(losses)
    assert lines[0].startswith("step 1, ")
    with pytest.raises(ValueError, match="never ends"):
        pretrain(TEXT, replace(config, minutes=None))


def test_the_rate_rises_then_falls_to_nothing():
    rates = [loop._schedule(done, 0.03) for done in (0, 0.015, 0.03, 0.5, 1.0)]
    assert rates == pytest.approx([0.05, 0.525, 1.0, rates[3], 0.0])
    assert 0.4 < rates[3] < 0.6


def test_typed_sentences_are_half_of_what_is_drawn_and_long_ones_are_rare():
    typed = [text for text in load_sentences() if len(text) <= TINY.short][:3]
    texts = [*typed, "zz " * 8 + "zz", "zz " * 20 + "zz"]
    weights = loop._weights(texts, TINY)
    assert weights[:3].sum() == pytest.approx(0.5)
    assert weights[3] / weights[4] == pytest.approx(10)


def test_the_script_writes_a_folder_that_transformers_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SCORED", 3)
    monkeypatch.setattr(module, "_DENOISED", 2)
    monkeypatch.setattr(module, "allowed_text", lambda: TEXT)
    monkeypatch.setattr(module, "PretrainConfig", lambda **given: replace(TINY, **given))
    threads = str(torch.get_num_threads())
    folder = tmp_path / "lm"
    module.main(["--out", str(folder), "--steps", "3", "--seed", "7", "--threads", threads])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["text"]["sha256"] == text_sha(TEXT)
    (training,) = manifest["training"]
    assert (training["made_steps"], training["seed"], training["ramp"]) == (3, 7, TINY.ramp)
    assert set(manifest["held_out"]["character_error_rate"]) == {"read", "vectors", "no_vectors"}
    expected, _ = pretrain(TEXT, replace(TINY, steps=3, seed=7))
    read = AutoModelForCausalLM.from_pretrained(folder)
    assert read.dtype == torch.float32
    for name, value in expected.state_dict().items():
        assert torch.equal(value.half().float(), read.state_dict()[name]), name
    module.main(
        [
            "--out",
            str(tmp_path / "on"),
            "--steps",
            "2",
            "--start",
            str(folder),
            "--threads",
            threads,
        ]
    )
    phases = json.loads((tmp_path / "on" / "manifest.json").read_text())["training"]
    assert phases[0] == training
    assert (phases[1]["made_steps"], phases[1]["ramp"]) == (2, 0.0)
    with pytest.raises(ValueError, match="was trained on another text"):
        write_pretrained(tmp_path / "other", TEXT[:2], TINY, folder)


def test_scores_of_a_model_that_knows_nothing():
    model = build_model(replace(TINY, seed=3)).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    assert bits_per_character(model, TEXT) == pytest.approx(math.log2(len(VOCABULARY)), rel=1e-5)


def test_scores_do_not_depend_on_what_else_is_scored(shipped):
    apart = [bits_per_character(shipped, [text]) * (len(text) + 1) for text in TEXT]
    together = bits_per_character(shipped, TEXT) * sum(len(text) + 1 for text in TEXT)
    assert sum(apart) == pytest.approx(together, rel=1e-4)


def test_the_shipped_folder_is_small_and_loads(shipped):
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 10_000_000
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    assert sum(p.numel() for p in shipped.parameters()) == manifest["parameters"]
    assert shipped.dtype == torch.float32
    assert manifest["text"]["sources"][1]["licence"] == "CC-BY-2.0-FR"
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    made = character_tokenizer()
    assert tokenizer.get_vocab() == made.get_vocab()
    for text in ("CTC: we ran\nMEG: ", "\nOutput: a  b"):
        assert tokenizer.encode(text) == made.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (EOS_ID, 0)


def test_the_shipped_model_knows_english_and_uses_word_vectors(shipped):
    dev = [text for text in load_sentences() if part_of_text(text) == "dev"]
    short = [text for text in dev if len(text) <= 30 and len(text.split()) >= 3]
    assert bits_per_character(shipped, dev[::60]) < 2.3
    rates = denoising(shipped, short[::40], rate=0.2, vector_noise=0.75)["word_error_rate"]
    assert rates["vectors"] < 0.9 * rates["no_vectors"]
    assert rates["vectors"] < 0.75 * rates["read"]


def test_weights_are_saved_in_half_precision(tmp_path):
    model = build_model(TINY)
    save_model(model, tmp_path)
    parameters = sum(p.numel() for p in model.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 2 * parameters + 5000
    assert model.dtype == torch.float32


def test_a_folder_gets_a_log_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOG_EVERY", 2)
    monkeypatch.setattr(module, "held_out_scores", lambda _: {})
    write_pretrained(tmp_path / "lm", TEXT, replace(TINY, steps=2))
    assert "step 2, " in (tmp_path / "lm.log").read_text()
