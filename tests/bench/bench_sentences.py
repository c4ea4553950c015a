"""Whether the language model helps: WER of greedy CTC, of the LLM stage, and without MEG tokens.

For every seed an encoder is trained from scratch on simulated MEG of typed sentences, and again on
each fold of the training sentences, so that the language model learns from outputs on sentences
that the encoder had not seen. Then two adapters are trained, one with and one without MEG tokens.
All decode the same validation sentences; errors are averaged over seeds and compared sentence by
sentence. A seed whose encoder never leaves the plateau of blanks (dev CER above 0.75) is drawn
again, and said. A last encoder is trained on permuted sentences: it must stay at chance.

Run: python tests/bench/bench_sentences.py [--home DIR] [--seeds 5] [--train 620] [--val 220]
     [--folds 3] [--encoder-epochs 16] [--epochs 6] [--workers 2] [--json FILE]
Cost: about an hour of two cores; encoders are kept in the home and not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurodecode import entry
from neurosweep.core.config import set_dotted
from neurosweep.core.layout import Home
from neurosweep.evaluation.intervals import paired_difference
from neurosweep.evaluation.predictions import Prediction
from neurosweep.evaluation.references import read_references
from neurosweep.evaluation.score import score

FAILED_CER = 0.75
LABELS = {
    "greedy": "greedy CTC",
    "llm": "LLM stage",
    "no_meg_trained": "LLM stage, trained without MEG tokens",
    "no_meg": "LLM stage, MEG tokens taken away when decoding",
}


def run_job(job: str, config: Mapping[str, Any], stores: Sequence[Path], seed: int, folder: Path):
    """Run a job in this process and return its predictions, item to line."""
    from importlib import import_module

    from neurosweep.exec.job_api import JobContext

    folder.mkdir(parents=True, exist_ok=True)
    ctx = JobContext(
        attempt_dir=folder,
        config=config,
        seed=seed,
        threads=1,
        folds=tuple(stores),
        log=lambda *_args, **_values: None,
        beat=lambda *_args, **_values: None,
        should_stop=lambda: False,
    )
    return {line["item"]: line for line in import_module(job).run(ctx)}


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a configuration with dotted paths set."""
    copy = json.loads(json.dumps(config))
    for path, value in changes.items():
        set_dotted(copy, path, value)
    return copy


def one_seed(arguments: tuple[Path, dict[str, Any], int, dict[str, Any]]) -> dict[str, Any]:
    """Train encoders and adapters of one seed; return texts and costs."""
    import torch

    home, sizes, seed, llm = arguments
    torch.set_num_threads(1)
    began = time.monotonic()
    settings = {**sizes, "encoder.seed": seed, "llm.noise": "none"}
    alone = entry.describe({"recipe": "sentences_llm", "set": settings | {"encoder.cross_fit": 0}})
    first = entry.prepare({"config": alone["config"], "home": str(home)})["encoder"]
    if first["dev_cer"] > FAILED_CER:
        return {"seed": seed, "failed": first["dev_cer"]}
    described = entry.describe({"recipe": "sentences_llm", "set": settings})
    prepared = entry.prepare({"config": described["config"], "home": str(home)})
    encoders_s = time.monotonic() - began
    stores = [home / store for store in prepared["stores"]]
    config = changed(described["config"], llm)
    began = time.monotonic()
    folder = home / "bench" / f"seed{seed}"
    job = described["entry"].split(":")[0]
    lines = run_job(job, config, stores, seed, folder / "meg")
    off = run_job(job, changed(config, {"llm.meg_tokens": False}), stores, seed, folder / "off")
    texts = {"llm": {}, "greedy": {}, "no_meg": {}, "no_meg_trained": {}}
    for item, line in lines.items():
        texts["llm"][item] = line["hypothesis"]
        texts["greedy"][item] = line["variants"]["greedy"]
        texts["no_meg"][item] = line["variants"]["no_meg"]
        texts["no_meg_trained"][item] = off[item]["hypothesis"]
    return {
        "seed": seed,
        "texts": texts,
        "encoders_s": encoders_s,
        "adapters_s": time.monotonic() - began,
        "refs": str(home / prepared["secret"] / "val_refs.jsonl"),
        "encoder": prepared.get("encoder"),
    }


