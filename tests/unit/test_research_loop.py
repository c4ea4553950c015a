"""The loop on the fake cluster: the exact budget, and what each kind of ending does to it."""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import replace

import pytest
from _loop_kit import PACE, START, ListAgent, copy_study, drive, new_study, state_of

from neurosweep.core.clock import parse_iso, utc_iso
from neurosweep.core.errors import (
    ExecutorError,
    LedgerError,
    LockedError,
    StudyError,
    UnreachableError,
)
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.records.state import Phase
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.control import send_request
from neurosweep.research.journal import Hooks
from neurosweep.research.progress import DriveState
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor, Fate


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(tmp_path_factory.mktemp("template"))


@pytest.fixture
def study(template, tmp_path):
    return copy_study(template, tmp_path)


def cluster_of(fates=None, **options):
    table = dict(fates or {})

    def fate_of(trial, attempt):
        return table.get((trial, attempt), table.get(trial, Fate.DONE))

    return FakeCluster(FakeClock(START), fate_of, **options)


def test_a_study_ends_with_exactly_its_budget(study):
    result = drive(study)
    state = state_of(study)
    assert (result.state, result.planned, result.done, result.failed) == (
        DriveState.COMPLETE,
        6,
        6,
        0,
    )
    assert [t.plan.trial for t in state.of(Purpose.SEARCH)] == [
        "r01t000",
        "r01t001",
        "r01t002",
        "r02t000",
        "r02t001",
        "r02t002",
    ]
    assert [t.plan.trial for t in state.of(Purpose.FLOOR)] == ["f000"]
    assert all(trial.phase is Phase.SCORED for trial in state.trials.values())
    assert state.closed == {"reason": "complete", "planned": 6, "done": 6, "failed": 0}


SPENT = {
    Fate.USER_ERROR: Kind.USER_ERROR,
    Fate.DIVERGED: Kind.DIVERGED,
    Fate.WRONG_CODE: Kind.WRONG_CODE,
    Fate.FORGED_NODE_FAILURE: Kind.USER_ERROR,
    Fate.DAMAGED_STATUS: Kind.USER_ERROR,
    Fate.BROKEN_PREDICTIONS: Kind.BROKEN_PREDICTIONS,
    Fate.CHANGED_PREDICTIONS: Kind.BROKEN_PREDICTIONS,
    Fate.SEGFAULT: Kind.USER_ERROR,
    Fate.EXIT_CODE: Kind.USER_ERROR,
    Fate.HANG: Kind.HANG,
    Fate.ENDLESS: Kind.TIME_LIMIT,
    Fate.OOM_HOST: Kind.OOM_HOST,
    Fate.TIME_LIMIT: Kind.TIME_LIMIT,
}
REFILLED = {
    Fate.VANISH: Kind.LOST,
    Fate.NEVER_START: Kind.LOST,
    Fate.NODE_FAILURE: Kind.NODE_FAILURE,
    Fate.PREEMPTED: Kind.PREEMPTED,
    Fate.CANCELLED_ADMIN: Kind.CANCELLED_ADMIN,
}


@pytest.mark.parametrize("fate", SPENT)
def test_a_failure_of_the_trial_spends_its_place(study, fate):
    result = drive(study, cluster_of({"r01t001": fate}))
    trial = state_of(study).trials["r01t001"]
    assert (trial.phase, trial.kind, len(trial.attempts)) == (Phase.FAILED, SPENT[fate], 1)
    assert trial.metrics == {}
    assert (result.done, result.failed) == (5, 1)
    assert trial.attempts[0].error["text"]


@pytest.mark.parametrize("fate", REFILLED)
def test_a_failure_of_the_infrastructure_gives_a_new_attempt(study, fate):
    cluster = cluster_of({("r01t001", 1): fate})
    result = drive(study, cluster)
    trial = state_of(study).trials["r01t001"]
    assert [a.kind for a in trial.attempts] == [REFILLED[fate], Kind.NONE]
    assert (trial.phase, trial.kind) == (Phase.SCORED, Kind.NONE)
    assert (result.done, result.failed) == (6, 0)
    assert cluster.completions["r01t001"] == 1


