"""Whatever a cluster does: the whole budget, the right names for failures, nothing done twice.

Studies of a few trials, with the executor that is used on a cluster and real tasks; only SLURM is
not, and does what a script says.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from unittest import mock

import pytest
from _loop_kit import copy_study, new_study, state_of
from _slurm_fake_kit import (
    PACE,
    drive_slurm,
    good_ends,
    little_patience,
    trials,
    write_profile,
)

from neurosweep.exec import slurm_adopt
from neurosweep.records.state import Phase
from neurosweep.records.trial import Kind
from neurosweep.research.progress import DriveState
from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import (
    Answer,
    CommandFault,
    Event,
    FaultScript,
    OldJob,
    TaskFault,
)

pytestmark = pytest.mark.timeout(30)
TRIALS = 6
HIT = 2  # the task that a fault strikes
ALL = -1


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("template"),
        budget={"rounds": 1, "trials_per_round": TRIALS, "trial_minutes": 1.0},
        reserve={"floor": 0, "confirm": 0},
        set={"fault.delay_s": 0.2},
    )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with FakeSlurm(tmp_path_factory.mktemp("slurm")) as slurm, slurm.on_path():
        yield slurm


@pytest.fixture
def on(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture(autouse=True)
def moments():
    with little_patience():
        yield


def run(template, slurm, on, folder, script, **changes):
    """Run the study to its end under a script, and return it."""
    slurm.obey(script)
    study = copy_study(template, folder)
    assert drive_slurm(study, on, pace=replace(PACE, **changes)).state is DriveState.COMPLETE
    return study


def check(study, slurm, *, failed=()):
    """Assert the whole budget, and that nothing ran twice to its end."""
    found = trials(study)
    assert len(found) == TRIALS
    bad = {number: found[number].kind for number in range(TRIALS) if number in dict(failed)}
    assert bad == dict(failed)
    scored = {trial.plan.trial for n, trial in enumerate(found) if n not in dict(failed)}
    phases = {trial.plan.trial: trial.phase for trial in found}
    assert {name for name, phase in phases.items() if phase is Phase.SCORED} == scored
    assert all(count == 1 for count in slurm.completions().values())
    assert all(count == 1 for count in good_ends(study).values())
    assert scored == set(good_ends(study))
    assert state_of(study).closed["done"] == TRIALS - len(dict(failed))
    return found


@dataclass(frozen=True)
class Case:
    """One event on one task, and what the study must say of it."""

    does: Event
    more: dict
    kind: Kind = Kind.NONE  # of the first attempt
    attempts: int = 1
    restarts: int | None = 0  # None: depends on who is faster

    @property
    def spent(self):
        """Whether the trial has failed for good."""
        return self.kind is not Kind.NONE and self.attempts == 1


CASES = {
    "killed": Case(Event.KILL, {}, Kind.LOST, 2),
    "killed before its claim": Case(Event.KILL, {"at": "started"}, Kind.LOST, 2),
    "killed with its predictions": Case(Event.KILL, {"at": "predictions.jsonl"}, Kind.LOST, 2),
    "killed with its status": Case(Event.KILL, {"at": "status.json"}),
    "out of memory": Case(Event.OOM, {}, Kind.OOM_HOST),
    "over its memory, as 22.05 says it": Case(Event.OVER_MEMORY, {}, Kind.OOM_HOST),
    "over its time": Case(Event.TIMEOUT, {}, Kind.TIME_LIMIT),
    "preempted and queued again": Case(Event.PREEMPT, {}, restarts=1),
    "preempted for good": Case(Event.PREEMPT, {"requeue": False}, Kind.PREEMPTED, 2),
    "preempted after its end": Case(Event.PREEMPT, {"at": "ended"}, restarts=None),
    "node lost": Case(Event.NODE_FAIL, {"requeue": False}, Kind.NODE_FAILURE, 2),
    "node lost, queued again": Case(Event.NODE_FAIL, {}, restarts=1),
    "node lost before its claim": Case(Event.NODE_FAIL, {"at": "started"}, restarts=1),
    "node lost, its process lives on": Case(Event.NODE_FAIL, {"kills": False}, restarts=None),
    "node lost after its end": Case(Event.NODE_FAIL, {"at": "ended", "requeue": False}),
    "cancelled by an administrator": Case(Event.CANCEL, {}, Kind.CANCELLED_ADMIN, 2),
    "cancelled by its owner": Case(Event.CANCEL, {"uid": os.getuid()}, Kind.CANCELLED_USER),
    "queued again by an administrator": Case(Event.REQUEUE, {}, restarts=1),
    "queued again and held": Case(Event.REQUEUE_HOLD, {"for_s": 0.4}, restarts=1),
    "suspended": Case(Event.SUSPEND, {"for_s": 0.6}),
    "vanished": Case(Event.VANISH, {}, Kind.LOST, 2),
    "unseen, and does its work": Case(Event.VANISH, {"kills": False}),
    "unseen for a while": Case(Event.VANISH, {"kills": False, "for_s": 0.4}),
    "status comes late": Case(Event.LATE, {"for_s": 0.3}),
    "files come late": Case(
        Event.LATE, {"for_s": 0.3, "files": ("predictions.jsonl", "status.json")}
    ),
    "node is configured": Case(Event.SHOW, {"at": "queued", "text": "CONFIGURING"}),
    "queued again in hold": Case(Event.SHOW, {"at": "queued", "text": "REQUEUE_HOLD"}),
    "special exit": Case(Event.SHOW, {"at": "queued", "text": "SPECIAL_EXIT"}),
    "is signalled": Case(Event.SHOW, {"at": "started", "text": "SIGNALING"}),
    "stages out": Case(Event.SHOW, {"at": "ended", "text": "STAGE_OUT"}),
    "takes long to complete": Case(Event.SHOW, {"at": "ended", "text": "COMPLETING"}),
    "a state of next year": Case(Event.SHOW, {"at": "started", "text": "ENTANGLED"}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_happens_to_a_task(template, slurm, on, tmp_path, case):
    fault = TaskFault(case.does, array=1, task=HIT, **case.more)
    study = run(template, slurm, on, tmp_path, FaultScript(tasks=(fault,), kill_wait_s=0.05))
    found = check(study, slurm, failed={HIT: case.kind} if case.spent else {})
    hit = found[HIT]
    assert hit.attempts[0].kind is case.kind
    assert len(hit.attempts) == case.attempts
    assert case.restarts in (None, hit.attempts[0].restarts)
    assert all(len(trial.attempts) == 1 for n, trial in enumerate(found) if n != HIT)


def slow_study(folder):
    """Return a study whose jobs outlive every patience of these tests."""
    return new_study(
        folder,
        budget={"rounds": 1, "trials_per_round": TRIALS, "trial_minutes": 1.0},
        reserve={"floor": 0, "confirm": 0},
        set={"fault.delay_s": 2.0},
    )


def test_what_lives_on_a_lost_node_writes_no_result(slurm, on, tmp_path):
    study = slow_study(tmp_path)
    lost = TaskFault(Event.NODE_FAIL, array=1, task=HIT, requeue=False, kills=False)
    slurm.obey(FaultScript(tasks=(lost,)))
    assert drive_slurm(study, on).state is DriveState.COMPLETE
    found = check(study, slurm)
    assert [attempt.kind for attempt in found[HIT].attempts] == [Kind.NODE_FAILURE, Kind.NONE]
    deadline = time.monotonic() + 10.0
    while not (exits := exits_of(slurm, f"1000_{HIT}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert exits == ["3:0"], "its claim was taken away"
    assert good_ends(study)[found[HIT].plan.trial] == 1


def exits_of(slurm, job):
    """Return how the processes of a job ended."""
    return [row["exit"] for row in slurm.notes("exit") if row["job"] == job]


def test_preempted_again_and_again(template, slurm, on, tmp_path):
    faults = tuple(
        TaskFault(Event.PREEMPT, array=1, task=HIT, restart=restart, at=at)
        for restart, at in enumerate(
            ["claim.json", "heartbeat.json", "claim.json", "heartbeat.json"]
        )
    )
    script = FaultScript(tasks=faults, kill_wait_s=0.05, requeue_wait_s=0.1)
    found = check(run(template, slurm, on, tmp_path, script), slurm)
    assert (len(found[HIT].attempts), found[HIT].attempts[0].restarts) == (1, 4)


def failing(command, count=3, **more):
    return CommandFault(command, Answer.FAIL, count=count, **more)


COMMANDS = {
    "sbatch fails": (failing("sbatch", 2),),
    "sbatch queues and says it failed": (CommandFault("sbatch", Answer.FAIL_AFTER),),
    "sbatch hangs": (CommandFault("sbatch", Answer.HANG, for_s=5.0),),
    "sbatch queues and hangs": (CommandFault("sbatch", Answer.HANG_AFTER, for_s=5.0),),
    "sbatch queues and says half of it": (CommandFault("sbatch", Answer.CUT),),
    "sbatch queues and says nothing": (CommandFault("sbatch", Answer.EMPTY),),
    "squeue fails": (failing("squeue", 5),),
    "squeue hangs": (CommandFault("squeue", Answer.HANG, for_s=5.0),),
    "squeue says half": (CommandFault("squeue", Answer.CUT, count=8),),
    "squeue says nothing": (CommandFault("squeue", Answer.EMPTY, count=3),),
    "squeue repeats itself": (CommandFault("squeue", Answer.STALE, first=2, count=5),),
    "sacct fails": (failing("sacct", 5),),
    "sacct is never there": (failing("sacct", ALL),),
    "sacct hangs": (CommandFault("sacct", Answer.HANG, for_s=5.0),),
    "sacct says half": (CommandFault("sacct", Answer.CUT, count=3),),
    "sacct says nothing": (CommandFault("sacct", Answer.EMPTY, count=3),),
    "sacct repeats itself": (CommandFault("sacct", Answer.STALE, first=2, count=3),),
    "nobody answers": (failing("squeue", 8), failing("sacct", 8)),
    "nobody answers after half a submission": (
        CommandFault("sbatch", Answer.FAIL_AFTER),
        failing("squeue", 3),
        failing("sacct", 3),
    ),
}


# While a submission is in doubt nothing has started: no claim protects from a second one.
WAITING = TaskFault(Event.SHOW, array=1, at="queued", text="PENDING", for_s=1.2)
UNEVEN = TaskFault(Event.SUSPEND, task=HIT, for_s=0.5)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_happens_to_the_commands(template, slurm, on, tmp_path, name):
    tasks = (WAITING,) if name.startswith("sbatch") else (UNEVEN,)
    script = FaultScript(commands=COMMANDS[name], tasks=tasks)
    study = run(template, slurm, on, tmp_path, script)
    found = check(study, slurm)
    assert all(len(trial.attempts) == 1 for trial in found)
    assert len(slurm.notes("start")) == TRIALS
    if "queues" in name:
        assert slurm.calls()["sbatch"] == 1, "what is queued is not submitted again"
    told_once = name == "sacct repeats itself" and slurm.calls()["sacct"] < 2
    assert told_once or any(row["fault"] for row in slurm.notes("call"))


def test_silence_is_no_end_of_what_waits(template, slurm, on, tmp_path):
    silence = (failing("squeue", 30, first=2), failing("sacct", 30))
    waiting = replace(WAITING, for_s=2.5)
    study = run(template, slurm, on, tmp_path, FaultScript(commands=silence, tasks=(waiting,)))
    assert all(len(trial.attempts) == 1 for trial in check(study, slurm))
    assert len(slurm.notes("start")) == TRIALS
    assert sum(row["code"] for row in slurm.notes("call")) > 5


def test_a_preemption_that_squeue_forgets_for_a_moment_is_no_end(template, slurm, on, tmp_path):
    script = FaultScript(
        tasks=(TaskFault(Event.PREEMPT, array=1, task=HIT),),
        commands=(CommandFault("squeue", Answer.EMPTY, first=8),),
        kill_wait_s=0.05,
        requeue_wait_s=1.5,
    )
    found = check(run(template, slurm, on, tmp_path, script), slurm)
    assert (len(found[HIT].attempts), found[HIT].attempts[0].restarts) == (1, 1)


DENIED = (
    CommandFault("sbatch", Answer.FAIL_AFTER),
    CommandFault("squeue", Answer.EMPTY, count=1),
    CommandFault("sacct", Answer.EMPTY, count=1),
)
SOON = TaskFault(Event.SHOW, array=1, at="queued", text="PENDING", for_s=0.5)


def test_what_slurm_denies_at_first_is_not_submitted_again(template, slurm, on, tmp_path):
    with mock.patch.object(slurm_adopt, "SETTLED_S", 10.0):
        study = run(template, slurm, on, tmp_path, FaultScript(commands=DENIED, tasks=(SOON,)))
    check(study, slurm)
    assert slurm.calls()["sbatch"] == 1
    assert len(slurm.notes("start")) == TRIALS


def test_submitted_twice_is_run_once(template, slurm, on, tmp_path):
    with mock.patch.object(slurm_adopt, "SETTLED_S", 0.0):
        study = run(template, slurm, on, tmp_path, FaultScript(commands=DENIED, tasks=(SOON,)))
    assert slurm.calls()["sbatch"] == 2, "SLURM denied that it had the first"
    check(study, slurm)
    assert len(slurm.notes("start")) == 2 * TRIALS


DISABLED = failing("sacct", ALL, text="Slurm accounting storage is disabled")


def test_without_accounting_a_refusal_is_got_over(template, slurm, on, tmp_path):
    refused = failing("sbatch", 2, text="sbatch: error: Requested node is not available")
    script = FaultScript(commands=(refused, DISABLED))
    found = check(run(template, slurm, on, tmp_path, script), slurm)
    assert all(len(trial.attempts) == 1 for trial in found)


def test_accounting_that_lags_for_long_changes_no_kind(template, slurm, on, tmp_path):
    script = FaultScript(tasks=(TaskFault(Event.OOM, task=HIT),), accounting_lag_s=20.0)
    check(run(template, slurm, on, tmp_path, script), slurm, failed={HIT: Kind.OOM_HOST})
    assert len(slurm.notes("start")) == TRIALS


def test_accounting_lags_behind(template, slurm, on, tmp_path):
    check(run(template, slurm, on, tmp_path, FaultScript(accounting_lag_s=0.4)), slurm)


def test_ids_are_used_again(template, slurm, on, tmp_path):
    foreign = [OldJob(f"1000_{index}", "somebody-elses", "FAILED", "7:0") for index in range(4)]
    script = FaultScript(
        history=(*foreign, OldJob("1000", "another", "TIMEOUT"), OldJob("1001_0", "third")),
        tasks=(TaskFault(Event.NODE_FAIL, array=1, task=HIT, requeue=False),),
    )
    study = run(template, slurm, on, tmp_path, script)
    found = check(study, slurm)
    assert [len(trial.attempts) for trial in found] == [1, 1, 2, 1, 1, 1]


def test_somebody_elses_job_under_our_id_is_not_ours(slurm, on, tmp_path):
    study = slow_study(tmp_path)
    now = time.time()
    recent = OldJob(f"1000_{HIT}", "somebody-elses", "FAILED", "7:0", "n1", now, now, now)
    unseen = TaskFault(Event.VANISH, array=1, task=HIT, kills=False, for_s=1.5)
    slurm.obey(FaultScript(history=(recent,), tasks=(unseen,)))
    assert drive_slurm(study, on).state is DriveState.COMPLETE
    found = check(study, slurm)
    assert (len(found[HIT].attempts), found[HIT].attempts[0].restarts) == (1, 0)


def test_a_failure_of_each_kind_in_one_round(template, slurm, on, tmp_path):
    script = FaultScript(
        tasks=(
            TaskFault(Event.OOM, array=1, task=0),
            TaskFault(Event.TIMEOUT, array=1, task=1),
            TaskFault(Event.NODE_FAIL, array=1, task=2, requeue=False),
            TaskFault(Event.PREEMPT, array=1, task=3),
            TaskFault(Event.CANCEL, array=1, task=4),
            TaskFault(Event.VANISH, array=1, task=5),
        ),
        commands=(failing("squeue", 2, first=3), failing("sacct", 2, first=2)),
    )
    study = run(template, slurm, on, tmp_path, script)
    found = check(study, slurm, failed={0: Kind.OOM_HOST, 1: Kind.TIME_LIMIT})
    assert [trial.attempts[0].kind for trial in found] == [
        Kind.OOM_HOST,
        Kind.TIME_LIMIT,
        Kind.NODE_FAILURE,
        Kind.NONE,
        Kind.CANCELLED_ADMIN,
        Kind.LOST,
    ]
