"""Files of a pre-trained language model: a folder of transformers, and where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurodecode.llm._pretrain_tokenizer import character_tokenizer

MANIFEST = "manifest.json"
LICENCES = (
    {
        "name": "Common Voice, English sentences (sentence-collector, harvsents)",
        "licence": "CC0-1.0",
        "address": "https://github.com/common-voice/common-voice",
    },
    {
        "name": "Tatoeba, English sentences, by way of www.manythings.org/anki",
        "licence": "CC-BY-2.0-FR",
        "address": "https://tatoeba.org",
    },
)


def text_sha(sentences: Sequence[str]) -> str:
    """Return the SHA-256 of sentences, one a line."""
    return hashlib.sha256("".join(f"{text}\n" for text in sentences).encode()).hexdigest()


def save_model(model: Any, folder: Path) -> None:
    """Write weights in half precision, configuration and tokenizer.

    The configuration asks for single precision, so that the model is loaded in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().half() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    model.save_pretrained(folder, state_dict=weights)
    (folder / "model.safetensors").chmod(0o644)
    character_tokenizer().save_pretrained(folder)
    _set(folder / "config.json", "dtype", "float32")
    _set(folder / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")


def _set(path: Path, name: str, value: str) -> None:
    data = {**json.loads(path.read_text(encoding="utf-8")), name: value}
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_phases(folder: Path, sentences: Sequence[str]) -> list[dict[str, Any]]:
    """Return how a model was trained so far.

    Raises
    ------
    ValueError
        When that was on another text than these sentences.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["text"]["sha256"] != text_sha(sentences):
        raise ValueError(f"{folder}: its model was trained on another text; begin anew")
    phases: list[dict[str, Any]] = manifest["training"]
    return phases


def write_manifest(
    folder: Path,
    model: Any,
    sentences: Sequence[str],
    phases: Sequence[dict[str, Any]],
    scores: dict[str, Any],
) -> None:
    """Write what the model was trained on, how, and what it reaches."""
    manifest = {
        "v": 1,
        "script": "python -m neurodecode.llm.pretrain",
        "text": {
            "sha256": text_sha(sentences),
            "sentences": len(sentences),
            "characters": sum(map(len, sentences)),
            "sources": LICENCES,
            "rule": "neurodecode.text.near_duplicates.allowed_text",
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": phases,
        "held_out": scores,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
