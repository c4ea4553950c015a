"""Cost of the loop itself: 10 rounds x 50 instant trials, and status over 5,000 trials.

Run as ``python tests/bench/bench_loop.py [--rounds 10] [--trials 50] [--no-mirror]``; it exits
with 1 when a bound is broken (60 s for the loop with its mirror, 1 s for the status).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from neurosweep.core.clock import SystemClock
from neurosweep.core.config import validate
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.ledger import Ledger, read_ledger
from neurosweep.records.spec import StudySpec
from neurosweep.research.create import create_study
from neurosweep.research.setup import build_driver
from neurosweep.research.status import study_status

LOOP_LIMIT_S = 60.0
STATUS_LIMIT_S = 1.0


def bench_loop(home: Home, rounds: int, trials: int, *, mirrored: bool) -> tuple[StudyDir, float]:
    """Run a study of instant trials; return it and the seconds from start to end."""
    spec = validate(
        StudySpec,
        {
            "name": "bench",
            "recipe": "instant",
            "entry": "neurosweep.testing",
            "agent": {"name": "optuna_tpe"},
            "budget": {"rounds": rounds, "trials_per_round": trials, "trial_minutes": 1.0},
            "reserve": {"floor": 5, "confirm": 0},
        },
        "bench",
    )
    study = create_study(spec, home)
    began = time.monotonic()
    mirror = None
    if mirrored:
        from neurosweep.records.mlflow_worker import ProcessMirror

        mirror = ProcessMirror(study, home)
    result = build_driver(study, on="local", mirror=mirror).run()
    seconds = time.monotonic() - began
    assert (result.done, result.mirrored) == (rounds * trials, True), result
    return study, seconds


def grow(study: StudyDir, times: int) -> StudyDir:
    """Return a study whose ledger repeats the rounds of another one many times."""
    events = read_ledger(study.ledger)
    big = Home(study.root.parent.parent).study("big-20260101-0000")
    big.root.mkdir()
    ledger = _Unsynced(big.ledger, SystemClock())
    rounds = max(e["data"]["round"] for e in events if e["event"] == "round_closed")
    for copy in range(times):
        for event in events:
            if event["event"] == "study_closed" or (copy and _is_floor(event)):
                continue
            ledger.append(event["event"], _shifted(event["data"], copy * rounds))
    return big


class _Unsynced(Ledger):
    """Write without waiting for the disk."""

    def _write(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)


def _is_floor(event: dict) -> bool:
    data = event["data"]
    if event["event"] in ("study_created", "control"):
        return True
    if event["event"] == "submitted":
        return ".r00." in data["token"]
    return data.get("round") == 0 or str(data.get("trial", "")).startswith("f")


def _shifted(value, rounds: int):
    """Move every round number, trial id and token of event data by a number of rounds."""
    if isinstance(value, dict):
        return {
            _moved(k, rounds): v + rounds if k == "round" and v else _shifted(v, rounds)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_shifted(item, rounds) for item in value]
    return _moved(value, rounds) if isinstance(value, str) else value


def _moved(text: str, rounds: int) -> str:
    if len(text) == 7 and text[0] == "r" and text[3] == "t" and text[1:3].isdigit():
        return f"r{int(text[1:3]) + rounds:02d}{text[3:]}"
    return f"{text}.{rounds}" if ".r" in text and rounds else text


def bench_status(study: StudyDir) -> float:
    """Return the seconds that one status takes, the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.monotonic()
        study_status(study)
        best = min(best, time.monotonic() - began)
    return best


def main() -> int:
    """Run both benches and say what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--no-mirror", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        study, loop_s = bench_loop(home, args.rounds, args.trials, mirrored=not args.no_mirror)
        print(f"{args.rounds} x {args.trials} instant trials: {loop_s:.1f} s")
        trials = args.rounds * args.trials
        big = grow(study, max(1, round(5000 / trials)))
        status_s = bench_status(big)
        size = study_status(big).done
        print(f"status over {size} trials: {status_s:.2f} s")
    return 0 if loop_s < LOOP_LIMIT_S and status_s < STATUS_LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
