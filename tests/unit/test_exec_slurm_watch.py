"""One look asks for all jobs; what fails says nothing; what is gone has been asked for often."""

import pytest

from neurosweep.core.errors import ExecutorError
from neurosweep.exec.protocol import TaskPhase
from neurosweep.exec.slurm_judge import judge
from neurosweep.exec.slurm_state import MAY_RETURN
from neurosweep.exec.slurm_watch import SlurmWatch
from neurosweep.records.trial import Kind

SINCE = 1_767_225_600.0


class Cluster:
    """Answers queries from texts that a test sets; None fails."""

    def __init__(self) -> None:
        self.now = 100.0
        self.queue: str | None = ""
        self.controller: str | None = ""
        self.accounting: str | None = ""
        self.trouble = "Unable to contact"
        self.takes_s = 0.0
        self.asked: list[list[str]] = []

    def run(self, command: list[str]) -> str:
        self.asked.append(command)
        answers = {"sacct": self.accounting}
        answers["squeue"] = self.controller if "all" in command else self.queue
        text = answers[command[0]]
        self.now += self.takes_s if command[0] == "sacct" else 0.0
        if text is None:
            raise ExecutorError(self.trouble)
        return text


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr("neurosweep.exec.slurm_state.run_slurm", cluster.run)
    return cluster


@pytest.fixture
def watch(cluster: Cluster) -> SlurmWatch:
    watch = SlurmWatch(lambda: cluster.now)
    for job in ("1_0", "1_1"):
        watch.track(job, "tok-0", SINCE)
    watch.track("2_0", "other-0", SINCE + 50.0)
    return watch


def look(cluster: Cluster, watch: SlurmWatch, wait_s: float = 10.0) -> bool:
    cluster.now += wait_s
    return watch.look(10.0)


def verdict(watch: SlurmWatch, job: str, *, requeue: bool = True) -> object:
    seen = watch.sighting(job)
    assert seen is not None
    view = judge(seen, job, requeue=requeue)
    return view and (view.phase, view.kind_hint)


def accounted(job: str, state: str, name: str = "tok-0") -> str:
    return f"{job}|{name}|{state}|0:0|n1|30|2026-01-01T10:00:00\n"


def queued(job: str, state: str, name: str = "tok-0") -> str:
    return f"{job}|{name}|{state}|n1|None|0:10\n"


def test_one_squeue_and_one_sacct_ask_for_all_jobs(cluster: Cluster, watch: SlurmWatch) -> None:
    cluster.queue = queued("1_0", "RUNNING")
    assert look(cluster, watch)
    assert [command[0] for command in cluster.asked] == ["squeue", "sacct"]
    assert "--name=other-0,tok-0" in cluster.asked[0]
    assert "--jobs=1,2" in cluster.asked[1]
    since = cluster.asked[1][cluster.asked[1].index("-S") + 1]
    assert since.startswith(("2025-12-31T", "2026-01-01T")), "ids are used again"
    assert watch.queries == 2


def test_looks_keep_their_pace(cluster: Cluster, watch: SlurmWatch) -> None:
    assert not look(cluster, watch, 0.5)
    assert look(cluster, watch, 0.6), "the first look comes soon"
    assert not look(cluster, watch, 9.0)
    assert look(cluster, watch, 1.1)
    assert watch.looks == 2
    assert watch.per_minute == pytest.approx(60.0 * watch.queries / 60.0)
    for job in ("1_0", "1_1", "2_0"):
        watch.forget(job)
    assert not look(cluster, watch), "nobody to ask for"


def test_all_in_the_queue_need_no_accounting(cluster: Cluster, watch: SlurmWatch) -> None:
    rows = [queued("1_0", "RUNNING"), queued("1_1", "PENDING"), queued("2_0", "RUNNING", "other-0")]
    cluster.queue = "".join(rows)
    look(cluster, watch)
    assert [command[0] for command in cluster.asked] == ["squeue"]
    assert verdict(watch, "1_0") == (TaskPhase.RUNNING, None)
    assert verdict(watch, "1_1") == (TaskPhase.QUEUED, None)


def test_a_reused_id_with_another_name_is_somebody_else(
    cluster: Cluster, watch: SlurmWatch
) -> None:
    cluster.queue = queued("1_0", "RUNNING", "foreign")
    cluster.accounting = accounted("1_0", "FAILED", "foreign")
    look(cluster, watch)
    seen = watch.sighting("1_0")
    assert seen is not None
    assert seen.row is None
    assert verdict(watch, "1_0") is None


def test_a_failed_query_changes_nothing(cluster: Cluster, watch: SlurmWatch) -> None:
    cluster.queue = queued("1_0", "RUNNING")
    look(cluster, watch)
    before = watch.sighting("1_0")
    cluster.queue = None
    for _ in range(20):
        assert not look(cluster, watch)
    assert watch.sighting("1_0") == before
    assert "Unable" in watch.trouble
    cluster.queue = ""
    assert look(cluster, watch)
    assert watch.trouble == ""