def test_a_trial_that_always_loses_its_machine_is_given_up_after_three_attempts(study):
    result = drive(study, cluster_of({"r02t000": Fate.NODE_FAILURE}))
    trial = state_of(study).trials["r02t000"]
    assert (trial.phase, trial.kind, len(trial.attempts)) == (Phase.FAILED, Kind.NODE_FAILURE, 3)
    assert (result.done, result.failed) == (5, 1)


def test_a_job_that_cannot_be_killed_does_not_hold_the_round_up(study):
    cluster = cluster_of({"r01t000": Fate.UNDEAD})
    result = drive(study, cluster)
    assert state_of(study).trials["r01t000"].kind is Kind.HANG
    assert (result.done, result.failed) == (5, 1)


class Hung(FakeCluster):
    """A job that makes no progress; it beats for a while, or for ever."""

    beats_s = float("inf")

    def _run(self, job):
        if job.task.trial == "r01t000" and self.clock.now() - job.started < self.beats_s:
            atomic_write_json(job.task.files.heartbeat, {"step": 1, "t": str(self.clock.now())})
        super()._run(job)


@pytest.mark.parametrize(
    ("beats_s", "low", "high"), [(float("inf"), 30.0, 50.0), (10.0, 50.0, 64.0)]
)
def test_a_job_without_a_beat_is_left_to_its_executor_for_a_while(study, beats_s, low, high):
    cluster = Hung(FakeClock(START), lambda t, _: Fate.HANG if t == "r01t000" else Fate.DONE)
    cluster.beats_s = beats_s
    drive(study, cluster, pace=replace(PACE, patience_s=45.0))
    trial = state_of(study).trials["r01t000"]
    assert trial.kind is Kind.HANG
    attempt = trial.attempts[0]
    ran = parse_iso(attempt.ended_t) - parse_iso(attempt.started_t)
    assert low < ran < high


class Stopping(FakeCluster):
    """A job that is told to stop writes so, and only its scheduler knows why."""

    def _finish(self, job):
        if job.task.key != ("r01t000", 1):
            super()._finish(job)
            return
        status = {"outcome": "failed", "kind": "stopped", "error": {"type": "x", "text": "SIGTERM"}}
        atomic_write_json(job.task.files.status, self._times(job) | status)
        self.end(job, kind_hint=Kind.PREEMPTED)


@pytest.mark.parametrize("driven", [True, False])
def test_who_told_a_job_to_stop_is_asked_of_its_executor(study, driven):
    cluster = Stopping(FakeClock(START), slots=4)
    if not driven:

        def die(name):
            if name == "ledger:submitted" and 1 in state_of(study).rounds:
                raise SystemExit

        with pytest.raises(SystemExit):
            drive(study, cluster, hooks=Hooks(boundary=die))
        for _ in range(5):
            cluster.advance()
            cluster.clock.sleep(1.0)
    assert drive(study, cluster).done == 6
    assert [a.kind for a in state_of(study).trials["r01t000"].attempts] == [
        Kind.PREEMPTED,
        Kind.NONE,
    ]


def test_a_lost_process_on_another_machine_is_believed_until_it_is_silent_for_long(study):
    cluster = cluster_of({("r01t000", 1): Fate.FORGOTTEN}, host="node17")
    cluster.clock = FakeClock()
    drive(study, cluster)
    first = state_of(study).trials["r01t000"].attempts[0]
    assert (first.kind, first.host) == (Kind.LOST, "node17")
    assert cluster.clock.slept > 60.0


def test_a_scheduler_that_says_a_task_ended_is_believed_before_its_heartbeat_is_old(study):
    cluster = cluster_of({("r01t000", 1): Fate.VANISH}, host="node17")
    cluster.clock = FakeClock()
    drive(study, cluster)
    first = state_of(study).trials["r01t000"].attempts[0]
    assert (first.kind, first.host) == (Kind.LOST, "node17")
    assert PACE.settle_s < cluster.clock.slept < 30.0


