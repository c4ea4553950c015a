"""Drivers that are killed again and again while they run a study."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from _loop_kit import copy_study, new_study, state_of

from neurosweep.core.files import read_json
from neurosweep.core.layout import StudyDir
from neurosweep.records.export import export_study
from neurosweep.research.lock import live_driver
from neurosweep.research.placing import Pace
from neurosweep.research.setup import build_driver

DRIVER = Path(__file__).resolve().parent / "_drive_study.py"
ROOTS = [str(DRIVER.parents[1] / root) for root in ("platform", "experiments", "agents")]
SLOTS = 8
LIMIT_S = 180.0


def round_of(folder: Path, trials: int, delay_s: float = 0.0) -> tuple[StudyDir, StudyDir]:
    """Return a study of one round, and one like it that has run to its end undisturbed."""
    study = new_study(
        folder,
        set={"fault.delay_s": delay_s},
        budget={"rounds": 1, "trials_per_round": trials},
        reserve={"floor": 0, "confirm": 0},
    )
    calm = copy_study(study, folder / "calm")
    driver = build_driver(calm, on="local", workers=max(SLOTS, trials // 2), pace=Pace(poll_s=0.05))
    assert driver.run().failed == 0
    return study, calm


def start(study: StudyDir, on: str, slots: int = SLOTS) -> subprocess.Popen[bytes]:
    """Start a driver in a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(DRIVER), str(study.root), str(slots), on], env=env)


def num_lines(study: StudyDir) -> int:
    """Return how many lines the ledger has."""
    return study.ledger.read_bytes().count(b"\n")


def kill_often(
    study: StudyDir, on: str, kills: int, last_line: int, seed: int, life_s: float = LIMIT_S
) -> float:
    """Kill the driver at random moments of the round, then let one end it; return the seconds.

    Parameters
    ----------
    study
        It has just been created.
    on
        Where it runs.
    kills
        How many drivers are killed; two of them right around the submission.
    last_line
        Number of ledger lines of the whole study.
    seed
        Of the moments.
    life_s
        A driver is killed at the latest so long after its start, seconds.
    """
    rng, began, first = random.Random(seed), time.monotonic(), num_lines(study)
    late = sorted(rng.sample(range(first + 6, last_line - 4), kills - 2))
    for moment in [first + 1, first + 3, *late]:
        process = start(study, on)
        wanted = max(moment, num_lines(study) + 1)
        wait_for_lines(study, process, wanted, rng.uniform(0.5, 1.0) * life_s)
        time.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the driver ended before it was killed"
        assert live_driver(study.lock) is None
    assert start(study, on).wait(timeout=LIMIT_S) == 0
    return time.monotonic() - began


def wait_for_lines(
    study: StudyDir, process: subprocess.Popen[bytes], wanted: int, limit_s: float = LIMIT_S
) -> None:
    """Wait until the ledger has so many lines, the driver has ended, or time is over."""
    end = time.monotonic() + limit_s
    while num_lines(study) < wanted and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    assert limit_s < LIMIT_S or time.monotonic() < end, "the driver makes no progress"


def assert_exact(study: StudyDir, calm: StudyDir) -> None:
    """Check that the killed study has the budget and the records of the undisturbed one."""
    state = state_of(study)
    assert state.closed == state_of(calm).closed
    assert export_study(study) == export_study(calm)
    done = completions(study)
    assert sorted(done) == sorted(state.trials)
    assert set(done.values()) == {1}, "no trial ran twice to its end"
    intents = [token for r in state.rounds.values() for token in r.intents]
    assert len(intents) == 1, "the array was found again, not submitted again"


def completions(study: StudyDir) -> dict[str, int]:
    """Return how many attempts of each trial ran to their end."""
    count: dict[str, int] = {}
    for status in study.root.glob("trials/*/attempts/*/status.json"):
        if read_json(status)["outcome"] == "done":
            count[status.parents[2].name] = count.get(status.parents[2].name, 0) + 1
    return count
