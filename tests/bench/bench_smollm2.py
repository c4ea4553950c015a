"""Tune SmolLM2-135M for a few dozen steps and decode with it: minutes on one core.

Run as ``python tests/bench/bench_smollm2.py [--store FOLDER] [--steps 40] [--sentences 20]``.
Without a store of features (made for backend 'smollm2'), bundled sentences are misread at random
and their word vectors made noisy. It prints the losses, the word error rates of the misread text,
of the model before and after tuning, and the seconds of each part. It exits with 1 when tuning
does not lower the loss and the error rate, or when peft alone does not give the same logits from
the saved adapter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _tiny_lm import feature_item

from neurodecode.llm.backend import Backend, load_backend
from neurodecode.llm.config import LlmConfig, LlmDecodingConfig
from neurodecode.llm.feature_store import read_feature_store
from neurodecode.llm.features import WordTargets
from neurodecode.llm.generate import LlmHypothesis, generate
from neurodecode.llm.lora import merged, quiet_peft, save_adapter
from neurodecode.llm.prompt import Prompter, Reading
from neurodecode.llm.sources import StoredSource, reading_of
from neurodecode.llm.train import dev_loss, train_lora
from neurodecode.text.corpus import load_sentences
from neurosweep.evaluation.rates import text_edits
from neurosweep.evaluation.splits import part_of_text

DECODING = LlmDecodingConfig(beam=4, max_new_tokens=30)
NUM_DEV = 16


class Clock:
    """Tell how long parts take."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def tell(self, what: str) -> None:
        """Print the seconds since the last call."""
        wall, cpu = time.monotonic(), time.process_time()
        print(f"{what}: {wall - self._wall:.1f} s ({cpu - self._cpu:.1f} s of processor)")
        self._wall, self._cpu = wall, cpu


def made_up(backend: Backend, counts: dict[str, int]) -> dict[str, list[Reading]]:
    """Return bundled sentences of every part, misread at random."""
    rng = np.random.default_rng(0)
    targets = WordTargets(backend.word_target, backend.scale, backend.hidden)
    texts: dict[str, list[str]] = {part: [] for part in counts}
    sentences = [text for text in load_sentences() if 15 <= len(text) <= 45]
    for row in rng.permutation(len(sentences)):
        part = part_of_text(sentences[row])
        if part in counts and len(texts[part]) < counts[part]:
            texts[part].append(sentences[row])
    return {
        part: [reading_of(feature_item(text, text, targets, rng)) for text in found]
        for part, found in texts.items()
    }


def stored(folder: Path, counts: dict[str, int]) -> dict[str, list[Reading]]:
    """Return readings of a store; sentences of dev stand for new ones, as val has no text."""
    parts = read_feature_store(folder, ("train", "dev")).parts
    readings = {part: [reading_of(item) for item in items] for part, items in parts.items()}
    new = readings["dev"][: counts["val"]]
    seen = readings["train"][: counts["train"]]
    return {"train": seen, "dev": readings["dev"][counts["val"] :][:NUM_DEV], "val": new}


def wer(readings: Sequence[Reading], texts: Sequence[str]) -> float:
    """Return the mean word error rate of texts, in percent."""
    references = {reading.item: reading.target or "" for reading in readings}
    edits = text_edits(references, dict(zip(references, texts, strict=True)))
    return 100.0 * float(np.mean([words.rate for words, _ in edits.values()]))


def best(found: Sequence[Sequence[LlmHypothesis]]) -> list[str]:
    """Return the best text of every sentence."""
    return [hypotheses[0].text for hypotheses in found]


def same_with_peft(model: PeftModel, config: LlmConfig, readings: Sequence[Reading]) -> float:
    """Return the largest difference of logits between our model and what peft loads itself."""
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder))
        fresh = load_backend(config)
        batch = Prompter(fresh).examples(readings[:2])
        with quiet_peft(), torch.inference_mode():
            plain = PeftModel.from_pretrained(fresh.model, folder).eval()
            theirs = plain(inputs_embeds=batch.input_BLH).logits
            ours = model(inputs_embeds=batch.input_BLH).logits
    return float((theirs - ours).abs().max())


def main() -> int:
    """Measure, print, and return 1 when tuning or the saved adapter does not do what it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--sentences", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock()
    config = LlmConfig(backend="smollm2", lora_rank=8, batch_size=8, learning_rate=1e-3)
    backend = load_backend(config)
    clock.tell("loading")
    counts = {"train": args.steps * config.batch_size, "dev": NUM_DEV, "val": args.sentences}
    data = stored(args.store, counts) if args.store else made_up(backend, counts)
    val = data["val"]
    before = wer(val, best(generate(backend, backend.model, val, DECODING)))
    clock.tell("decoding before tuning")
    losses = [dev_loss(backend.model, Prompter(backend), data["dev"])]

    def log(step: int, _: int, **metrics: float) -> None:
        losses.append(metrics["dev_loss"])
        print(f"step {step}: loss {metrics['loss']:.3f}, dev {metrics['dev_loss']:.3f}")

    print(f"step 0: dev {losses[0]:.3f}")
    model = train_lora(backend, StoredSource(data["train"]), data["dev"], config, seed=0, log=log)
    clock.tell("tuning")
    with merged(model) as base:
        texts = best(generate(backend, base, val, DECODING))
        without = best(generate(backend, base, [r.without_words() for r in val], DECODING))
    clock.tell("decoding twice")
    after, greedy = wer(val, texts), wer(val, [reading.greedy for reading in val])
    rates = {"misread": greedy, "before": before, "after": after, "no vectors": wer(val, without)}
    print("WER in percent:", ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))
    for reading, text in list(zip(val, texts, strict=True))[:5]:
        print(f"  {reading.target} | {reading.greedy} | {text}")
    difference = same_with_peft(model, config, data["dev"])
    clock.tell("loading the adapter with peft alone")
    print(f"largest difference of logits {difference:.2e}")
    return int(min(losses[1:]) >= losses[0] or after >= before or difference > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
