"""The executor on a real SLURM: arrays, endings, cancellation, adoption after a restart."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import ExecutorError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env
from neurosweep.exec.executors.slurm import SlurmExecutor
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.records.trial import Kind
from neurosweep.testing.attempts import make_task

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(180)]
LIMIT_S = 120.0


def executor(home: Home, **changes: object) -> SlurmExecutor:
    profile = Profile(**{"partition": "main", "poll_s": 0.5, "mem_gb": 0.5, **changes})  # type: ignore[arg-type]
    return SlurmExecutor(profile, ExecSettings(home.study("tests-20260101-0000").root))


def tasks_of(home: Home, jobs: list[str]) -> list[TaskSpec]:
    env, short = code_env(None, 1), {"fault.delay_s": 2.0}
    return [
        replace(make_task(home, job, trial=f"r01t{index:03d}", settings=short), env=env)
        for index, job in enumerate(jobs)
    ]


def poll_until(
    running: SlurmExecutor, done: Callable[[Mapping[TaskKey, TaskView]], bool]
) -> dict[TaskKey, TaskView]:
    """Return every view seen last, once `done` holds for them."""
    seen: dict[TaskKey, TaskView] = {}
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        seen |= running.poll()
        if done(seen):
            return seen
        time.sleep(0.3)
    pytest.fail(f"after {LIMIT_S:g} s SLURM says {seen}")


def all_ended(views: Mapping[TaskKey, TaskView]) -> bool:
    return bool(views) and all(view.phase is TaskPhase.ENDED for view in views.values())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_array_runs_and_leaves_its_results(home: Home) -> None:
    running = executor(home, max_array=3)
    tasks = tasks_of(home, ["instant"] * 4 + ["crash"])
    ids = running.submit("token-a", tasks)
    arrays = {job.partition("_")[0] for job in ids.values()}
    assert len(ids) == 5
    assert len(arrays) == 2, "a round larger than an array is split"
    views = poll_until(running, all_ended)
    for task in tasks[:4]:
        assert read_json(task.files.status)["outcome"] == "done"
        assert task.files.predictions.exists()
    assert views[tasks[0].key].exit_code == 0
    assert read_json(tasks[4].files.status)["kind"] == "user_error"
    assert running.poll() == {}, "an ended task is reported once"


def test_a_restarted_driver_adopts_and_submits_nothing_twice(home: Home) -> None:
    tasks = tasks_of(home, ["sleepy", "sleepy"])
    first = executor(home)
    ids = first.submit("token-b", tasks)
    second = executor(home)
    assert second.adopt("token-b", tasks) == ids
    assert second.adopt("token-never-submitted", tasks) == {}
    poll_until(second, all_ended)
    for task in tasks:
        assert read_json(task.files.status)["outcome"] == "done"


def test_cancelled_task_carries_the_reason(home: Home) -> None:
    running = executor(home)
    [task] = tasks_of(home, ["hang"])
    running.submit("token-c", [task])
    poll_until(running, lambda views: views[task.key].phase is TaskPhase.RUNNING)
    running.cancel(*task.key, Kind.HANG)
    view = poll_until(running, all_ended)[task.key]
    assert view.kind_hint is Kind.HANG


def test_refused_submission_says_why(home: Home) -> None:
    running = executor(home, partition="no-such-partition")
    with pytest.raises(ExecutorError, match=r"sbatch refused.*invalid partition"):
        running.submit("token-d", tasks_of(home, ["instant"]))


def test_unreachable_controller_is_not_an_end(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running = executor(home)
    [task] = tasks_of(home, ["instant"])
    running.submit("token-e", [task])
    for command in ("squeue", "sacct"):
        (tmp_path / command).write_text("#!/bin/sh\necho down >&2; exit 1\n", encoding="utf-8")
        (tmp_path / command).chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=":")
        assert running.poll()[task.key].phase is TaskPhase.QUEUED
        with pytest.raises(ExecutorError, match=r"failed \(1\): down"):
            executor(home).adopt("token-e", [task])
    poll_until(running, all_ended)
