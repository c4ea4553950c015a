"""The fake SLURM's queue, with processes that are only numbers."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest

from neurosweep.testing.slurm import lives as lives_module
from neurosweep.testing.slurm.commands import Call, answer
from neurosweep.testing.slurm.scheduler import Scheduler
from neurosweep.testing.slurm.script import Event, FaultScript, OldJob, TaskFault
from neurosweep.testing.slurm.setup import Site

KILLED = signal.SIGKILL


class Cluster:
    """A scheduler whose processes are numbers, and whose time is ours."""

    def __init__(self, script, slots, monkeypatch):
        self.now = 1_800_000_000.0
        self.timers = []
        self.notes = []
        self.sent = []
        pids = itertools.count(10_000)
        monkeypatch.setattr(lives_module, "fork_task", lambda _start: next(pids))
        monkeypatch.setattr(os, "killpg", lambda pid, number: self.sent.append((pid, number)))
        monkeypatch.setattr(time, "time", lambda: self.now)
        site = Site("/nowhere", Path("/nowhere"), slots=slots)
        self.scheduler = Scheduler(site, script, 100, self._later, self.notes.append)

    def _later(self, seconds, action):
        self.timers.append((self.now + seconds, action))

    def call(self, command, *arguments):
        reply = answer(self.scheduler, Call(command, arguments, Path("/"), {}, 1))
        return (reply.out or reply.error).strip()

    def tick(self, seconds=0.0):
        self.now += seconds
        due = [action for t, action in self.timers if t <= self.now]
        self.timers = [(t, action) for t, action in self.timers if t > self.now]
        for action in due:
            action()
        self.scheduler.schedule()

    def end(self, job_id, code=0, by=0):
        [task] = self.scheduler.find(job_id)
        self.scheduler.lives.reaped(task.pid, by or code << 8)
        self.tick()

    def submit(self, *options):
        number = self.call("sbatch", "--parsable", *options, "--wrap", "true")
        self.tick()
        return number

    def states(self):
        lines = self.call("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines()
        return dict(sorted(line.split() for line in lines))

    def reasons(self):
        lines = self.call("squeue", "-h", "-r", "-o", "%i|%r").splitlines()
        return dict(sorted(line.split("|") for line in lines))

    def accounting(self, *options, columns="JobID,State,ExitCode"):
        since = ("-S", "2000-01-01")
        return self.call("sacct", "-X", "-P", "-n", *since, "-o", columns, *options).splitlines()


@pytest.fixture
def cluster(monkeypatch):
    def make(script=None, slots=8):
        return Cluster(script or FaultScript(), slots, monkeypatch)

    return make


def test_tasks_run_in_their_order_as_slots_allow(cluster):
    one = cluster(slots=3)
    assert one.submit("--array=0-4") == "100"
    assert list(one.states().values()) == ["RUNNING"] * 3 + ["PENDING"] * 2
    assert one.reasons()["100_3"] == "Resources"
    one.end("100_1")
    assert one.states() == {
        "100_0": "RUNNING",
        "100_1": "COMPLETED",
        "100_2": "RUNNING",
        "100_3": "RUNNING",
        "100_4": "PENDING",
    }


def test_the_throttle_of_an_array_can_be_changed(cluster):
    one = cluster()
    one.submit("--array=0-4%2")
    assert list(one.states().values()).count("RUNNING") == 2
    assert one.reasons()["100_4"] == "JobArrayTaskLimit"
    assert one.call("squeue", "-h", "-o", "%i").splitlines()[0] == "100_[2-4%2]"
    assert one.call("scontrol", "update", "JobId=100", "ArrayTaskThrottle=4") == ""
    one.tick()
    assert list(one.states().values()).count("RUNNING") == 4


def test_what_is_held_waits_for_its_release(cluster):
    one = cluster()
    one.submit("--hold", "--array=0-1")
    assert set(one.reasons().values()) == {"JobHeldUser"}
    one.call("scontrol", "release", "100")
    one.tick()
    assert set(one.states().values()) == {"RUNNING"}
    one.call("scontrol", "hold", "100_1")
    assert one.states()["100_1"] == "RUNNING", "what runs goes on"


def test_every_task_gets_an_id_of_its_own_and_the_last_keeps_the_arrays(cluster):
    one = cluster()
    one.submit("--array=0-2")
    assert [task.raw_id for task in one.scheduler.tasks] == [101, 102, 100]
    assert one.scheduler.find("102")[0].job_id == "100_1"


def test_exit_codes_become_states(cluster):
    one = cluster()
    one.submit("--array=0-2")
    one.end("100_0")
    one.end("100_1", code=7)
    one.end("100_2", by=KILLED)
    assert one.accounting() == ["100_0|COMPLETED|0:0", "100_1|FAILED|7:0", "100_2|FAILED|0:9"]


def test_scancel_asks_first_and_kills_later(cluster):
    one = cluster(slots=1)
    one.submit("--array=0-1")
    one.call("scancel", "100")
    assert one.states() == {"100_0": "COMPLETING", "100_1": "CANCELLED"}
    assert [number for _, number in one.sent] == [signal.SIGCONT, signal.SIGTERM]
    one.tick(1.0)
    assert one.sent[-1][1] == signal.SIGKILL
    one.end("100_0", by=KILLED)
    assert one.accounting() == [f"100_0|CANCELLED by {os.getuid()}|0:0"]


def test_a_signal_is_no_end(cluster):
    one = cluster()
    one.submit("--array=0-1")
    one.call("scancel", "--signal=USR1", "100_1")
    assert [number for _, number in one.sent] == [signal.SIGUSR1]
    assert one.states()["100_1"] == "RUNNING"


def test_a_task_that_is_queued_again_keeps_its_id_and_its_lives(cluster):
    one = cluster()
    one.submit("--array=0-0", "--job-name=tok")
    one.now += 5.0
    one.call("scontrol", "requeue", "100_0")
    one.end("100_0", by=signal.SIGTERM)
    assert one.reasons() == {"100_0": "BeginTime"}
    assert one.accounting() == ["100_0|REQUEUED|0:0"]
    one.tick(1.0)
    assert one.states() == {"100_0": "RUNNING"}
    one.now += 3.0
    one.end("100_0")
    columns = "JobID,State,ElapsedRaw"
    assert one.accounting(columns=columns) == ["100_0|COMPLETED|3"]
    assert one.accounting("-D", columns=columns) == ["100_0|REQUEUED|5", "100_0|COMPLETED|3"]
    times = one.accounting("-D", columns="Submit")
    assert times == sorted(set(times)), "a requeued task was submitted again"
    assert "Restarts=1" in one.call("scontrol", "show", "job", "100_0")


def test_what_waits_is_not_queued_again_and_what_is_over_is(cluster):
    one = cluster(slots=1)
    one.submit("--array=0-2")
    assert one.call("scontrol", "requeue", "100_1") == "100_1: Job is pending execution"
    one.end("100_0")
    one.call("scancel", "100_2")
    assert one.call("scontrol", "requeue", "100_2") == ""
    assert one.states() == {"100_0": "COMPLETED", "100_1": "RUNNING", "100_2": "PENDING"}
    assert "Invalid job id" in one.call("scontrol", "requeue", "999")
    assert "Invalid job id" in one.call("scontrol", "update", "JobId=999", "ArrayTaskThrottle=1")


def test_an_array_that_is_partly_over_gives_an_error_and_obeys(cluster):
    one = cluster(slots=1)
    one.submit("--array=0-3%1")
    one.end("100_0")
    said = "100_0: Job has already finished\n100_1-3: No error"
    assert one.call("scontrol", "update", "JobId=100", "ArrayTaskThrottle=2") == said
    assert one.call("squeue", "-h", "-o", "%i").splitlines()[0] == "100_[2-3%2]"
    assert one.call("scontrol", "hold", "100") == said
    one.tick()
    assert set(one.reasons().values()) <= {"JobHeldAdmin", "JobHeldUser"}
    assert one.call("scontrol", "release", "100") == said
    one.tick()
    assert one.reasons()["100_1"] == "None"


def test_requeue_hold_needs_a_release(cluster):
    one = cluster()
    one.submit("--array=0-0")
    one.call("scontrol", "requeuehold", "100_0")
    one.end("100_0", by=signal.SIGTERM)
    one.tick(60.0)
    assert one.reasons() == {"100_0": "job requeued in held state"}
    one.call("scontrol", "release", "100_0")
    one.tick()
    assert one.states() == {"100_0": "RUNNING"}


def test_time_limits_end_and_warn_before(cluster):
    one = cluster()
    one.submit("--array=0-0", "--time=2", "--signal=B:USR2@30")
    one.tick(89.0)
    assert one.sent == []
    one.tick(2.0)
    assert [number for _, number in one.sent] == [signal.SIGUSR2]
    one.tick(30.0)
    assert one.sent[-1][1] == signal.SIGTERM
    one.end("100_0", by=KILLED)
    assert one.accounting() == ["100_0|TIMEOUT|0:0"]


def test_steps_hear_the_warning_not_the_batch_shell(cluster):
    one = cluster()
    one.submit("--array=0-0", "--time=2", "--signal=USR2@30")
    one.tick(100.0)
    assert one.sent == []


@pytest.mark.parametrize(
    ("kind", "codes", "state"),
    [
        ("afterok", (0, 0), "RUNNING"),
        ("afterok", (0, 1), "PENDING DependencyNeverSatisfied"),
        ("afternotok", (1, 1), "RUNNING"),
        ("afternotok", (1, 0), "PENDING DependencyNeverSatisfied"),
        ("afterany", (0, 1), "RUNNING"),
        ("after", (None, None), "RUNNING"),
        ("afterok", (0, None), "PENDING Dependency"),
        ("afterany", (1, None), "PENDING Dependency"),
    ],
)
def test_dependencies(cluster, kind, codes, state):
    one = cluster()
    one.submit("--array=0-1")
    later = one.submit(f"--dependency={kind}:100")
    for index, code in enumerate(codes):
        if code is not None:
            one.end(f"100_{index}", code)
    word, _, reason = state.partition(" ")
    assert one.states()[later] == word
    if reason:
        assert one.reasons()[later] == reason


def test_aftercorr_goes_task_by_task(cluster):
    one = cluster()
    one.submit("--array=0-2")
    later = one.submit("--array=0-2", "--dependency=aftercorr:100", "--kill-on-invalid-dep=yes")
    one.end("100_1")
    one.end("100_2", code=1)
    states = one.states()
    assert states[f"{later}_0"] == "PENDING"
    assert states[f"{later}_1"] == "RUNNING"
    assert states[f"{later}_2"] == "CANCELLED"


def test_singletons_follow_each_other(cluster):
    one = cluster()
    one.submit("-J", "same")
    second = one.submit("-J", "same", "--dependency=singleton")
    assert one.states()[second] == "PENDING"
    one.end("100")
    assert one.states()[second] == "RUNNING"


def test_accounting_lags(cluster):
    one = cluster(FaultScript(accounting_lag_s=5.0))
    one.submit("--array=0-0")
    assert one.accounting() == []
    one.tick(6.0)
    assert one.accounting() == ["100_0|RUNNING|0:0"]
    one.end("100_0")
    assert one.accounting() == ["100_0|RUNNING|0:0"]
    one.tick(6.0)
    assert one.accounting() == ["100_0|COMPLETED|0:0"]


def test_accounting_remembers_who_had_the_ids_before(cluster):
    one = cluster(FaultScript(history=(OldJob("100_0", "old", "FAILED", "9:0", end=1.6e9),)))
    one.submit("--array=0-0", "-J", "new")
    columns = "JobID,JobName,State"
    both = one.accounting("--jobs=100", columns=columns)
    assert both == ["100_0|old|FAILED", "100_0|new|RUNNING"]
    assert one.accounting("--name=new", columns=columns) == both[1:]
    since = one.call("sacct", "-X", "-P", "-n", "-S", "2026-01-01", "-o", columns, "--jobs=100")
    assert since == both[1]


def test_unknown_columns_and_times_are_refused(cluster):
    one = cluster()
    one.submit("--array=0-0")
    assert 'Invalid field requested: "Restarts"' in one.call("sacct", "-o", "JobID,Restarts")
    assert "Invalid time" in one.call("sacct", "-S", "yesterday-ish")
    assert "unrecognized option" in one.call("squeue", "--nosuch")
    assert "Invalid job id" in one.call("squeue", "--jobs=999")
    assert "invalid keyword" in one.call("scontrol", "explode")


def test_queries_find_by_name_by_job_and_by_state(cluster):
    one = cluster(slots=2)
    one.submit("--array=0-1", "-J", "a")
    one.submit("--array=0-1", "-J", "b")
    ask = ("squeue", "-h", "-r", "-o", "%i")
    assert one.call(*ask, "--name=b").split() == ["102_0", "102_1"]
    assert one.call(*ask, "-j", "100_1").split() == ["100_1"]
    assert one.call(*ask, "-t", "RUNNING").split() == ["100_0", "100_1"]


def test_queues_look_as_they_do(cluster):
    one = cluster()
    one.submit("--array=0-0", "-J", "a-long-name-of-a-job")
    header, line = one.call("squeue").splitlines()
    assert header.split() == [
        "JOBID",
        "PARTITION",
        "NAME",
        "USER",
        "ST",
        "TIME",
        "NODES",
        "NODELIST(REASON)",
    ]
    assert re.fullmatch(r"100_0\s+main\s+a-long-n\s+\S+\s+R\s+0:00\s+1\s+n1", line.strip())
    assert one.call("sinfo", "-h", "-o", "%P|%a|%D").splitlines() == ["main*|up|4", "urgent|up|4"]
    assert "MaxArraySize            = 1001" in one.call("scontrol", "show", "config")
    assert one.call("squeue", "--version").startswith("slurm")


@pytest.mark.parametrize(
    ("does", "more", "state"),
    [
        (Event.OOM, {}, "OUT_OF_MEMORY|0:125"),
        (Event.OVER_MEMORY, {}, "FAILED|0:9"),
        (Event.TIMEOUT, {}, "TIMEOUT|0:0"),
        (Event.CANCEL, {"uid": 77}, "CANCELLED by 77|0:0"),
        (Event.NODE_FAIL, {"requeue": False}, "NODE_FAIL|1:0"),
        (Event.PREEMPT, {"requeue": False, "for_s": 0.0}, "PREEMPTED|0:0"),
        (Event.REQUEUE, {}, "REQUEUED|0:0"),
    ],
)
def test_events_have_their_words(cluster, does, more, state, tmp_path):
    one = cluster(FaultScript(tasks=(TaskFault(does, at="started", **more),)))
    one.submit("--array=0-0", f"--output={tmp_path}/out")
    one.tick()
    one.end("100_0", by=KILLED)
    assert one.accounting() == [f"100_0|{state}"]


def test_over_memory_says_why_in_the_output_only(cluster, tmp_path):
    one = cluster(FaultScript(tasks=(TaskFault(Event.OVER_MEMORY, at="started"),)))
    one.submit("--array=0-0", f"--output={tmp_path}/%A_%a.txt")
    assert "exceeded memory limit" in (tmp_path / "100_0.txt").read_text(encoding="utf-8")


def test_a_preempted_task_is_warned_and_may_leave_by_itself(cluster):
    fault = TaskFault(Event.PREEMPT, at="started", for_s=10.0)
    one = cluster(FaultScript(tasks=(fault,)))
    one.submit("--array=0-1", "--signal=B:USR2@60")
    assert [number for _, number in one.sent] == [signal.SIGUSR2] * 2
    one.end("100_0", code=5)
    one.tick(11.0)
    one.end("100_1", by=signal.SIGTERM)
    assert one.accounting() == ["100_0|FAILED|5:0", "100_1|PREEMPTED|0:0"]
    assert one.reasons() == {"100_1": "BeginTime"}


def test_suspended_tasks_go_on(cluster):
    one = cluster(FaultScript(tasks=(TaskFault(Event.SUSPEND, at="started", for_s=5.0),)))
    one.submit("--array=0-0")
    assert one.states() == {"100_0": "SUSPENDED"}
    one.tick(6.0)
    assert one.states() == {"100_0": "RUNNING"}
    assert [number for _, number in one.sent] == [signal.SIGSTOP, signal.SIGCONT]


def test_a_lost_node_may_keep_its_process(cluster):
    fault = TaskFault(Event.NODE_FAIL, at="started", kills=False)
    one = cluster(FaultScript(tasks=(fault,), requeue_wait_s=1.0))
    one.submit("--array=0-0")
    [unseen] = one.scheduler.lives.pids
    one.tick(2.0)
    assert one.states() == {"100_0": "RUNNING"}
    assert len(one.scheduler.lives.pids) == 2
    one.scheduler.lives.reaped(unseen, 0)
    assert one.states() == {"100_0": "RUNNING"}, "the end of the first life says nothing"


def test_shown_states_pass(cluster):
    faults = (
        TaskFault(Event.SHOW, task=0, at="queued", text="CONFIGURING", for_s=5.0),
        TaskFault(Event.SHOW, task=1, at="ended", text="COMPLETING", for_s=5.0),
    )
    one = cluster(FaultScript(tasks=faults))
    one.submit("--array=0-1")
    one.end("100_1")
    assert one.states() == {"100_0": "CONFIGURING", "100_1": "COMPLETING"}
    one.tick(6.0)
    assert one.states() == {"100_0": "RUNNING", "100_1": "COMPLETED"}


def test_what_has_vanished_is_in_no_answer(cluster):
    fault = TaskFault(Event.VANISH, task=0, at="started", for_s=5.0, kills=False)
    one = cluster(FaultScript(tasks=(fault,)))
    one.submit("--array=0-1")
    assert list(one.states()) == ["100_1"]
    assert one.accounting() == ["100_1|RUNNING|0:0"]
    one.tick(6.0)
    assert list(one.states()) == ["100_0", "100_1"]


def test_an_event_that_comes_too_late_does_nothing(cluster):
    fault = TaskFault(Event.OOM, at="started", after_s=5.0)
    one = cluster(FaultScript(tasks=(fault,)))
    one.submit("--array=0-0")
    one.end("100_0")
    one.tick(6.0)
    assert one.accounting() == ["100_0|COMPLETED|0:0"]


def test_tasks_are_told_what_slurm_tells_them(monkeypatch, cluster):
    starts = []
    one = cluster(slots=1)
    monkeypatch.setattr(lives_module, "fork_task", lambda start: starts.append(start) or 5)
    one.submit("--array=3-4", "--time=1", "--cpus-per-task=2", "-J", "tok")
    one.call("scontrol", "requeue", "100_3")
    one.end("100_3", by=signal.SIGTERM)
    first = starts[0].environ
    assert not {"SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"} & set(first), "22.05 does not tell"
    told = {name: first[f"SLURM_{name}"] for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID")}
    assert told == {"JOB_ID": "101", "ARRAY_JOB_ID": "100", "ARRAY_TASK_ID": "3"}
    assert (first["SLURMD_NODENAME"], first["SLURM_CPUS_PER_TASK"]) == ("n1", "2")
    assert "SLURM_RESTART_COUNT" not in first
    one.end("100_4")
    one.tick(1.0)
    assert starts[-1].environ["SLURM_RESTART_COUNT"] == "1"


@pytest.mark.parametrize("command", ["sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo"])
def test_every_command_knows_its_version(cluster, command):
    assert cluster().call(command, "--version").startswith("slurm")
