"""A random character-level Llama in a transformers folder, for tests of language models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neurodecode.llm.backend import Backend, load_backend
from neurodecode.llm.config import LlmConfig
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.feature_store import FeatureItem, write_errors, write_part
from neurodecode.llm.features import SentenceWords, WordTargets, scaled
from neurodecode.llm.residuals import Residuals

CHARACTERS = "abcdefghijklmnopqrstuvwxyz CTMEGOutp:\n"
SPECIALS = ("<pad>", "<eos>", "<unk>")


def char_tokenizer() -> PreTrainedTokenizerFast:
    vocab = {symbol: i for i, symbol in enumerate((*SPECIALS, *dict.fromkeys(CHARACTERS)))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def tiny_model(
    *, hidden: int = 16, layers: int = 2, heads: int = 2, seed: int = 0
) -> LlamaForCausalLM:
    tokenizer = char_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    # Logits large enough to be sure of a token, which an adapter of other layers cannot bring.
    torch.nn.init.constant_(model.model.norm.weight, 4.0)
    return model


def write_tiny_lm(
    folder: Path, *, hidden: int = 16, layers: int = 2, heads: int = 2, seed: int = 0
) -> Path:
    """Write a folder that `from_pretrained` reads; the weights are random."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(hidden=hidden, layers=layers, heads=heads, seed=seed).save_pretrained(folder)
    char_tokenizer().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "llama"
    return folder


def tiny_backend(folder: Path) -> Backend:
    """Write a tiny model unless the folder holds one, and load it as any other."""
    if not (folder / "config.json").is_file():
        write_tiny_lm(folder)
    return load_backend(LlmConfig(backend="folder", folder=str(folder)))


def misread(text: str, rng: np.random.Generator, rate: float = 0.2) -> str:
    """Return a text whose letters are replaced at a rate; words keep their number."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    draw = rng.random(len(text)) < rate
    return "".join(
        letters[rng.integers(26)] if wrong and symbol != " " else symbol
        for symbol, wrong in zip(text, draw, strict=True)
    )


def feature_item(
    name: str, text: str, targets: WordTargets, rng: np.random.Generator, *, noise: float = 0.5
) -> FeatureItem:
    """Return a sentence as an encoder might have read it: wrong letters, noisy vectors."""
    words_WH = np.stack([targets(word) for word in text.split()])
    spread = noise * targets.scale / targets.hidden**0.5
    words_WH = scaled(words_WH + spread * rng.standard_normal(words_WH.shape), targets.scale)
    return FeatureItem(name, "s01", "r1", misread(text, rng), words_WH, text, text)


def write_feature_store(
    root: Path, backend: Backend, texts: Mapping[str, Sequence[str]], seed: int = 0
) -> dict[str, str]:
    """Write a store of features of made-up readings; return val's references."""
    rng = np.random.default_rng(seed)
    targets = WordTargets(backend.word_target, backend.scale, backend.hidden)
    root.mkdir(parents=True, exist_ok=True)
    references: dict[str, str] = {}
    for part, sentences in texts.items():
        names = [f"s01/r1/{part}{i:04d}" for i in range(len(sentences))]
        items = [
            feature_item(name, text, targets, rng)
            for name, text in zip(names, sentences, strict=True)
        ]
        labelled = part in ("train", "dev")
        write_part(root / part, items, labelled=labelled)
        if part == "dev":
            pairs = [(item.typed or "", item.greedy) for item in items]
            read = [SentenceWords(i.item, i.greedy, i.words_WH, i.typed) for i in items]
            write_errors(root, Confusions.fit(pairs), Residuals.measure(read, targets))
        if not labelled:
            references |= dict(zip(names, sentences, strict=True))
    meta = {"v": 1, "data_fp": "0" * 16, "kind": "features", "backend": backend.name}
    meta |= {"hidden": backend.hidden, "scale": backend.scale, "encoder_sha": "0" * 16}
    meta |= {"cross_fit": 0, "residual_scale": 1.0, "subjects": ["s01"]}
    (root / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return references
