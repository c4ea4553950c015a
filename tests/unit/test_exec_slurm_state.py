"""Every state of SLURM has one meaning, and a failed query is never an end."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import ExecutorError, UnreachableError
from neurosweep.exec.protocol import TaskPhase
from neurosweep.exec.slurm_state import SlurmRow, accounting_rows, queue_rows, run_slurm, view_of
from neurosweep.records.trial import Kind

OWN_UID = 1000


@pytest.mark.parametrize(
    ("state", "phase", "kind"),
    [
        ("PENDING", TaskPhase.QUEUED, None),
        ("CONFIGURING", TaskPhase.QUEUED, None),
        ("REQUEUE_HOLD", TaskPhase.QUEUED, None),
        ("SUSPENDED", TaskPhase.QUEUED, None),
        ("RESIZING", TaskPhase.RUNNING, None),
        ("COMPLETING", TaskPhase.RUNNING, None),
        ("COMPLETED", TaskPhase.ENDED, None),
        ("FAILED", TaskPhase.ENDED, None),
        ("TIMEOUT", TaskPhase.ENDED, Kind.TIME_LIMIT),
        ("OUT_OF_MEMORY", TaskPhase.ENDED, Kind.OOM_HOST),
        ("NODE_FAIL", TaskPhase.ENDED, Kind.NODE_FAILURE),
        ("PREEMPTED", TaskPhase.ENDED, Kind.PREEMPTED),
        ("CANCELLED by 1000", TaskPhase.ENDED, Kind.CANCELLED_USER),
        ("CANCELLED by 0", TaskPhase.ENDED, Kind.CANCELLED_ADMIN),
        ("CANCELLED+", TaskPhase.ENDED, Kind.CANCELLED_USER),
    ],
)
def test_states(state: str, phase: TaskPhase, kind: Kind | None) -> None:
    view = view_of(SlurmRow("7_1", "token", state, exit_code="0:9", host="n1"), OWN_UID)
    assert (view.phase, view.kind_hint) == (phase, kind)
    assert view.host == "n1"


@given(st.text(max_size=30))
def test_an_unknown_state_is_never_an_end(state: str) -> None:
    view = view_of(SlurmRow("7", "token", f"x{state}"), OWN_UID)
    assert view.phase is TaskPhase.QUEUED


def test_exit_codes_are_read_at_the_end_only() -> None:
    ended = view_of(SlurmRow("7", "t", "FAILED", exit_code="1:0"), OWN_UID)
    assert (ended.exit_code, ended.signal) == (1, 0)
    running = view_of(SlurmRow("7", "t", "RUNNING", exit_code="0:0"), OWN_UID)
    assert running.exit_code is None


@pytest.mark.parametrize(
    ("state", "code", "host", "words"),
    [
        ("FAILED", "0:9", "n3", "SLURM: FAILED, killed by signal 9 on n3"),
        ("FAILED", "2:0", "n3", "SLURM: FAILED, exit code 2 on n3"),
        ("COMPLETED", "0:0", "n1", "SLURM: COMPLETED on n1"),
        ("CANCELLED by 0", "0:0", "None assigned", "SLURM: CANCELLED by uid 0"),
        ("NODE_FAIL", "", "", "SLURM: NODE_FAIL"),
        ("RUNNING", "0:0", "n1", "RUNNING"),
    ],
)
def test_what_slurm_knew_is_said_in_words(state: str, code: str, host: str, words: str) -> None:
    view = view_of(SlurmRow("7", "t", state, exit_code=code, host=host), OWN_UID)
    assert view.reason == words


def test_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    output = (
        "12_0|tok-0|RUNNING|n1|None|1:05\n12_1|tok-0|PENDING||Resources|0:00\n"
        "12_2|other|RUNNING|n1|None|1:05\nslurm: noise\n12_3|tok-0|RUNN"
    )
    monkeypatch.setattr("neurosweep.exec.slurm_state.run_slurm", lambda _command: output)
    rows = queue_rows(["tok-0"])
    assert rows["12_1"] == SlurmRow("12_1", "tok-0", "PENDING", reason="Resources", elapsed_s=0.0)
    assert len(rows) == 2


def test_accounting_expands_ranges_and_adds_up_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    output = (
        "12_0|tok-0|COMPLETED|0:0|n2|20|2026-01-01T11:00:00\n"
        "12_0|tok-0|PREEMPTED|0:15|n1|40|2026-01-01T10:00:00\n"
        "12_[1-2,5%8]|tok-0|CANCELLED by 0|0:0|None assigned|0|2026-01-01T10:00:00\n"
        "13|somebody|COMPLETED|0:0|n1|9|2026-01-01T10:00:00\n"
    )
    monkeypatch.setattr("neurosweep.exec.slurm_state.run_slurm", lambda _command: output)
    rows = accounting_rows(["tok-0"], "2026-01-01T00:00:00")
    assert sorted(rows) == ["12_0", "12_1", "12_2", "12_5"]
    last = rows["12_0"]
    assert (last.state, last.host, last.elapsed_s, last.restarts) == ("COMPLETED", "n2", 60.0, 1)
    assert rows["12_5"].state == "CANCELLED by 0"


def test_missing_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ExecutorError, match=r"squeue is not installed here; run `neurosweep doctor`"
    ):
        queue_rows(["x"])


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv", True),
        ("sacct: error: slurm_persist_conn_open: Connection refused", True),
        ("sbatch: error: Batch job submission failed: Invalid account", False),
        ("sbatch: error: invalid partition specified: x", False),
    ],
)
def test_a_controller_that_is_away_is_told_from_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, away: bool
) -> None:
    script = tmp_path / "squeue"
    script.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit 1\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ExecutorError, match="squeue failed") as caught:
        run_slurm(["squeue"])
    assert isinstance(caught.value, UnreachableError) == away


def test_the_controller_sends_the_jobs_of_one_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr("neurosweep.exec.slurm_state.run_slurm", run)
    for uid, options in ((1001, ["-u", "1001"]), (0, [])):
        monkeypatch.setattr("os.getuid", lambda uid=uid: uid)
        queue_rows(["tok-0"])
        assert asked[-1][3:-3] == options, "root is nobody to squeue"