def test_a_late_result_of_an_ended_attempt_is_not_accepted(study):
    cluster = cluster_of({("r01t000", 1): Fate.NODE_FAILURE})
    late = study.trial("r01t000").attempt(1)

    def leave_late_result(line):
        if line["event"] == "attempt_ended" and line["data"]["trial"] == "r01t000":
            late.status.write_text('{"outcome": "done", "kind": "none", "files": {}}')
            late.predictions.write_text("")

    drive(study, cluster, hooks=Hooks(on_event=leave_late_result))
    trial = state_of(study).trials["r01t000"]
    assert [a.kind for a in trial.attempts] == [Kind.NODE_FAILURE, Kind.NONE]
    scores = read_json(study.trial("r01t000").scores_json)
    assert (scores["attempt"], scores["num_missing"]) == (2, 0)


def test_a_submission_that_is_refused_is_tried_again_without_a_second_job(study):
    cluster = cluster_of(refuse_submit=3)
    result = drive(study, cluster)
    assert result.done == 6
    assert set(cluster.submissions.values()) == {1}


def test_a_cluster_that_takes_no_jobs_ends_the_driver_and_the_study_can_be_resumed(study):
    cluster = cluster_of(refuse_submit=100)
    with pytest.raises(ExecutorError, match="takes no jobs"):
        drive(study, cluster)
    cluster.refuse_submit = 0
    assert drive(study, cluster).done == 6
    assert set(cluster.submissions.values()) == {1}


def test_an_executor_that_took_tasks_before_is_waited_for(study):
    cluster = cluster_of()
    cluster.clock = FakeClock()
    told = []

    def stop_taking(_study, number):
        cluster.refuse_submit = 30 if number == 1 else 0

    hooks = Hooks(on_round_closed=stop_taking, on_executor=told.append)
    assert drive(study, cluster, hooks=hooks).state is DriveState.COMPLETE
    assert cluster.clock.slept > 20 * 60.0
    assert "the fake cluster takes no jobs now" in told
    assert told[0] == told[-1] == ""


def test_a_scheduler_that_is_away_from_the_start_is_waited_for(study, monkeypatch):
    cluster = cluster_of()
    away = iter(range(12))

    def submit(self, token, tasks, real=FakeExecutor.submit):
        if next(away, None) is not None:
            raise UnreachableError("sbatch did not answer within 60 s")
        return real(self, token, tasks)

    monkeypatch.setattr(FakeExecutor, "submit", submit)
    assert drive(study, cluster).state is DriveState.COMPLETE


def test_a_query_that_fails_says_nothing_about_the_jobs(study):
    cluster = cluster_of(refuse_poll=25)
    assert drive(study, cluster).failed == 0
    assert all(len(t.attempts) == 1 for t in state_of(study).trials.values())


def test_a_floor_that_fails_whole_pauses_the_study_before_the_budget_is_spent(study):
    cluster = cluster_of({"f000": Fate.USER_ERROR})
    result = drive(study, cluster)
    assert result.state is DriveState.PAUSED
    assert "unchanged recipe failed" in result.reason
    assert "ends in user_error" in result.reason
    assert list(state_of(study).of(Purpose.SEARCH)) == []
    assert drive(study, cluster).state is DriveState.COMPLETE


def test_a_closed_study_is_left_as_it_is(study):
    drive(study)
    content = study.ledger.read_bytes()
    assert drive(study).state is DriveState.COMPLETE
    assert study.ledger.read_bytes() == content


