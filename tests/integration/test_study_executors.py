"""Whole studies with real jobs that misbehave, vanish, or are run again; no torch."""

from __future__ import annotations

import pytest
from _loop_kit import copy_study, new_study, state_of

from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveState
from neurosweep.research.rerun import rerun
from neurosweep.research.setup import build_driver, build_executor

FAULTS = {"fault.mode": "crash", "fault.share": 0.3}


def run(study, on):
    return build_driver(study, on=on, pace=Pace(poll_s=0.05)).run()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("template"),
        budget={"rounds": 2, "trials_per_round": 5},
        reserve={"floor": 2, "confirm": 0},
        set=FAULTS,
    )


@pytest.mark.parametrize(
    ("mode", "kind", "limit_s"),
    [
        pytest.param("hang", Kind.HANG, 60.0, marks=pytest.mark.slow),
        ("sleepy", Kind.TIME_LIMIT, 3.0),
        ("segfault", Kind.USER_ERROR, 60.0),
        ("leave", Kind.USER_ERROR, 60.0),
        ("diverge", Kind.DIVERGED, 60.0),
        ("unknown_item", Kind.BROKEN_PREDICTIONS, 60.0),
        ("duplicate_item", Kind.BROKEN_PREDICTIONS, 60.0),
    ],
)
def test_a_real_job_that_misbehaves_spends_its_place(tmp_path, mode, kind, limit_s):
    study = new_study(
        tmp_path,
        recipe=mode,
        set={"fault.delay_s": 30.0},
        budget={"rounds": 1, "trials_per_round": 2, "trial_minutes": limit_s / 60.0},
        execution={"stall_minutes": 4.0 / 60.0},
        reserve={"floor": 0, "confirm": 0},
    )
    driver = build_driver(study, on="local:2", pace=Pace(poll_s=0.05, heartbeat_s=0.2))
    result = driver.run()
    assert (result.state, result.done, result.failed) == (DriveState.COMPLETE, 0, 2)
    trials = list(state_of(study).of(Purpose.SEARCH))
    assert {trial.kind for trial in trials} == {kind}
    assert all(len(trial.attempts) == 1 for trial in trials)


def test_a_job_whose_process_is_killed_from_outside_runs_again_and_is_then_given_up(tmp_path):
    study = new_study(
        tmp_path,
        recipe="vanish",
        budget={"rounds": 1, "trials_per_round": 1},
        reserve={"floor": 0, "confirm": 0},
    )
    result = run(study, "local:1")
    (trial,) = state_of(study).of(Purpose.SEARCH)
    assert [attempt.kind for attempt in trial.attempts] == [Kind.LOST] * 3
    assert (result.done, result.failed) == (0, 1)


def test_a_rerun_with_real_jobs_gives_the_same_predictions(template, tmp_path):
    study = copy_study(template, tmp_path)
    run(study, "local:2")
    state = state_of(study)
    trial = next(t.plan.trial for t in state.of(Purpose.SEARCH) if t.metrics)
    result = rerun(study, trial, build_executor(study, state, on="local:1"))
    assert (result.identical, result.agrees, result.value) == (True, True, result.recorded)
