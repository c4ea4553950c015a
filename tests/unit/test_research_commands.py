"""What people ask of a running study: clones, throttle, poll; each is recorded first."""

from __future__ import annotations

import pytest
from _loop_kit import START, copy_study, drive, new_study, state_of

from neurosweep.records.state import Phase
from neurosweep.records.trial import Purpose
from neurosweep.research.control import send_request
from neurosweep.research.journal import Hooks
from neurosweep.research.progress import DriveState
from neurosweep.testing.fake import FakeClock, FakeCluster


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(tmp_path_factory.mktemp("template"))


def once(study, when, action, **options):
    """Return hooks that send a request as soon as a condition on the state holds."""
    sent = []

    def on_tick(state):
        if not sent and when(state):
            sent.append(send_request(study, action, **options))

    return Hooks(on_tick=on_tick)


def in_round(number):
    return lambda state: number in state.rounds and bool(state.rounds[number].trials)


def test_a_clone_takes_a_place_of_the_next_round(template, tmp_path):
    study = copy_study(template, tmp_path)
    change = {"training.learning_rate": 3e-4}
    hooks = once(study, in_round(1), "clone", trial="r01t001", overrides=change, reason="to see")
    result = drive(study, hooks=hooks)
    state = state_of(study)
    assert (result.state, result.planned, result.done) == (DriveState.COMPLETE, 6, 6)
    clone = state.trials["r02t000"]
    assert (clone.plan.source, clone.plan.idea) == ("clone", "clone of r01t001: to see")
    assert clone.plan.overrides == {**state.trials["r01t001"].plan.overrides, **change}
    assert [t.plan.source for t in state.of(Purpose.SEARCH)].count("clone") == 1
    assert state.rounds[2].turns[0]["clones"] == 1
    assert state.rounds[2].turns[0]["asked"] == 2


@pytest.mark.parametrize(
    ("number", "trial", "overrides", "reason"),
    [
        (2, "r01t001", {}, "every trial of the budget is planned"),
        (1, "f000", {}, "there is no search trial f000"),
        (1, "r01t001", {"training.learning_rate": 99.0}, "training.learning_rate"),
        (1, "r01t001", {"training.nothing": 1}, "training.nothing"),
    ],
)
def test_a_clone_that_cannot_be_run_is_refused_in_the_ledger(
    template, tmp_path, number, trial, overrides, reason
):
    study = copy_study(template, tmp_path)
    hooks = once(study, in_round(number), "clone", trial=trial, overrides=overrides)
    assert drive(study, hooks=hooks).state is DriveState.COMPLETE
    [control] = [c for c in state_of(study).controls if c["action"] == "clone"]
    assert reason in control["refused"]
    assert all(t.plan.source != "clone" for t in state_of(study).trials.values())


def test_a_throttle_holds_from_then_on_and_for_the_next_driver(template, tmp_path):
    study = copy_study(template, tmp_path)
    cluster = FakeCluster(FakeClock(START), slots=4)
    hooks = once(study, in_round(1), "throttle", value=1)
    drive(study, cluster, hooks=hooks)
    assert cluster.allowed == 1
    assert state_of(study).trials["r02t002"].phase is Phase.SCORED

    other = copy_study(template, tmp_path / "other")
    send_request(other, "throttle", value=2)
    send_request(other, "pause")
    assert drive(other, FakeCluster(FakeClock(START))).state is DriveState.PAUSED
    fresh = FakeCluster(FakeClock(START), slots=4)
    assert drive(other, fresh).state is DriveState.COMPLETE
    assert fresh.allowed == 2


def test_a_throttle_of_zero_starts_nothing_until_it_is_raised(template, tmp_path):
    study = copy_study(template, tmp_path)
    cluster = FakeCluster(FakeClock(START), slots=4)
    send_request(study, "throttle", value=0)
    seen = []

    def raise_after_a_while(state):
        seen.append(sum(t.phase is Phase.SCORED for t in state.trials.values()))
        if len(seen) == 30:
            send_request(study, "throttle", value=3)

    assert drive(study, cluster, hooks=Hooks(on_tick=raise_after_a_while)).done == 6
    assert seen[:30] == [0] * 30


def test_a_pause_starts_nothing_that_waits_and_lets_end_what_runs(tmp_path):
    study = new_study(tmp_path, budget={"rounds": 1, "trials_per_round": 12})
    cluster = FakeCluster(FakeClock(START), slots=3, seconds=5.0)
    result = drive(study, cluster, hooks=once(study, running_in_round(1), "pause"))
    assert result.state is DriveState.PAUSED
    phases = [trial.phase for trial in state_of(study).of(Purpose.SEARCH)]
    assert phases.count(Phase.SCORED) == 3
    assert phases.count(Phase.SUBMITTED) == 9
    assert drive(study, cluster).state is DriveState.COMPLETE
    assert set(cluster.submissions.values()) == {1}, "what waited was found again"


def running_in_round(number):
    return lambda state: any(
        trial.phase is Phase.RUNNING
        for trial in state.of(Purpose.SEARCH)
        if trial.plan.round == number
    )


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_study_cancelled_in_its_last_round_is_not_complete(tmp_path, mode):
    study = new_study(
        tmp_path, budget={"rounds": 1, "trials_per_round": 6}, execution={"mode": mode}
    )
    cluster = FakeCluster(FakeClock(START), slots=2, seconds=5.0)
    result = drive(
        study, cluster, hooks=once(study, running_in_round(1), "cancel", reason="enough")
    )
    assert (result.state, result.reason) == (DriveState.INCOMPLETE, "enough")
    ends = [c for c in state_of(study).controls if c["action"] == "end_attempt"]
    assert {c["reason"] for c in ends} == {"enough"}