def test_the_agent_sees_every_ended_search_trial_of_this_study_and_nothing_else(study):
    agent = ListAgent()
    drive(study, cluster_of({"r01t002": Fate.DIVERGED}), agent=agent)
    first, second = agent.histories
    assert first == []
    assert [record.trial for record in second] == ["r01t000", "r01t001", "r01t002"]
    assert [record.value is None for record in second] == [False, False, True]
    assert second[2].kind is Kind.DIVERGED
    assert set(second[0].config) == set(state_of(study).spec["search"]["exposed"])


def test_rounds_close_with_the_running_best_which_only_strict_improvement_changes(study):
    drive(study)
    state = state_of(study)
    values = [state.value(trial) for trial in state.of(Purpose.SEARCH)]
    assert state.rounds[1].best["value"] == min(values[:3])
    assert state.rounds[2].best["value"] == min(values)
    assert state.rounds[0].best is None


def test_empty_folders_of_checkpoints_are_deleted_once_the_trial_is_scored(study):
    drive(study)
    files = study.trial("r01t000").attempt(1)
    assert files.predictions.exists()
    assert not files.ckpt.exists()


def test_a_run_folder_says_what_its_job_ran(study):
    drive(study)
    state = state_of(study)
    plan = state.trials["r02t001"].plan
    run = read_json(study.trial("r02t001").run_json)
    assert run["seed"] == plan.seed
    assert run["config"]["training"]["learning_rate"] == plan.overrides["training.learning_rate"]
    assert run["data_fp"] == state.created["data_fp"]
    assert run["limits"]["timeout_s"] == 60.0
    assert run["part"] == "val"
    seeds = [t.plan.seed for t in state.trials.values()]
    assert len(set(seeds)) == len(seeds)


def test_a_cancel_closes_the_study_as_incomplete_and_kills_what_runs(study):
    cluster = cluster_of({"r01t001": Fate.ENDLESS})

    def cancel_after_first_score(line):
        if line["event"] == "trial_scored" and line["data"]["trial"] == "r01t000":
            send_request(study, "cancel", reason="enough", clock=cluster.clock)

    result = drive(study, cluster, hooks=Hooks(on_event=cancel_after_first_score))
    state = state_of(study)
    assert (result.state, result.reason) == (DriveState.INCOMPLETE, "enough")
    assert state.trials["r01t001"].kind is Kind.CANCELLED_USER
    assert state.closed["planned"] == 6
    assert state.closed["done"] + state.closed["failed"] == 3
    assert list(study.control_dir.iterdir()) == []


def test_a_cancel_that_waits_is_obeyed_before_anything_is_submitted(study):
    send_request(study, "cancel")
    cluster = cluster_of()
    result = drive(study, cluster)
    assert (result.state, result.done, cluster.jobs) == (DriveState.INCOMPLETE, 0, [])


def test_a_cancel_after_the_driver_died_submits_nothing_again(study):
    cluster = cluster_of()

    def die(name):
        if name == "submit":
            raise KeyboardInterrupt

    assert drive(study, cluster, hooks=Hooks(boundary=die)).state is DriveState.INTERRUPTED
    cluster.kill_all()
    send_request(study, "cancel")
    result = drive(study, cluster)
    assert result.state is DriveState.INCOMPLETE
    assert len(cluster.jobs) == 1
    assert state_of(study).trials["f000"].kind is Kind.CANCELLED_USER


def test_a_pause_lets_running_trials_end_and_a_resume_goes_on(study):
    cluster = cluster_of()

    def pause(line):
        if line["event"] == "attempt_started" and line["data"]["trial"] == "r01t000":
            send_request(study, "pause", reason="lunch", clock=cluster.clock)

    result = drive(study, cluster, hooks=Hooks(on_event=pause))
    assert (result.state, result.reason) == (DriveState.PAUSED, "lunch")
    state = state_of(study)
    assert state.rounds[1].closed
    assert 2 not in state.rounds
    assert drive(study, cluster).state is DriveState.COMPLETE