def test_while_accounting_is_down_nothing_is_gone(cluster: Cluster, watch: SlurmWatch) -> None:
    cluster.accounting = None
    for state in ("RUNNING", "FAILED", "CANCELLED"):
        cluster.controller = queued("1_0", state)
        for _ in range(10):
            assert look(cluster, watch)
        assert verdict(watch, "1_0") is None, "why it ended, only accounting knows"
    cluster.controller = queued("1_0", "TIMEOUT")
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.ENDED, Kind.TIME_LIMIT)
    cluster.accounting = ""
    for _ in range(31):
        look(cluster, watch)
    assert verdict(watch, "1_1") is None
    look(cluster, watch)
    assert verdict(watch, "1_1") == (TaskPhase.GONE, Kind.LOST)


def test_without_accounting_the_controller_has_the_last_word(
    cluster: Cluster, watch: SlurmWatch
) -> None:
    cluster.accounting, cluster.trouble = None, "Slurm accounting storage is disabled"
    cluster.controller = queued("1_1", "CANCELLED")
    for _ in range(32):
        look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.GONE, Kind.LOST)
    assert verdict(watch, "1_1") == (TaskPhase.ENDED, Kind.CANCELLED_USER)


def test_stale_accounting_of_a_job_that_left_the_queue(cluster: Cluster, watch: SlurmWatch) -> None:
    cluster.accounting = accounted("1_0", "RUNNING")
    look(cluster, watch)
    for _ in range(30):
        assert verdict(watch, "1_0") is None
        look(cluster, watch)
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.GONE, Kind.LOST)


@pytest.mark.parametrize("told", ["", "RUNNING"])
def test_what_lagging_accounting_does_not_tell_the_controller_does(
    cluster: Cluster, watch: SlurmWatch, told: str
) -> None:
    cluster.accounting = accounted("1_0", told) + accounted("1_1", told) if told else ""
    cluster.controller = queued("1_0", "OUT_OF_MEMORY") + queued("1_1", "FAILED")
    for _ in range(4):
        look(cluster, watch)
        assert verdict(watch, "1_0") is None
        assert not any("all" in command for command in cluster.asked), "a short lag is usual"
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.ENDED, Kind.OOM_HOST)
    cluster.controller = ""  # it remembers for a few minutes only
    for _ in range(26):
        look(cluster, watch)
        assert verdict(watch, "1_1") is None, "accounting would say with what code"
    look(cluster, watch)
    assert verdict(watch, "1_1") == (TaskPhase.ENDED, None), "no other end than that"


def test_nothing_is_gone_while_the_controller_cannot_be_asked(
    cluster: Cluster, watch: SlurmWatch
) -> None:
    cluster.controller = None
    for _ in range(50):
        look(cluster, watch)
        assert verdict(watch, "1_0") is None
    assert watch.trouble


@pytest.mark.parametrize("state", sorted(MAY_RETURN))
def test_the_end_of_a_life_is_not_the_end_of_a_queued_job(
    cluster: Cluster, watch: SlurmWatch, state: str
) -> None:
    cluster.queue = queued("1_0", state)
    cluster.accounting = accounted("1_0", state)
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.QUEUED, None)
    cluster.queue = queued("1_0", "PENDING")
    look(cluster, watch)
    cluster.queue = ""
    cluster.accounting = accounted("1_0", "COMPLETED")
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.ENDED, None)


def test_a_preempted_job_may_come_back_between_two_looks(
    cluster: Cluster, watch: SlurmWatch
) -> None:
    cluster.accounting = accounted("1_0", "PREEMPTED")
    look(cluster, watch)
    assert verdict(watch, "1_0") is None
    assert verdict(watch, "1_0", requeue=False) == (TaskPhase.ENDED, Kind.PREEMPTED)
    cluster.queue = queued("1_0", "PENDING")
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.QUEUED, None)
    cluster.queue = ""
    look(cluster, watch)
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.ENDED, Kind.PREEMPTED)


def test_an_ended_state_in_the_queue_is_waited_out(cluster: Cluster, watch: SlurmWatch) -> None:
    cluster.queue = queued("1_0", "TIMEOUT")
    look(cluster, watch)
    assert verdict(watch, "1_0") == (TaskPhase.RUNNING, None)


def test_a_database_that_hangs_is_left_alone_for_a_while(
    cluster: Cluster, watch: SlurmWatch
) -> None:
    cluster.accounting, cluster.takes_s = None, 30.0
    cluster.controller = queued("1_0", "COMPLETED")
    for _ in range(4):
        look(cluster, watch)
    assert sum(command[0] == "sacct" for command in cluster.asked) == 1
    assert verdict(watch, "1_0") == (TaskPhase.ENDED, None)
    assert verdict(watch, "1_1") is None
    for _ in range(4):
        look(cluster, watch)
    assert sum(command[0] == "sacct" for command in cluster.asked) == 2
