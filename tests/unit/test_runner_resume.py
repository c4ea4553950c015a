"""Attempts that are interrupted, as processes: they save, leave, come back, and end the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.exec.claim import Fence, ProcessMark, read_claim
from neurosweep.exec.heartbeat import held_seconds
from neurosweep.exec.protocol import TaskSpec
from neurosweep.exec.runner import run_attempt
from neurosweep.testing.attempts import make_task

STEPS = {"training.epochs": 24, "fault.delay_s": 0.03}


class Cluster:
    """Commands of a scheduler that remember what they were asked."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.calls = folder / "calls"
        self.state = folder / "state"
        self.state.write_text("RUNNING")
        self.bin = folder
        for name in ("squeue", "scontrol"):
            text = f'#!/bin/sh\necho {name} "$@" >> {self.calls}\ncat {self.state}\n'
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def start(self, task: TaskSpec, restart: int = 0, **environ: str) -> subprocess.Popen[bytes]:
        env = {name: text for name, text in os.environ.items() if not name.startswith("SLURM_")}
        env |= {"PATH": f"{self.bin}:{env['PATH']}", "OMP_NUM_THREADS": "1"}
        env |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "NEUROSWEEP_REQUEUE": "1"}
        if restart:
            env["SLURM_RESTART_COUNT"] = str(restart)
        command = [sys.executable, "-m", "neurosweep.exec.runner", str(task.attempt_dir)]
        return subprocess.Popen(command, env=env | environ, stderr=subprocess.DEVNULL)

    def run(self, task: TaskSpec, restart: int = 0, **environ: str) -> int:
        return self.start(task, restart, **environ).wait(60)

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "bin")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def steps_task(home: Home, attempt: int = 1, trial: str = "r01t000", **limits: Any) -> TaskSpec:
    return make_task(home, "steps", trial=trial, attempt=attempt, settings=STEPS, limits=limits)


def curves(task: TaskSpec) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in task.files.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "t"} for line in lines]


def undisturbed(home: Home) -> TaskSpec:
    before = Path.cwd()
    task = make_task(home, "steps", trial="r01t001", settings=STEPS | {"fault.delay_s": 0.0})
    assert run_attempt(task.attempt_dir, isolated=False) == 0
    os.chdir(before)
    return task


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.01)


def has_lines(task: TaskSpec, count: int) -> bool:
    path = task.files.metrics
    return path.exists() and path.read_bytes().count(b"\n") >= count


def assert_like_undisturbed(task: TaskSpec, home: Home) -> Mapping[str, Any]:
    other = undisturbed(home)
    assert curves(task) == curves(other)
    assert task.files.predictions.read_bytes() == other.files.predictions.read_bytes()
    said: dict[str, Any] = read_json(task.files.status)
    assert (said["outcome"], said["epochs"]) == ("done", 24)
    assert not task.files.resume.exists()
    return said


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_asked_to_leave_a_job_saves_comes_back_and_goes_on(
    home: Home, cluster: Cluster, number: signal.Signals
) -> None:
    task = steps_task(home)
    process = cluster.start(task)
    wait_until(lambda: has_lines(task, 4))
    process.send_signal(number)
    assert process.wait(20) == 5
    assert cluster.asked() == ["squeue -h -j 7_3 -o %T", "scontrol requeue 7_3"]
    assert not task.files.status.exists()
    lines = len(curves(task))
    assert 4 <= lines < 24
    assert cluster.run(task, 1) == 0
    said = assert_like_undisturbed(task, home)
    assert said["restarts"] == 1
    assert said["seconds"] >= 24 * 0.03 - 0.1
    assert (held_seconds(task.files.heartbeat) or 0.0) >= said["seconds"] - 0.1
    claim = read_claim(task.files.claim)
    assert claim is not None
    assert (claim.job, claim.restart) == ("7_3", 1)


def test_a_task_that_is_cancelled_does_not_ask_to_come_back(home: Home, cluster: Cluster) -> None:
    task = steps_task(home)
    cluster.state.write_text("COMPLETING")
    process = cluster.start(task)
    wait_until(lambda: has_lines(task, 2))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 5
    assert cluster.asked() == ["squeue -h -j 7_3 -o %T"]


@pytest.mark.parametrize("new_attempt", [False, True])
def test_killed_between_two_saves_nothing_is_missing_and_nothing_twice(
    home: Home, cluster: Cluster, new_attempt: bool
) -> None:
    """Two saves, some steps that nobody saved, half a line, and the end."""
    task = steps_task(home, save_every_s=0.25)
    process = cluster.start(task)
    wait_until(lambda: (task.files.resume / "steps.2").exists())
    os.kill(process.pid, signal.SIGSTOP)
    saved = read_json(task.files.resume / "saved.json")["lines"]
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: has_lines(task, saved + 2))
    process.kill()
    process.wait()
    with task.files.metrics.open("ab") as file:
        file.write(b'{"step":')
    if new_attempt:
        task = steps_task(home, 2, save_every_s=0.25)
        assert cluster.run(task) == 0
        assert "goes on from attempt 1" in task.files.log.read_text()
    else:
        assert cluster.run(task, 1) == 0
    said = assert_like_undisturbed(task, home)
    assert said["restarts"] == (0 if new_attempt else 1)


def test_stopped_where_it_cannot_come_back_its_next_attempt_goes_on(
    home: Home, cluster: Cluster
) -> None:
    """A cluster that pushes tasks aside for good says so only to the driver."""
    task = steps_task(home)
    process = cluster.start(task, NEUROSWEEP_REQUEUE="")
    wait_until(lambda: has_lines(task, 4))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    assert read_json(task.files.status)["kind"] == "stopped"
    assert cluster.asked() == []
    second = steps_task(home, 2)
    assert cluster.run(second, NEUROSWEEP_REQUEUE="") == 0
    assert "goes on from attempt 1" in second.files.log.read_text()
    assert_like_undisturbed(second, home)