def test_a_stopped_trial_is_spent(study):
    cluster = cluster_of({"r01t001": Fate.ENDLESS})

    def stop(line):
        if line["event"] == "attempt_started" and line["data"]["trial"] == "r01t001":
            send_request(study, "stop", trial="r01t001", clock=cluster.clock)

    result = drive(study, cluster, hooks=Hooks(on_event=stop))
    trial = state_of(study).trials["r01t001"]
    assert (trial.kind, trial.phase) == (Kind.STOPPED, Phase.FAILED)
    assert (result.done, result.failed) == (5, 1)


def test_used_up_hours_close_the_study_as_incomplete(tmp_path):
    study = new_study(tmp_path, budget={"gpu_hours": 3.5 / 3600.0})
    result = drive(study, cluster_of(slots=1))
    assert result.state is DriveState.INCOMPLETE
    assert "hours is used up" in result.reason
    assert 0 < result.done < 6


def test_an_interrupt_leaves_jobs_running_and_the_next_driver_takes_them_up(study):
    cluster = cluster_of()

    def interrupt(state):
        if "r01t000" in state.trials and state.trials["r01t000"].phase is Phase.RUNNING:
            raise KeyboardInterrupt

    result = drive(study, cluster, hooks=Hooks(on_tick=interrupt))
    assert result.state is DriveState.INTERRUPTED
    assert drive(study, cluster).state is DriveState.COMPLETE
    assert set(cluster.submissions.values()) == {1}
    assert set(cluster.completions.values()) == {1}


def test_a_second_driver_is_refused_by_name_and_the_first_goes_on(study):
    errors = []

    def second_driver(_state):
        if not errors:
            with pytest.raises(LockedError) as caught:
                drive(study)
            errors.append(str(caught.value))

    assert drive(study, hooks=Hooks(on_tick=second_driver)).state is DriveState.COMPLETE
    assert f"process {os.getpid()} on {socket.gethostname()}" in errors[0]


class BrokenMirror:
    def __init__(self):
        self.calls = 0

    def sync(self):
        self.calls += 1
        raise ConnectionError("no server")

    close = sync


def test_a_mirror_that_raises_does_not_stop_the_study(study):
    mirror = BrokenMirror()
    result = drive(study, mirror=mirror)
    assert (result.state, result.mirrored) == (DriveState.COMPLETE, False)
    assert mirror.calls >= 2


def test_a_damaged_ledger_is_refused_by_line_and_left_alone(study):
    drive(study)
    lines = study.ledger.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"1", b"2", 1)
    damaged = b"".join(lines)
    study.ledger.write_bytes(damaged)
    with pytest.raises(LedgerError, match="line 6: does not follow"):
        drive(study)
    assert study.ledger.read_bytes() == damaged


def test_a_full_disk_ends_in_one_clear_error_and_the_study_can_be_resumed(study, monkeypatch):
    cluster = cluster_of()
    write = os.write
    lines = []

    def full(descriptor, data):
        if b'"event":"trial_scored"' in data:
            lines.append(data)
            if len(lines) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("neurosweep.records.ledger.os.write", full)
    with pytest.raises(StudyError, match=r"the disk is full.*study resume"):
        drive(study, cluster)
    monkeypatch.undo()
    result = drive(study, cluster)
    assert result.done == 6
    assert set(cluster.completions.values()) == {1}


def test_a_ledger_that_lost_its_first_line_is_refused(study):
    study.ledger.write_bytes(study.ledger.read_bytes()[:100])
    with pytest.raises(LedgerError, match="its first line is lost"):
        drive(study)


def test_a_changed_schema_is_refused(study):
    schema = read_json(study.schema_json)
    schema[0]["high"] = 1e9
    study.schema_json.write_text(json.dumps(schema))
    with pytest.raises(StudyError, match="is not the schema that the study was made with"):
        drive(study)


def test_refused_answers_are_recorded_and_filled_up(study):
    drive(study, agent=ListAgent([None, None, None]), fallback=ListAgent())
    state = state_of(study)
    (turn,) = state.rounds[1].turns
    assert (turn["asked"], turn["accepted"], turn["fallback"]) == (3, 0, 3)
    assert len(turn["refused"]) == 3
    assert {t.plan.source for t in state.of(Purpose.SEARCH) if t.plan.round == 1} == {"fallback"}
    assert state.rounds[2].turns[0]["fallback"] == 0