def scored(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Return WER and CER, (seed, item), of every way to decode."""
    refs = read_references(Path(results[0]["refs"]))
    found: dict[str, dict[str, list[list[float]]]] = {n: {"wer": [], "cer": []} for n in LABELS}
    for result in results:
        for name in LABELS:
            guesses = {i: Prediction(i, t) for i, t in result["texts"][name].items()}
            items = score(guesses, refs, unit="sentence").items
            found[name]["wer"].append([item.word.rate for item in items])
            found[name]["cer"].append([item.char.rate for item in items])
    return {n: {k: np.array(v) for k, v in of.items()} for n, of in found.items()}


def report(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Print the table and the paired comparisons; return them."""
    rates = scored(results)
    seeds, items = rates["llm"]["wer"].shape
    print(f"{items} validation sentences, {seeds} seeds (encoder and adapter trained anew)")
    for part, what in (("train", "read by encoders that never saw them"), ("dev", "new")):
        cer = np.mean([result["encoder"][f"{part}_cer"] for result in results])
        print(f"CER of {part} sentences, {what}: {cer:.3f} against what was typed")
    out: dict[str, Any] = {"items": items, "seeds": seeds, "rates": {}, "differences": {}}
    for name, label in LABELS.items():
        wer, cer = rates[name]["wer"], rates[name]["cer"]
        spread = wer.mean(axis=1)
        out["rates"][name] = {"wer": wer.mean(), "cer": cer.mean(), "wer_seeds": spread.tolist()}
        text = f"WER {wer.mean():.3f} ({spread.min():.3f} to {spread.max():.3f})"
        print(f"{label:<48}{text}   CER {cer.mean():.3f}")
    for other in ("greedy", "no_meg_trained", "no_meg"):
        ours, theirs = rates["llm"]["wer"].mean(axis=0), rates[other]["wer"].mean(axis=0)
        names = [str(i) for i in range(items)]
        pairs = (dict(zip(names, rates_I, strict=True)) for rates_I in (ours, theirs))
        diff = paired_difference(*pairs, dict.fromkeys(names, "all"), seed=1)
        relative = ours.mean() / theirs.mean() - 1
        out["differences"][other] = {
            "mean": diff.mean,
            "low": diff.low,
            "high": diff.high,
            "p": diff.p_value,
            "relative": relative,
        }
        interval = f"[{diff.low:+.3f}, {diff.high:+.3f}]"
        print(f"LLM - {LABELS[other]:<42}{diff.mean:+.3f} {interval} ({relative:+.0%})")
    cost = sum(r["encoders_s"] + r["adapters_s"] for r in results) / 3600
    print(f"cost: {cost:.2f} core-hours")
    return out | {"core_hours": cost}


def seeds_of(args: argparse.Namespace, home: Path, sizes: Mapping[str, Any]) -> list[Any]:
    """Return the results of as many seeds as were asked for; failed encoders are drawn again."""
    llm = {"llm.epochs": args.epochs, "llm.patience": 100}
    good: list[Any] = []
    drawn = 0
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        while len(good) < args.seeds:
            seeds = range(drawn, drawn + args.seeds - len(good))
            drawn = seeds.stop
            work = [(home, dict(sizes), seed, llm) for seed in seeds]
            for result in pool.imap(one_seed, work, chunksize=1):
                if "failed" in result:
                    said = f"dev CER {result['failed']:.2f}: drawn again"
                    print(f"seed {result['seed']}: the encoder learnt nothing, {said}", flush=True)
                else:
                    good.append(result)
                    print(f"seed {result['seed']}: {result['encoder']}", flush=True)
    return good


def shuffled(home: Path, sizes: Mapping[str, Any]) -> float:
    """Return the validation CER of an encoder trained on permuted sentences."""
    own = {k: v for k, v in sizes.items() if not k.startswith("encoder.")}
    described = entry.describe({"recipe": "sentences", "set": own | {"data.permute_labels": 1}})
    prepared = entry.prepare({"config": described["config"], "home": str(home)})
    stores = [home / store for store in prepared["stores"]]
    job = described["entry"].split(":")[0]
    lines = run_job(job, described["config"], stores, 0, home / "bench" / "shuffled")
    refs = read_references(home / prepared["secret"] / "val_refs.jsonl")
    guesses = {item: Prediction(item, line["hypothesis"]) for item, line in lines.items()}
    return score(guesses, refs, unit="sentence").metrics["val_cer"]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--home", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train", type=int, default=620)
    parser.add_argument("--val", type=int, default=220)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--encoder-epochs", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    home = args.home or Path(tempfile.mkdtemp(prefix="neurosweep-bench-"))
    home.mkdir(parents=True, exist_ok=True)
    sizes = {
        "data.train_sentences": args.train,
        "data.val_sentences": args.val,
        "data.test_sentences": 20,
        "data.recordings": 6,
        "training.epochs": args.encoder_epochs,
    }
    Home(home).cache_dir.mkdir(exist_ok=True)
    described = entry.describe({"recipe": "sentences", "set": sizes})
    entry.prepare({"config": described["config"], "home": str(home)})
    results = seeds_of(args, home, sizes | {"encoder.cross_fit": args.folds})
    out = report(results)
    out["shuffled_cer"] = shuffled(home, sizes)
    print(f"CER with permuted training sentences: {out['shuffled_cer']:.3f}")
    if args.json:
        args.json.write_text(json.dumps(out, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