def test_a_place_shorter_than_the_job_is_taken_again_and_again(
    home: Home, cluster: Cluster
) -> None:
    task = make_task(home, "steps", settings=STEPS | {"fault.delay_s": 0.08})
    codes: list[int] = []
    while not task.files.status.exists():
        codes.append(cluster.run(task, len(codes), NEUROSWEEP_TASK_S="1.2"))
        assert len(codes) < 24
    assert codes[-1] == 0
    assert set(codes[:-1]) <= {5}
    assert assert_like_undisturbed(task, home)["restarts"] == len(codes) - 1 > 0


def test_a_job_that_never_saves_does_not_come_back_for_ever(home: Home, cluster: Cluster) -> None:
    task = make_task(home, "sleepy", settings={"fault.delay_s": 30.0})
    codes = [cluster.run(task, number, NEUROSWEEP_TASK_S="0.6") for number in range(3)]
    assert codes == [5, 5, 1]
    said = read_json(task.files.status)
    assert (said["kind"], said["restarts"]) == ("time_limit", 2)
    assert "3 starts of 0.6 s each were too short to save once" in said["error"]["text"]
    assert sum("requeue" in call for call in cluster.asked()) == 2


def test_the_time_limit_counts_the_work_of_all_starts(home: Home, cluster: Cluster) -> None:
    task = make_task(
        home,
        "steps",
        settings={"training.epochs": 500, "fault.delay_s": 0.05},
        limits={"timeout_s": 1.5},
    )
    process = cluster.start(task)
    wait_until(lambda: has_lines(task, 15))
    process.send_signal(signal.SIGUSR2)
    assert process.wait(20) == 5
    before = time.monotonic()
    assert cluster.run(task, 1) == 1
    assert time.monotonic() - before < 1.5
    said = read_json(task.files.status)
    assert said["kind"] == "time_limit"
    assert 1.5 <= said["seconds"] < 2.5
    assert not task.files.resume.exists()


def test_what_an_earlier_start_left_half_done_is_cleared_away(home: Home, cluster: Cluster) -> None:
    task = make_task(home, "staged")
    task.files.ckpt.mkdir()
    task.files.out.mkdir()
    (task.files.ckpt / "adapter").mkdir()
    (task.files.out / "half").write_bytes(b"x")
    assert cluster.run(task) == 0
    said = read_json(task.files.status)
    assert set(said["files"]) == {"predictions.jsonl"}
    assert (task.files.ckpt / "adapter" / "adapter_config.json").exists()


def test_a_process_whose_attempt_was_taken_over_ends_at_once(home: Home, cluster: Cluster) -> None:
    """Its node lost touch, its scheduler started the job on another one."""
    task = make_task(home, "sleepy", settings={"fault.delay_s": 30.0})
    process = cluster.start(task)
    wait_until(task.files.claim.exists)
    fence = Fence(task.files, "7_3", 0)
    assert fence.lost(at_once=True)
    claim = read_json(task.files.claim)
    task.files.claim.write_text(json.dumps(claim | {"host": "another-node", "restart": 1}))
    assert process.wait(20) == 3
    assert not task.files.status.exists()


def test_a_status_is_written_only_by_who_holds_the_claim(home: Home, cluster: Cluster) -> None:
    task = make_task(home, "sleepy", settings={"fault.delay_s": 0.6})
    process = cluster.start(task)
    wait_until(task.files.claim.exists)
    claim = read_json(task.files.claim)
    task.files.claim.write_text(json.dumps(claim | {"restart": 1}))
    assert process.wait(20) == 3
    assert not task.files.status.exists()


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_a_claim_that_names_nobody_ends_nobody(
    home: Home, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.root.parent)
    task = make_task(home)
    fence = Fence(task.files, "7_3", 0)
    if content is not None:
        task.files.claim.write_bytes(content)
    assert not fence.lost(at_once=True)


def test_a_claim_is_looked_at_now_and_then(home: Home) -> None:
    task = make_task(home)
    fence = Fence(task.files, "7_3", 0)
    mark = ProcessMark.of(os.getpid())
    data = {"v": 1, "pid": mark.pid, "start_ticks": mark.start_ticks, "boot": mark.boot}
    data |= {"host": "another-node", "job": "7_3", "restart": 0, "t": "2026-01-01T00:00:00.000Z"}
    task.files.claim.write_text(json.dumps(data))
    assert not fence.lost()
    assert fence.lost(at_once=True)


@pytest.mark.parametrize(("granted", "threads"), [("3", "3"), ("0", "1"), ("many", "1"), ("", "1")])
def test_a_job_gets_the_threads_that_it_was_given(
    home: Home, cluster: Cluster, granted: str, threads: str
) -> None:
    task = make_task(home, "tell")
    assert cluster.run(task, NEUROSWEEP_THREADS=granted) == 0
    assert json.loads(task.files.log.read_text().splitlines()[0])["threads"] == int(threads)


def test_a_job_that_was_suspended_longer_than_its_limit_still_ends_well(
    home: Home, cluster: Cluster
) -> None:
    task = steps_task(home, timeout_s=9.0)
    process = cluster.start(task)
    wait_until(lambda: has_lines(task, 2))
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(9.5)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(20) == 0
    said = assert_like_undisturbed(task, home)
    assert said["seconds"] < 9.0
    held_s = held_seconds(task.files.heartbeat)
    assert held_s is not None
    assert held_s < 9.0
