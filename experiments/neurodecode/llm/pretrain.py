"""Make the small language model of characters that is shipped.

``python -m neurodecode.llm.pretrain --out FOLDER`` trains it on sentences that no search is ever
scored on: on plain ones, and on misread ones that are to be put right.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurodecode.llm._pretrain_files import read_phases, save_model, write_manifest
from neurodecode.llm._pretrain_loop import PretrainConfig, pretrain
from neurodecode.llm._pretrain_score import bits_per_character, denoising
from neurodecode.text.corpus import load_sentences, load_tatoeba
from neurodecode.text.near_duplicates import allowed_text
from neurosweep.evaluation.splits import part_of_text

_SCORED = 1000
_DENOISED = 200
_SECOND_RATE = 1.5e-3
_RATE, _VECTOR_NOISE = 0.2, 0.75


def held_out_scores(model: Any) -> dict[str, Any]:
    """Return what the model reaches on shipped sentences of part dev, which never train it."""
    rng = np.random.default_rng(0)
    dev = {}
    for name, sentences in (("cc0", load_sentences()), ("tatoeba", load_tatoeba())):
        held_out = [text for text in sentences if part_of_text(text) == "dev"]
        dev[name] = [held_out[i] for i in rng.permutation(len(held_out))]
    short = [text for text in dev["cc0"] if len(text) <= 30 and len(text.split()) >= 3]
    rates = denoising(model, short[:_DENOISED], rate=_RATE, vector_noise=_VECTOR_NOISE)
    return {
        "bits_per_character": {
            name: round(bits_per_character(model, texts[:_SCORED]), 4)
            for name, texts in dev.items()
        },
        "misread_share": _RATE,
        "vector_noise": _VECTOR_NOISE,
        **rates,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the model and write its folder."""
    parser = argparse.ArgumentParser(prog="python -m neurodecode.llm.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--minutes", type=float, default=None, help="35 unless --steps is given")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=None, help="folder to go on from")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    minutes = 35.0 if options.minutes is None and options.steps is None else options.minutes
    config = PretrainConfig(minutes=minutes, steps=options.steps, seed=options.seed)
    if options.start is not None:
        config = replace(config, learning_rate=_SECOND_RATE, ramp=0.0)
    write_pretrained(options.out, allowed_text(), config, options.start)


def write_pretrained(
    folder: Path, sentences: Sequence[str], config: PretrainConfig, start: Path | None = None
) -> None:
    """Train a model and write its folder, with a log beside it.

    Parameters
    ----------
    folder
        Gets the model and its manifest.
    sentences
        Text that it may learn from.
    config
        Options.
    start
        Folder that this function wrote, to go on from: the manifest then tells of both trainings.

    Raises
    ------
    ValueError
        When the model of `start` was trained on another text.
    """
    phases = [] if start is None else read_phases(start, sentences)
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(f"{time.monotonic() - begun:.0f} s, {line}")
        (folder.parent / f"{folder.name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def save(model: Any) -> None:
        save_model(model, folder)

    model, losses = pretrain(sentences, config, start=start, log=log, save=save)
    save(model)
    minutes = round((time.monotonic() - begun) / 60, 1)
    phases.append({**asdict(config), "made_steps": len(losses), "made_minutes": minutes})
    write_manifest(folder, model, sentences, phases, held_out_scores(model))


if __name__ == "__main__":
    main()