def test_without_a_fallback_the_study_pauses_and_asks_again_when_resumed(study):
    agent = ListAgent([None, None, None])
    result = drive(study, agent=agent)
    assert result.state is DriveState.PAUSED
    assert "refused 3 times in a row" in result.reason
    assert drive(study, agent=agent).done == 6
    assert [turn["accepted"] for turn in state_of(study).rounds[1].turns] == [0, 3]


def test_scores_that_a_job_wrote_are_not_believed(study):
    forged = {"trial": "r01t000", "attempt": 1, "predictions_sha": "x"}
    forged["summary"] = {"metrics": {"val_cer": 0.0}, "interval": {}, "per_subject": {}}

    def forge(line):
        if line["event"] == "attempt_started" and line["data"]["trial"] == "r01t000":
            study.trial("r01t000").scores_json.write_text(json.dumps(forged))

    drive(study, hooks=Hooks(on_event=forge))
    assert state_of(study).trials["r01t000"].metrics["val_cer"] > 0.0
    assert read_json(study.trial("r01t000").scores_json)["summary"]["metrics"]["val_cer"] > 0.0


def test_predictions_that_do_not_give_the_objective_are_broken(tmp_path):
    study = new_study(tmp_path, objective={"metric": "val_acc"})
    result = drive(study)
    assert (result.state, result.done) == (DriveState.PAUSED, 0)
    floor = state_of(study).trials["f000"]
    assert floor.kind is Kind.BROKEN_PREDICTIONS
    assert "give no val_acc, the objective" in floor.attempts[0].error["text"]


def test_a_broken_machine_does_not_use_up_every_attempt(tmp_path):
    def fate(trial, _):
        return Fate.DONE if trial == "f000" or mended else Fate.NODE_FAILURE

    mended = False
    cluster = FakeCluster(FakeClock(START), fate, slots=3)
    big = new_study(tmp_path, budget={"trials_per_round": 20})
    result = drive(big, cluster)
    assert result.state is DriveState.PAUSED
    assert "attempts in a row were lost at once to their machines" in result.reason
    trials = [t for t in state_of(big).of(Purpose.SEARCH) if t.phase.final]
    assert len(trials) < 8
    mended = True  # but for what waits in the queue already
    states = [drive(big, cluster).state for _ in range(3)]
    assert states[-1] is DriveState.COMPLETE


def test_a_result_that_a_network_file_system_shows_late_is_waited_for(study):
    class Late(FakeCluster):
        """The status of one job appears long after its scheduler said it ended with 0."""

        shown = None

        def _finish(self, job):
            super()._finish(job)
            if job.task.trial == "r01t000":
                status = job.task.files.status
                self.shown = (self.clock.now() + 40.0, status, status.read_bytes())
                status.unlink()

        def advance(self):
            super().advance()
            if self.shown and self.clock.now() > self.shown[0]:
                self.shown[1].write_bytes(self.shown[2])
                self.shown = None

    cluster = Late(FakeClock(START), host="node17")
    assert drive(study, cluster).done == 6
    assert len(state_of(study).trials["r01t000"].attempts) == 1


def test_a_node_whose_clock_is_behind_does_not_end_its_trials_early(study):
    class Behind(FakeCluster):
        def _start(self, job):
            started = super()._start(job)
            if started:
                text = job.task.files.claim.read_text()
                late = utc_iso(self.clock.now() - 300.0)
                now = json.loads(text)["t"]
                job.task.files.claim.write_text(text.replace(now, late))
            return started

    cluster = Behind(FakeClock(START), seconds=50.0, host="node17")
    assert drive(study, cluster, pace=replace(PACE, patience_s=1000.0)).failed == 0
