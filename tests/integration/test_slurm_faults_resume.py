"""Jobs that save themselves, on a cluster that takes their place away; slots that change."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from _loop_kit import copy_study, new_study
from _slurm_fake_kit import PACE, drive_slurm, good_ends, trials, write_profile

from neurosweep.core.files import read_json, read_jsonl
from neurosweep.records.export import export_study
from neurosweep.records.trial import Kind
from neurosweep.research.control import send_request
from neurosweep.research.progress import DriveState
from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import Event, FaultScript, TaskFault

pytestmark = pytest.mark.timeout(60)
TRIALS, HIT, STEPS = 4, 1, 12


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with FakeSlurm(tmp_path_factory.mktemp("slurm")) as slurm, slurm.on_path():
        yield slurm


@pytest.fixture
def on(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("steps"),
        recipe="steps",
        budget={"rounds": 1, "trials_per_round": TRIALS, "trial_minutes": 1.0},
        reserve={"floor": 0, "confirm": 0},
        set={"fault.delay_s": 0.05, "training.epochs": STEPS},
    )


@pytest.fixture(scope="module")
def undisturbed(template, slurm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    study = run(template, slurm, write_profile(folder), folder, FaultScript())
    return export_study(study)


def run(template, slurm, on, folder, script):
    slurm.obey(script)
    study = copy_study(template, folder)
    assert drive_slurm(study, on, pace=PACE).state is DriveState.COMPLETE
    assert set(good_ends(study).values()) == {1}
    assert set(slurm.completions().values()) == {1}
    return study


def steps_of(study, trial, attempt=1):
    files = study.trial(trial).attempt(attempt)
    return [line["step"] for line in read_jsonl(files.metrics)]


WARNED = TaskFault(Event.PREEMPT, array=1, task=HIT, at="heartbeat.json", after_s=0.2, for_s=5.0)


@pytest.mark.parametrize(
    ("faults", "restarts"),
    [((WARNED,), 1), ((WARNED, replace(WARNED, restart=1)), 2)],
    ids=["once", "twice"],
)
def test_a_preempted_job_goes_on_where_it_was(
    template, slurm, on, undisturbed, tmp_path, faults, restarts
):
    study = run(template, slurm, on, tmp_path, FaultScript(tasks=faults))
    hit = trials(study)[HIT]
    assert (len(hit.attempts), hit.attempts[0].restarts) == (1, restarts)
    assert steps_of(study, hit.plan.trial) == list(range(STEPS)), "none lost, none repeated"
    assert export_study(study) == undisturbed
    exits = [row["exit"] for row in slurm.notes("exit") if row["job"] == "1000_1"]
    assert exits.count("0:0") == 1
    assert len(exits) == 1 + restarts
    asked = [row["arguments"] for row in slurm.notes("call") if row["command"] == "scontrol"]
    assert asked.count(["requeue", "1000_1"]) == restarts, "it asked for its place itself"


def test_a_job_that_loses_its_node_starts_from_its_last_save(
    template, slurm, on, undisturbed, tmp_path
):
    fault = TaskFault(
        Event.NODE_FAIL, array=1, task=HIT, at="heartbeat.json", after_s=0.2, requeue=False
    )
    study = run(template, slurm, on, tmp_path, FaultScript(tasks=(fault,)))
    hit = trials(study)[HIT]
    assert [attempt.kind for attempt in hit.attempts] == [Kind.NODE_FAILURE, Kind.NONE]
    status = read_json(study.trial(hit.plan.trial).attempt(2).status)
    assert status["outcome"] == "done"
    assert steps_of(study, hit.plan.trial, attempt=2) == list(range(STEPS))
    before, after = undisturbed["trials"][hit.plan.trial], export_study(study)["trials"]
    assert after[hit.plan.trial]["metrics"] == before["metrics"]


def test_a_cancelled_job_is_not_brought_back(template, slurm, on, tmp_path):
    fault = TaskFault(Event.CANCEL, array=1, task=HIT, at="heartbeat.json", after_s=0.1)
    study = run(template, slurm, on, tmp_path, FaultScript(tasks=(fault,), kill_wait_s=1.0))
    hit = trials(study)[HIT]
    assert [attempt.kind for attempt in hit.attempts] == [Kind.CANCELLED_ADMIN, Kind.NONE]
    starts = Counter(row["job"] for row in slurm.notes("start"))
    assert starts["1000_1"] == 1


def busiest(slurm):
    """Return how many tasks ran at a time, at most."""
    most = now = 0
    for row in slurm.notes():
        now += (row["what"] == "start") - (row["what"] == "exit")
        most = max(most, now)
    return most


def test_no_more_tasks_run_than_there_are_slots(template, slurm, tmp_path):
    run(template, slurm, write_profile(tmp_path, throttle=2), tmp_path, FaultScript())
    assert busiest(slurm) == 2


def test_slots_change_while_a_round_runs(template, slurm, tmp_path):
    slurm.obey(FaultScript())
    study = copy_study(template, tmp_path)
    on = write_profile(tmp_path, throttle=1)
    moments = []

    def ask_for_more(name):
        if name == "ledger:trial_scored" and not moments:
            moments.append(busiest(slurm))
            send_request(study, "throttle", value=3)

    assert drive_slurm(study, on, boundary=ask_for_more).state is DriveState.COMPLETE
    assert moments == [1]
    assert busiest(slurm) == 3
    [told] = [row["arguments"] for row in slurm.notes("call") if row["command"] == "scontrol"]
    assert told == ["update", "JobId=1000", "ArrayTaskThrottle=3"]


def test_nothing_starts_while_there_is_no_slot(template, slurm, tmp_path):
    slurm.obey(FaultScript())
    study = copy_study(template, tmp_path)
    send_request(study, "throttle", value=0)
    ticks = []

    def boundary(name):
        if name == "ledger:submitted":
            ticks.append(len(slurm.notes("start")))
            send_request(study, "throttle", value=TRIALS)

    assert drive_slurm(study, write_profile(tmp_path), boundary=boundary).done == TRIALS
    assert ticks == [0]
    held = [row for row in slurm.notes("call") if row["arguments"][:1] == ["release"]]
    assert len(held) == 1
