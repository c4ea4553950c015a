"""Claims: one winner, no confusion of processes, take-over only where it is safe."""

import json
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosweep.core.errors import DataError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.claim import Claim, ProcessMark, job_identity, read_claim, take_claim
from neurosweep.research.endings import read_claimed


def me() -> ProcessMark:
    return ProcessMark.of(os.getpid())


def write_claim(files: AttemptDir, claim: Claim) -> None:
    files.claim.write_text(claim.to_json(), encoding="utf-8")


@settings(max_examples=15, deadline=None)
@given(racers=st.integers(2, 12), same_job=st.booleans())
def test_of_racing_starters_exactly_one_wins(
    tmp_path_factory: pytest.TempPathFactory, racers: int, same_job: bool
) -> None:
    files = AttemptDir(tmp_path_factory.mktemp("race"))
    barrier, won = threading.Barrier(racers), []

    def race(number: int) -> None:
        barrier.wait()
        if take_claim(files, "job" if same_job else f"job{number}", 0):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    claim = read_claim(files.claim)
    assert claim is not None
    assert claim.job == ("job" if same_job else f"job{won[0]}")
    assert list(files.root.iterdir()) == [files.claim]


def test_a_claim_tells_its_process(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    assert read_claim(files.claim) is None
    assert take_claim(files, "123_4", 2)
    claim = read_claim(files.claim)
    assert claim is not None
    assert (claim.mark, claim.job, claim.restart) == (me(), "123_4", 2)
    assert claim.mark.is_alive()
    assert claim.mark.local


@pytest.mark.parametrize(
    "change",
    [
        {"start_ticks": 1},
        {"pid": 2**22 + 5},
        {"boot": "another boot"},
        {"host": "another-host"},
    ],
)
def test_a_process_with_a_reused_pid_is_not_taken_for_the_old_one(
    change: dict[str, object],
) -> None:
    assert me().is_alive()
    assert not replace(me(), **change).is_alive()  # type: ignore[arg-type]


def test_a_zombie_counts_as_dead() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not ProcessMark.of(pid).is_alive()
    finally:
        os.waitpid(pid, 0)


DEAD = replace(me(), start_ticks=1)


@pytest.mark.parametrize(
    ("held", "job", "restart", "expected"),
    [
        (Claim(DEAD, "7", 0, 0.0), "7", 0, True),
        (Claim(DEAD, "7", 0, 0.0), "7", 1, True),
        (Claim(DEAD, "7", 1, 0.0), "7", 0, False),
        (Claim(DEAD, "7", 0, 0.0), "8", 0, False),
        (Claim(me(), "7", 0, 0.0), "7", 0, False),
        (Claim(me(), "7", 0, 0.0), "7", 1, False),
        (Claim(replace(me(), host="far"), "7", 0, 0.0), "7", 0, False),
        (Claim(replace(me(), host="far"), "7", 0, 0.0), "7", 1, True),
    ],
)
def test_only_a_later_process_of_the_same_job_takes_over(
    tmp_path: Path, held: Claim, job: str, restart: int, expected: bool
) -> None:
    files = AttemptDir(tmp_path)
    write_claim(files, held)
    assert take_claim(files, job, restart) is expected
    now = read_claim(files.claim)
    assert now is not None
    assert (now.mark == me() and now.job == job) or not expected


def test_a_claim_is_taken_over_once(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    held = Claim(DEAD, "7", 0, 0.0)
    write_claim(files, held)
    assert take_claim(files, "7", 1)
    write_claim(files, held)  # as a second process saw it, just before
    assert not take_claim(files, "7", 1)


def test_a_finished_attempt_is_not_run_again(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    write_claim(files, Claim(DEAD, "7", 0, 0.0))
    files.status.write_text("{}", encoding="utf-8")
    assert not take_claim(files, "7", 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"pid": 1, "start_ticks": 1, "boot": "b", "host": "h", "job": "j", "restart": 0}',
        b'{"pid": true, "start_ticks": 1, "boot": "b", "host": "h", "job": "j", "restart": 0,'
        b' "t": "2026-01-01T00:00:00.000Z"}',
        b'{"pid": 9, "start_ticks": 1, "boot": "b", "host": "h", "job": "j", "restart": 0, "t": 5}',
    ],
)
def test_a_damaged_claim_is_an_error_and_stays_claimed(tmp_path: Path, content: bytes) -> None:
    files = AttemptDir(tmp_path)
    files.claim.write_bytes(content)
    with pytest.raises(DataError, match=r"claim\.json"):
        read_claim(files.claim)
    assert not take_claim(files, "7", 0)


def test_a_claim_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    target.write_text(json.dumps({"pid": 5}), encoding="utf-8")
    files = AttemptDir(tmp_path)
    files.claim.symlink_to(target)
    with pytest.raises(DataError):
        read_claim(files.claim)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"NEUROSWEEP_JOB": "local-1", "SLURM_JOB_ID": "9"}, ("local-1", 0)),
        ({"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "2"}, ("9", 2)),
        (
            {"SLURM_JOB_ID": "11", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "0"},
            ("9_0", 0),
        ),
        ({}, (f"pid-{os.getpid()}", 0)),
    ],
)
def test_the_job_follows_from_the_environment(
    environ: dict[str, str], expected: tuple[str, int]
) -> None:
    assert job_identity(environ) == expected


def test_a_claim_names_the_node_as_its_scheduler_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = AttemptDir(tmp_path)
    monkeypatch.setenv("SLURMD_NODENAME", "n3")
    assert take_claim(files, "7_1", 0)
    claim = read_claim(files.claim)
    assert claim is not None
    assert (claim.machine, claim.mark.local) == ("n3", True)
    seen = read_claimed(files, time.time(), 60.0)
    assert (seen.machine, seen.host) == ("n3", socket.gethostname())
    monkeypatch.delenv("SLURMD_NODENAME")
    other = AttemptDir(tmp_path / "other")
    other.root.mkdir()
    assert take_claim(other, "7_1", 0)
    assert read_claimed(other, time.time(), 60.0).machine == socket.gethostname()
