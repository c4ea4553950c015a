"""Asynchronous rounds: a slot is refilled at once, and the budget is the same."""

from __future__ import annotations

from collections import Counter

import pytest
from _loop_kit import START, Death, ListAgent, copy_study, drive, new_study, state_of

from neurosweep.records.state import Phase
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.journal import Hooks
from neurosweep.research.progress import DriveState
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor, Fate

SLOW = ("r01t000", "r01t003")


def fates(trial, attempt):
    if trial == "r01t001" and attempt == 1:
        return Fate.PREEMPTED
    return Fate.USER_ERROR if trial == "r02t002" else Fate.DONE


def cluster(slots=3, **options):
    return FakeCluster(FakeClock(START), fates, slots=slots, **options)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("template"),
        execution={"mode": "async"},
        budget={"rounds": 2, "trials_per_round": 5},
    )


def test_exactly_the_budget_is_run_and_every_round_has_its_trials(template, tmp_path):
    study, jobs = copy_study(template, tmp_path), cluster()
    result = drive(study, jobs)
    assert (result.state, result.planned, result.done, result.failed) == (
        DriveState.COMPLETE,
        10,
        9,
        1,
    )
    state = state_of(study)
    assert [len(state.rounds[n].trials) for n in (1, 2)] == [5, 5]
    assert [state.rounds[n].closed for n in (0, 1, 2)] == [True, True, True]
    assert set(jobs.completions.values()) == {1}
    assert sorted(t.plan.trial for t in state.of(Purpose.SEARCH))[0] == "r01t000"


def test_a_freed_slot_does_not_wait_for_the_rest_of_the_round(template, tmp_path):
    study, jobs = copy_study(template, tmp_path), cluster()
    running = []

    def watch(state):
        busy = sum(not trial.phase.final for trial in state.of(Purpose.SEARCH))
        left = 10 - sum(1 for _ in state.of(Purpose.SEARCH))
        if 1 in state.rounds:
            running.append((busy, left))

    drive(study, jobs, hooks=Hooks(on_tick=watch))
    assert max(busy for busy, _ in running) == 3
    idle = [busy for busy, left in running if left and busy < 2]
    assert len(idle) <= 6, "slots stay full while there is something left"
    turns = [len(r.turns) for r in state_of(study).rounds.values()]
    assert max(turns) > 1, "the agent was asked again before its round was over"


def test_the_agent_is_told_what_still_runs(template, tmp_path):
    study, agent = copy_study(template, tmp_path), ListAgent()
    drive(study, cluster(), agent=agent)
    assert any(record.pending for history in agent.histories for record in history)
    for history in agent.histories:
        for record in history:
            assert record.pending == (record.value is None and record.kind is Kind.NONE)


def test_a_round_that_waits_tells_of_ended_trials_only(tmp_path):
    agent = ListAgent()
    drive(new_study(tmp_path), agent=agent)
    assert not any(record.pending for history in agent.histories for record in history)


def test_a_driver_that_dies_again_and_again_keeps_the_budget(template, tmp_path):
    for stride in (1, 3, 7):
        study, jobs = copy_study(template, tmp_path / str(stride)), cluster()
        for _ in range(400):
            left = iter(range(stride))

            def die(name, left=left):
                if next(left, None) is None:
                    raise Death(name)

            try:
                drive(study, jobs, hooks=Hooks(boundary=die))
                break
            except Death:
                continue
        state = state_of(study)
        assert state.closed is not None
        assert [len(state.rounds[n].trials) for n in (1, 2)] == [5, 5]
        phases = Counter(trial.phase for trial in state.of(Purpose.SEARCH))
        assert phases == {Phase.SCORED: 9, Phase.FAILED: 1}
        assert set(jobs.completions.values()) == {1}


def test_a_paused_stream_goes_on(template, tmp_path):
    from neurosweep.research.control import send_request

    study, jobs = copy_study(template, tmp_path), cluster()
    asked = []

    def pause_once(state):
        if not asked and sum(1 for _ in state.of(Purpose.SEARCH)) >= 4:
            asked.append(send_request(study, "pause"))

    assert drive(study, jobs, hooks=Hooks(on_tick=pause_once)).state is DriveState.PAUSED
    assert state_of(study).closed is None
    assert drive(study, jobs).state is DriveState.COMPLETE
    assert FakeExecutor(jobs).slots == 3
