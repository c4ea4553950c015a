"""What the encoder reaches on real recordings, beside chance, a null and linear baselines.

Three measurements, each through the whole pipeline (prepare, study, confirm):

* typing: one study of rounds x trials; 10-fold accuracy of the chosen configuration and of the
  default, its official test accuracy, opened once, and the accuracy of the chosen configuration
  on permuted labels;
* null control: EEG that holds nothing about its labels;
* speller: a decoder trained on the calibration trials, on the online trials.

Run: python tests/bench/bench_real_eeg.py DATA_FOLDER [--home DIR] [--only typing,null,speller]
Cost: about 25 minutes on two cores. DATA_FOLDER holds finger_typing_eeg and feis_phoneme_eeg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

STUDY = """
name = "{name}"
recipe = "{recipe}"
seed = 7
set = {{ "data.path" = "{path}" }}
[agent]
name = "{agent}"
[budget]
rounds = {rounds}
trials_per_round = {trials}
trial_minutes = 10.0
[reserve]
floor = {floor}
confirm = {confirm}
"""


def neurosweep(*arguments: str) -> dict[str, Any]:
    """Run the command line and return its JSON."""
    command = [sys.executable, "-m", "neurosweep.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def study(home: Path, confirm: int = 5, **values: Any) -> dict[str, Any]:
    """Run one study to its end."""
    path = home / f"{values['name']}.toml"
    path.write_text(STUDY.format(confirm=confirm, **values), encoding="utf-8")
    return neurosweep("study", "start", str(path), "--home", str(home), "--no-mlflow")


def show(label: str, text: str) -> None:
    """Print one aligned line."""
    print(f"{label:<44}{text}", flush=True)


def accuracy(result: dict[str, Any]) -> str:
    """Return accuracy of the default and of the best trial of a study."""
    default, best = result.get("default"), result.get("best")
    parts = []
    if default:
        mean, low, high = (default[key]["val_acc"] for key in ("mean", "low", "high"))
        parts.append(f"default {mean:.3f} ({low:.3f} to {high:.3f}, {default['seeds']} seeds)")
    if best:
        parts.append(f"best {best['metrics']['val_acc']:.3f} in {best['trial']}")
    return "; ".join(parts)


def permuted(home: Path, path: str, config: dict[str, Any], draws: int) -> list[float]:
    """Return the accuracy of a configuration on permuted labels, one draw after the other."""
    settings = [f"{key}={json.dumps(value)}" for key, value in config.items()]
    values = []
    for seed in range(1, draws + 1):
        assigned = [*settings, f"data.path={path}", f"data.permute_labels={seed}"]
        options = [part for text in assigned for part in ("--set", text)]
        name = f"null-{seed}"
        result = neurosweep(
            "run", "typing", *options, "--name", name, "--home", str(home), "--no-mlflow"
        )
        values.append(float(result["best"]["metrics"]["val_acc"]))
    return values


def typing_eeg(home: Path, data: Path, trials: int, draws: int) -> None:
    """Search on the typing EEG; confirm once; draw the null."""
    path = str((data / "finger_typing_eeg").resolve())
    result = study(
        home,
        name="typing",
        recipe="typing",
        path=path,
        agent="optuna_tpe",
        rounds=2,
        trials=trials,
        floor=5,
    )
    show(f"typing, 10-fold, 316 presses, 2 x {trials}", accuracy(result))
    confirmed = neurosweep("study", "confirm", result["study"], "--home", str(home), "--no-mlflow")
    test = confirmed["metrics"]["test_acc"]
    show(
        "typing, official test, 100 presses, once",
        f"{test['mean']:.3f} [{test['low']:.3f}, {test['high']:.3f}], {confirmed['seeds']} seeds",
    )
    null = permuted(home, path, result["best"]["overrides"], draws)
    best = result["best"]["metrics"]["val_acc"]
    above = sum(value >= best for value in null)
    show(
        f"typing, labels permuted {draws} times",
        f"mean {np.mean(null):.3f}, sd {np.std(null, ddof=1):.3f}, max {max(null):.3f}; "
        f"p = {(above + 1) / (draws + 1):.3f}",
    )
    show(
        "linear baseline on the same folds", "shrinkage LDA 0.74-0.75; test 0.57-0.74; winner 0.84"
    )


def null_control(home: Path, data: Path) -> None:
    """Search where there is nothing to find."""
    result = study(
        home,
        name="null-control",
        recipe="feis_null",
        path=str((data / "feis_phoneme_eeg").resolve()),
        agent="random_search",
        rounds=1,
        trials=10,
        floor=3,
    )
    show("null control, 16 phonemes, 1 x 10", f"{accuracy(result)}; chance 0.0625")


def speller(home: Path) -> None:
    """Train on the calibration trials, spell the online trials."""
    result = neurosweep(
        "run", "speller", "--seeds", "10", "--home", str(home), "--no-mlflow", "--name", "speller"
    )
    values = neurosweep("study", "status", result["study"], "--home", str(home))["default"]
    mean, low, high = (values[key]["val_acc"] for key in ("mean", "low", "high"))
    show(
        "speller, online symbols, default, 10 seeds",
        f"{mean:.2f} ({low:.1f} to {high:.1f}); chance 0.04, forward model 0.80-0.90, its log 0.9",
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--home", type=Path, default=Path("bench-home"))
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", default="speller,null,typing")
    arguments = parser.parse_args()
    arguments.home.mkdir(parents=True, exist_ok=True)
    if "speller" in arguments.only:
        speller(arguments.home)
    if "null" in arguments.only:
        null_control(arguments.home, arguments.data)
    if "typing" in arguments.only:
        typing_eeg(arguments.home, arguments.data, arguments.trials, arguments.draws)


if __name__ == "__main__":
    main()
