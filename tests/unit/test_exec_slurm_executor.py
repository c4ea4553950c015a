"""The executor's decisions, with SLURM's answers written by hand."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import ConfigError, ExecutorError, UnreachableError
from neurosweep.exec.claim import take_claim
from neurosweep.exec.executors.slurm import SlurmExecutor
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, TaskPhase, TaskSpec, TaskView
from neurosweep.exec.slurm_watch import POOL_KEY, SlurmWatch
from neurosweep.records.trial import Kind

MODULES = ("executors.slurm", "slurm_state", "slurm_submit", "slurm_throttle")


class Cluster:
    """Answers commands, and remembers them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.queue: dict[str, str] = {}
        self.accounting: dict[str, str] = {}
        self.broken: set[str] = set()
        self.said: list[str] = []
        self.arrays = 70
        self.reason = "None"
        self.names: dict[str, str] = {}
        self.refused = ""

    def __call__(self, command: list[str], _timeout_s: float = 0.0) -> str:
        self.said.append(" ".join(command))
        if command[0] in self.broken:
            msg = f"{command[0]} failed (1): Unable to contact slurm controller"
            raise UnreachableError(msg)
        if self.refused.startswith(f"{command[0]} "):
            raise ExecutorError(self.refused)
        if command[0] == "sbatch":
            self.arrays += 1
            return f"Submitted batch job {self.arrays}\n"
        if command[0] == "squeue":
            return "".join(
                f"{i}|{self.names.get(i, 'tok-0')}|{s}|n1|{self.reason}|0:20\n"
                for i, s in self.queue.items()
            )
        if command[0] == "sacct":
            lines = [f"{i}|tok-0|{s}|n1|33|2026" for i, s in self.accounting.items()]
            return "\n".join(lines)
        return ""

    def commands(self, name: str) -> list[str]:
        return [said for said in self.said if said.startswith(name)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    for module in MODULES:
        monkeypatch.setattr(f"neurosweep.exec.{module}.run_slurm", cluster)
    return cluster


@pytest.fixture
def tasks(tmp_path: Path) -> list[TaskSpec]:
    folders = [tmp_path / f"trials/r01t00{k}/attempts/1" for k in range(3)]
    for folder in folders:
        folder.mkdir(parents=True)
    return [TaskSpec(f"r01t00{k}", 1, f, 1, None, 600.0) for k, f in enumerate(folders)]


@pytest.fixture
def make(cluster: Cluster, tmp_path: Path) -> Callable[..., SlurmExecutor]:
    def make(**changes: object) -> SlurmExecutor:
        pool: dict[str, object] = {POOL_KEY: SlurmWatch(lambda: cluster.now)}
        profile = Profile(poll_s=10.0, **changes)
        return SlurmExecutor(profile, ExecSettings(tmp_path, workers=2, pool=pool))

    return make


def poll(cluster: Cluster, running: SlurmExecutor, wait_s: float = 10.0) -> dict[str, TaskView]:
    cluster.now += wait_s
    return {trial: view for (trial, _), view in running.poll().items()}


def test_tasks_are_followed_from_queue_to_end(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make(cores=4, gpus=1, slots_file="/shared/slots.json")
    assert (running.allocation.cores, running.allocation.gpus, running.slots) == (4, 1, 2)
    assert running.slots_file == Path("/shared/slots.json")
    ids = running.submit("tok", tasks)
    assert list(ids.values()) == ["71_0", "71_1", "71_2"]
    cluster.queue = {"71_0": "RUNNING", "71_1": "CONFIGURING", "71_2": "PENDING"}
    phases = [view.phase for view in poll(cluster, running).values()]
    assert phases == [TaskPhase.RUNNING, TaskPhase.QUEUED, TaskPhase.QUEUED]
    cluster.queue = {"71_1": "RUNNING", "71_2": "RUNNING"}
    cluster.accounting = {"71_0": "FAILED|2:0"}
    view = poll(cluster, running)["r01t000"]
    assert (view.phase, view.exit_code, view.held_s) == (TaskPhase.ENDED, 2, 33.0)
    assert set(poll(cluster, running)) == {"r01t001", "r01t002"}, "an end is reported once"
    assert running.trouble == ""


def test_a_status_is_an_end_before_slurm_says_so(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    running.submit("tok", tasks[:2])
    cluster.queue = {"71_0": "RUNNING", "71_1": "RUNNING"}
    poll(cluster, running)
    looks = running.watch.looks
    assert take_claim(tasks[0].files, "71_0", 0)
    assert take_claim(tasks[1].files, "99_1", 0)
    for task in tasks[:2]:
        task.files.status.write_text("{}", encoding="utf-8")
    views = poll(cluster, running, 2.0)
    assert running.watch.looks == looks, "nobody was asked"
    assert views["r01t000"].phase is TaskPhase.ENDED
    assert views["r01t000"].held_s == pytest.approx(22.0, abs=0.5)
    assert views["r01t001"].phase is TaskPhase.RUNNING, "another job's status"


def test_a_restarted_task_that_finished_waits_for_accounting(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    running.submit("tok", tasks[:1])
    cluster.queue = {"71_0": "COMPLETING"}
    assert take_claim(tasks[0].files, "71_0", 1)
    tasks[0].files.status.write_text("{}", encoding="utf-8")
    assert poll(cluster, running)["r01t000"].phase is TaskPhase.RUNNING
    cluster.queue = {}
    cluster.broken = {"sacct"}
    view = poll(cluster, running)["r01t000"]
    assert (view.phase, view.held_s, view.restarts) == (TaskPhase.ENDED, None, 1)


def test_a_task_that_was_done_when_its_node_was_lost_is_not_run_again(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    running.submit("tok", tasks[:1])
    cluster.queue = {"71_0": "RUNNING"}
    poll(cluster, running)
    assert take_claim(tasks[0].files, "71_0", 0)
    tasks[0].files.status.write_text("{}", encoding="utf-8")
    cluster.queue = {"71_0": "PENDING"}
    assert poll(cluster, running)["r01t000"].phase is TaskPhase.ENDED
    poll(cluster, running)
    assert cluster.commands("scancel") == ["scancel 71_0"]


def test_cancels_go_out_together_and_until_they_are_heard(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    running.submit("tok", tasks)
    cluster.queue = {"71_0": "RUNNING", "71_1": "RUNNING", "71_2": "PENDING"}
    cluster.broken = {"scancel"}
    running.cancel("r01t000", 1, Kind.HANG)
    running.cancel("r01t002", 1, Kind.STOPPED)
    running.cancel("r09t000", 1, Kind.STOPPED)
    poll(cluster, running)
    poll(cluster, running, 1.0)
    assert cluster.commands("scancel") == ["scancel 71_0 71_2"], "not again at once"
    cluster.broken = set()
    poll(cluster, running)
    assert len(cluster.commands("scancel")) == 2
    cluster.queue = {"71_1": "RUNNING"}
    cluster.accounting = {"71_0": "CANCELLED by 0|0:15"}
    views = poll(cluster, running)
    assert views["r01t000"].kind_hint is Kind.HANG
    assert views["r01t002"].kind_hint is Kind.STOPPED, "accounting need not know a task that waited"
    assert views["r01t001"].phase is TaskPhase.RUNNING
    running.cancel("r01t001", 1, Kind.CANCELLED_USER)
    running.close()
    assert cluster.commands("scancel")[2:] == ["scancel 71_1"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [("REQUEUE_HOLD", "None"), ("PENDING", "launch failed requeued held")],
)
def test_what_waits_for_a_release_is_given_up(
    cluster: Cluster,
    make: Callable[..., SlurmExecutor],
    tasks: list[TaskSpec],
    state: str,
    reason: str,
) -> None:
    running = make()
    running.submit("tok", tasks[:1])
    cluster.queue, cluster.reason = {"71_0": state}, reason
    for _ in range(30):
        assert poll(cluster, running)["r01t000"].phase is TaskPhase.QUEUED
    assert cluster.commands("scancel") == []
    for _ in range(3):
        poll(cluster, running)
    assert cluster.commands("scancel") == ["scancel 71_0"]
    cluster.queue = {}
    cluster.accounting = {"71_0": "CANCELLED by 0|0:0"}
    assert poll(cluster, running)["r01t000"].kind_hint is Kind.NODE_FAILURE


def test_an_adopted_round_gets_its_slots(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    make().submit("tok", tasks)
    later = make()
    cluster.queue = {"71_0": "RUNNING", "71_1": "PENDING", "71_2": "PENDING"}
    assert later.adopt("tok", tasks[1:]) == {"r01t001": "71_1", "r01t002": "71_2"}
    assert later.adopt("tok", tasks)["r01t000"] == "71_0"
    assert later.adopt("tok2", tasks) == {}
    poll(cluster, later)
    assert cluster.commands("scontrol") == ["scontrol update JobId=71 ArrayTaskThrottle=2"]
    later.adjust(slots=0, poll_s=50.0)
    poll(cluster, later, 1.0)
    assert cluster.commands("scontrol")[1:] == ["scontrol hold 71"]
    asked = later.watch.looks
    poll(cluster, later, 40.0)
    assert later.watch.looks == asked, "the pause between two looks was changed"


def test_slots_are_dealt_when_it_is_known_what_an_earlier_driver_runs(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    first = make(max_array=2)
    first.submit("tok", tasks)
    assert "--hold" in (first._root / "tok-1/submission.sh").read_text(encoding="utf-8")
    cluster.names = {"72_0": "tok-1"}
    cluster.queue = {"71_0": "RUNNING", "71_1": "RUNNING", "72_0": "PENDING"}
    cluster.reason = "JobHeldUser"
    later = make(max_array=2)
    later.adopt("tok", tasks)
    later.poll()
    assert later.submit("tok2", [replace(tasks[0], attempt=2)])
    assert "--hold" in (later._root / "tok2-0/submission.sh").read_text(encoding="utf-8")
    assert cluster.commands("scontrol") == [], "nobody was asked yet: both may run everything"
    poll(cluster, later)
    assert not any("release" in said for said in cluster.commands("scontrol"))
    cluster.queue = {"71_0": "RUNNING", "72_0": "PENDING"}
    cluster.accounting = {"71_1": "COMPLETED|0:0"}
    for _ in range(3):
        poll(cluster, later)
    assert sum("release" in said for said in cluster.commands("scontrol")) == 1


def test_a_refused_array_is_tried_again_under_its_name(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    cluster.refused = "sbatch failed (1): Job violates accounting/QOS policy (job submit limit)"
    for _ in range(25):
        with pytest.raises(ExecutorError, match="submit limit"):
            running.submit("tok", tasks)
        assert running.adopt("tok", tasks) == {}, "it is known not to be there"
    assert [path.name for path in running._root.iterdir()] == ["tok-0"]
    assert max(len(word) for said in cluster.said for word in said.split()) < 100
    cluster.refused = ""
    assert running.submit("tok", tasks)["r01t000"] == "71_0"
    assert running.submit("tok", tasks)["r01t000"] == "72_0"
    assert len(list(running._root.iterdir())) == 2, "what SLURM took keeps its name"


def test_without_accounting_the_controller_alone_is_believed(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    cluster.refused = "sacct failed (1): Slurm accounting storage is disabled"
    running.submit("tok", tasks)
    with pytest.raises(UnreachableError, match="may still come in"):
        running.adopt("tok", tasks)
    age(running._root / "tok-0/submission.sh")
    assert running.adopt("tok", tasks) == {}
    cluster.refused = "sacct failed (1): something else"
    with pytest.raises(ExecutorError, match="something else"):
        running.adopt("tok", tasks)


def test_a_submission_without_an_answer_is_given_time(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    cluster.broken = {"sbatch"}
    with pytest.raises(UnreachableError):
        running.submit("tok", tasks)
    cluster.broken = set()
    with pytest.raises(UnreachableError, match="may still come in"):
        running.adopt("tok", tasks)
    with pytest.raises(UnreachableError, match="may still come in"):
        make().adopt("tok", tasks)
    age(running._root / "tok-0/submission.sh")
    assert running.adopt("tok", tasks) == {}
    running.submit("tok", tasks)
    cluster.queue = {"71_0": "PENDING", "71_1": "PENDING", "71_2": "PENDING"}
    assert len(running.adopt("tok", tasks)) == 3
    assert [path.name for path in running._root.iterdir()] == ["tok-0"]


def age(path: Path) -> None:
    """Let a file be an hour old."""
    then = path.stat().st_mtime - 3600.0
    os.utime(path, (then, then))


def test_a_silent_controller_ends_nothing(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    running = make()
    running.submit("tok", tasks)
    cluster.queue = dict.fromkeys(("71_0", "71_1"), "RUNNING") | {"71_2": "PENDING"}
    before = poll(cluster, running)
    cluster.broken = {"squeue", "sacct", "scontrol"}
    for _ in range(50):
        assert poll(cluster, running) == before
    assert "Unable to contact" in running.trouble
    with pytest.raises(UnreachableError):
        running.adopt("tok", tasks)
    cluster.broken = {"sbatch"}
    with pytest.raises(UnreachableError):
        running.submit("tok3", tasks)


def test_tasks_that_cannot_run_are_refused_before_sbatch(
    cluster: Cluster, make: Callable[..., SlurmExecutor], tasks: list[TaskSpec]
) -> None:
    with pytest.raises(ConfigError, match="raise minutes"):
        make(minutes=5, requeue=False).submit("tok", tasks)
    tasks[0].attempt_dir.rmdir()
    with pytest.raises(ExecutorError, match="no folder"):
        make().submit("tok", tasks)
    assert cluster.said == []


def test_an_array_that_cannot_start_is_told_once(
    cluster: Cluster,
    make: Callable[..., SlurmExecutor],
    tasks: list[TaskSpec],
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = make()
    running.submit("tok", tasks)
    cluster.queue = dict.fromkeys(("71_0", "71_1", "71_2"), "PENDING")
    cluster.reason = "PartitionTimeLimit"
    for _ in range(3):
        poll(cluster, running)
    said = "array 71 will not start (PartitionTimeLimit)"
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [said]
    assert running.trouble.startswith(said), "whoever looks, or is notified, hears of it"
    cluster.queue["71_0"] = "RUNNING"
    poll(cluster, running)
    assert running.trouble == ""
    cluster.queue["71_0"], cluster.reason = "PENDING", "PartitionDown"
    poll(cluster, running)
    assert running.trouble == "array 71 waits for an administrator of the cluster (PartitionDown)"
    cluster.reason = "Priority"
    poll(cluster, running)
    assert running.trouble == ""
