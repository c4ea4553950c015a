"""SIGKILL of the driver of a study on a real SLURM: exactly the budget, none lost, none twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _loop_kit import copy_study, new_study, state_of
from _slurm_kit import PACE, completions, write_profile

from neurosweep.core.layout import StudyDir
from neurosweep.records.export import export_study
from neurosweep.research.lock import live_driver
from neurosweep.research.setup import build_driver

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("own_cluster"), pytest.mark.timeout(240)]

DRIVER = Path(__file__).resolve().parents[1] / "_drive_study.py"
ROOTS = [str(DRIVER.parents[1] / root) for root in ("platform", "experiments", "agents")]
TRIALS, KILLS, LIMIT_S = 50, 5, 120.0


def start(study: StudyDir, on: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(DRIVER), str(study.root), "8", on], env=env)


def num_lines(study: StudyDir) -> int:
    return study.ledger.read_bytes().count(b"\n")


def wait_for_lines(study: StudyDir, process: subprocess.Popen[bytes], wanted: int) -> None:
    end = time.monotonic() + LIMIT_S
    while num_lines(study) < wanted and process.poll() is None:
        assert time.monotonic() < end, "the driver makes no progress"
        time.sleep(0.002)


def test_five_kills_in_a_round_of_fifty_change_nothing(tmp_path: Path) -> None:
    study = new_study(
        tmp_path,
        budget={"rounds": 1, "trials_per_round": TRIALS},
        reserve={"floor": 0, "confirm": 0},
    )
    calm = copy_study(study, tmp_path / "calm")
    build_driver(calm, on="inline", pace=PACE).run()
    on = write_profile(tmp_path, throttle=8)
    rng = random.Random(50)
    first = num_lines(study)
    # At least four lines a trial; the first two kills hit the time around the submission.
    moments = [first + 1, first + 3, *sorted(rng.sample(range(first + 6, 3 * TRIALS), KILLS - 2))]
    killed = 0
    for moment in moments:
        process = start(study, on)
        wait_for_lines(study, process, max(moment, num_lines(study) + 1))
        time.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert live_driver(study.lock) is None
    assert start(study, on).wait(timeout=LIMIT_S) == 0
    assert killed == KILLS
    state = state_of(study)
    assert state.closed == {"reason": "complete", "planned": TRIALS, "done": TRIALS, "failed": 0}
    assert export_study(study) == export_study(calm)
    assert list(completions(study).values()) == [1] * TRIALS
    intents = [token for r in state.rounds.values() for token in r.intents]
    assert len(intents) == 1, "the array was found again, not submitted again"
