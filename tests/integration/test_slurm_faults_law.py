"""The one law: whatever happens, and whoever is killed, each trial has one end that counts."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter

import pytest
from _loop_kit import copy_study, new_study, state_of
from _slurm_fake_kit import PACE, drive_slurm_apart, good_ends, little_patience, write_profile
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.records.state import Phase
from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import Answer, CommandFault, Event, FaultScript, TaskFault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
EXAMPLES = int(os.environ.get("NEUROSWEEP_TEST_EXAMPLES", "12"))
TRIALS = 6
MAX_DRIVERS = 8

task_faults = st.builds(
    TaskFault,
    does=st.sampled_from([event for event in Event if event is not Event.LATE]),
    array=st.sampled_from([1, 1, 1, 2]),
    task=st.integers(0, TRIALS - 1),
    restart=st.sampled_from([0, 0, 1]),
    at=st.sampled_from(["started", "claim.json", "predictions.jsonl", "status.json", "ended"]),
    after_s=st.sampled_from([0.0, 0.0, 0.05]),
    for_s=st.sampled_from([0.0, 0.1, 0.4]),
    requeue=st.sampled_from([None, True, False]),
    kills=st.sampled_from([True, True, False]),
    text=st.sampled_from(["CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUE_HOLD"]),
)
late_files = st.builds(
    TaskFault,
    does=st.just(Event.LATE),
    array=st.just(1),
    task=st.integers(0, TRIALS - 1),
    for_s=st.sampled_from([0.1, 0.3]),
    files=st.sampled_from([("status.json",), ("status.json", "predictions.jsonl")]),
)
command_faults = st.builds(
    CommandFault,
    command=st.sampled_from(["sbatch", "squeue", "sacct", "scancel"]),
    does=st.sampled_from(Answer),
    first=st.integers(1, 6),
    count=st.integers(1, 3),
    for_s=st.just(1.0),
)
scripts = st.builds(
    FaultScript,
    commands=st.lists(command_faults, max_size=3).map(tuple),
    tasks=st.lists(task_faults | late_files, max_size=4).map(tuple),
    kill_wait_s=st.sampled_from([0.05, 0.3]),
    requeue_wait_s=st.just(0.1),
    accounting_lag_s=st.sampled_from([0.0, 0.2]),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("template"),
        budget={"rounds": 1, "trials_per_round": TRIALS, "trial_minutes": 1.0},
        reserve={"floor": 0, "confirm": 0},
        set={"fault.delay_s": 0.1},
    )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with FakeSlurm(tmp_path_factory.mktemp("slurm")) as slurm, slurm.on_path():
        yield slurm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("law")


class Mortal:
    """Die after so many operations."""

    def __init__(self, left):
        self.left = left

    def __call__(self, _name):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 12)
@given(script=scripts, deaths=st.lists(st.integers(1, 40), max_size=2))
def test_each_trial_has_one_end_that_counts(template, slurm, folder, script, deaths):
    shutil.rmtree(folder)
    folder.mkdir()
    study, on = copy_study(template, folder), write_profile(folder)
    slurm.obey(script)
    with little_patience():
        for _ in range(MAX_DRIVERS):
            boundary = Mortal(deaths.pop() if deaths else 0)
            code = drive_slurm_apart(study, on, pace=PACE, boundary=boundary)
            assert code in (0, -signal.SIGKILL)
            if code == 0:
                break
    assert code == 0
    state = state_of(study)
    assert len(state.trials) == TRIALS
    phases = Counter(trial.phase for trial in state.trials.values())
    assert phases[Phase.SCORED] + phases[Phase.FAILED] == TRIALS
    done = phases[Phase.SCORED]
    assert state.closed == {
        "reason": "complete",
        "planned": TRIALS,
        "done": done,
        "failed": TRIALS - done,
    }
    assert set(good_ends(study).values()) <= {1}
    assert set(slurm.completions().values()) <= {1}
    scored = {name for name, trial in state.trials.items() if trial.phase is Phase.SCORED}
    assert scored <= set(good_ends(study))
