"""Exit codes, logs and claims complete what SLURM says of an end."""

from pathlib import Path

import pytest

from neurosweep.core.layout import AttemptDir
from neurosweep.exec.claim import take_claim
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.exec.slurm_judge import claim_of, explained, has_finished
from neurosweep.records.trial import Kind

OOM = "slurmstepd-n1: error: StepId=7.batch exceeded memory limit (612 > 512), being killed\n"


@pytest.fixture
def files(tmp_path: Path) -> AttemptDir:
    return AttemptDir(tmp_path)


def ended(exit_code: int | None = None, signal: int | None = None, **more: object) -> TaskView:
    return TaskView(TaskPhase.ENDED, "7_1", "FAILED", exit_code, signal, **more)  # type: ignore[arg-type]


def kind(view: TaskView, files: AttemptDir, log: str = "") -> Kind | None:
    path = files.root / "slurm.out"
    path.write_text(log, encoding="utf-8")
    return explained(view, files, path).kind_hint


def test_a_kill_for_memory_is_read_from_the_log(files: AttemptDir) -> None:
    assert kind(ended(signal=9), files, "x" * 20_000 + "\n" + OOM) is Kind.OOM_HOST
    assert kind(ended(signal=9), files) is None
    assert kind(ended(exit_code=1), files, OOM) is None
    for cancelled in (Kind.CANCELLED_ADMIN, Kind.CANCELLED_USER):
        assert kind(ended(kind_hint=cancelled), files, OOM) is Kind.OOM_HOST
        assert kind(ended(kind_hint=cancelled), files) is cancelled
    assert kind(ended(signal=9), files, "print: slurmstepd: exceeded memory limit\n") is None


def test_a_task_that_saved_and_left_was_preempted(files: AttemptDir) -> None:
    assert kind(ended(exit_code=5), files) is Kind.PREEMPTED
    cancelled = ended(exit_code=5, kind_hint=Kind.CANCELLED_ADMIN)
    assert kind(cancelled, files) is Kind.CANCELLED_ADMIN
    files.status.write_text("{}", encoding="utf-8")
    assert kind(ended(exit_code=5), files) is None


def test_what_slurm_is_sure_of_stays(files: AttemptDir) -> None:
    assert kind(ended(kind_hint=Kind.TIME_LIMIT, signal=9), files, OOM) is Kind.TIME_LIMIT


def test_no_log_is_no_reason(files: AttemptDir) -> None:
    view = ended(signal=9)
    assert explained(view, files, files.root / "absent") == view


def test_only_the_own_claim_counts(files: AttemptDir) -> None:
    assert claim_of(files, "7_1") is None
    assert take_claim(files, "7_1", 2)
    assert has_finished(files, "7_1") is None
    files.status.write_text("{}", encoding="utf-8")
    claim = has_finished(files, "7_1")
    assert claim is not None
    assert has_finished(files, "8_1") is None
    view = explained(ended(exit_code=1), files, files.root / "absent")
    assert (view.restarts, view.host) == (2, claim.mark.host)
    files.claim.write_text("damaged", encoding="utf-8")
    assert claim_of(files, "7_1") is None


def test_a_job_that_was_told_to_stop_is_over_when_slurm_says_why(files: AttemptDir) -> None:
    assert take_claim(files, "7_1", 0)
    files.status.write_text('{"outcome": "failed", "kind": "stopped"}', encoding="utf-8")
    assert has_finished(files, "7_1") is None
    files.status.write_text('{"outcome": "failed", "kind": "user_error"}', encoding="utf-8")
    assert has_finished(files, "7_1") is not None
