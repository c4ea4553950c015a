"""SIGKILL of a real driver with real jobs: exactly the budget, none lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from _loop_kit import new_study, state_of

from neurosweep.core.files import read_json
from neurosweep.records.state import Phase
from neurosweep.records.trial import Purpose
from neurosweep.research.lock import live_driver

DRIVER = Path(__file__).resolve().parents[1] / "_drive_study.py"
KILLS = 20
ROOTS = [str(DRIVER.parents[1] / root) for root in ("platform", "experiments", "agents")]


def start(study):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, str(DRIVER), str(study.root), "2"], env=env)


def num_lines(study):
    return study.ledger.read_bytes().count(b"\n")


def wait_for_lines(study, process, wanted):
    deadline = time.monotonic() + 60.0
    while num_lines(study) < wanted and process.poll() is None:
        assert time.monotonic() < deadline, "the driver makes no progress"
        time.sleep(0.002)


def completions(study):
    """Count the attempts of each trial whose job ran to its end."""
    count: Counter[str] = Counter()
    for status in study.root.glob("trials/*/attempts/*/status.json"):
        if read_json(status)["outcome"] == "done":
            count[status.parents[2].name] += 1
    return count


@pytest.mark.slow
def test_twenty_kills_over_two_rounds_of_fifty_lose_nothing_and_repeat_nothing(tmp_path):
    study = new_study(
        tmp_path, budget={"rounds": 2, "trials_per_round": 50}, reserve={"floor": 2, "confirm": 0}
    )
    rng = random.Random(20)
    # An undisturbed study of this size has 319 ledger lines; a few more come from the kills.
    moments = sorted(rng.sample(range(1, 312), KILLS))
    killed = 0
    for moment in moments:
        process = start(study)
        wait_for_lines(study, process, max(moment, num_lines(study) + 1))
        time.sleep(rng.uniform(0.0, 0.03))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert live_driver(study.lock) is None
    last = start(study)
    assert last.wait(timeout=120.0) == 0
    assert killed == KILLS
    state = state_of(study)
    search = list(state.of(Purpose.SEARCH))
    assert [len(state.rounds[number].trials) for number in (1, 2)] == [50, 50]
    assert Counter(trial.phase for trial in search) == {Phase.SCORED: 100}
    assert state.closed == {"reason": "complete", "planned": 100, "done": 100, "failed": 0}
    assert set(completions(study).values()) == {1}
    assert len(completions(study)) == 102
    refilled = [trial.plan.trial for trial in search if len(trial.attempts) > 1]
    assert len(refilled) <= KILLS
