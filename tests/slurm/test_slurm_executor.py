"""The executor on a real SLURM: arrays, endings, cancellation, adoption after a restart."""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import ExecutorError, UnreachableError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env
from neurosweep.exec.claim import read_claim
from neurosweep.exec.executors.slurm import SlurmExecutor
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.records.trial import Kind
from neurosweep.testing.attempts import make_task

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(180)]
LIMIT_S = 120.0


def executor(
    home: Home, workers: int | None = None, pool: dict[str, object] | None = None, **changes: object
) -> SlurmExecutor:
    profile = Profile(**{"partition": "main", "poll_s": 0.5, "mem_gb": 0.5, **changes})
    root = home.study("tests-20260101-0000").root
    return SlurmExecutor(profile, ExecSettings(root, workers=workers, pool=pool or {}))


def tasks_of(home: Home, jobs: list[str], delay_s: float = 2.0) -> list[TaskSpec]:
    env, short = code_env(None, 1), {"fault.delay_s": delay_s}
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


def count(views: Mapping[TaskKey, TaskView], phase: TaskPhase) -> int:
    return sum(view.phase is phase for view in views.values())


def break_commands(folder: Path, *commands: str, text: str = "exit 1") -> None:
    for command in commands:
        (folder / command).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / command).chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_array_runs_and_leaves_its_results(home: Home) -> None:
    running = executor(home, max_array=3)
    tasks = tasks_of(home, ["instant"] * 4 + ["crash"])
    ids = running.submit("token-a", tasks)
    assert all("_" in job for job in ids.values()), "also one task is an array"
    arrays = {job.partition("_")[0] for job in ids.values()}
    assert len(ids) == 5
    assert len(arrays) == 2, "a round larger than an array is split"
    views = poll_until(running, all_ended)
    for task in tasks[:4]:
        assert read_json(task.files.status)["outcome"] == "done"
        assert task.files.predictions.exists()
    for task in tasks:
        view = views[task.key]
        assert view.host
        assert view.exit_code in (0, 1, None), "None: its status said so before SLURM did"
        assert view.held_s is None or 0.0 <= view.held_s < 30.0
    assert all((views[task.key].held_s or 2.0) >= 1.0 for task in tasks[:4]), "they took 2 s"
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


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    home = Home(tmp_path / "100% 'mine' %j%%t")
    running = executor(home)
    [task] = tasks_of(home, ["instant"], delay_s=0.0)
    running.submit("token-p", [task])
    poll_until(running, all_ended)
    assert read_json(task.files.status)["outcome"] == "done"


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
    break_commands(tmp_path, "squeue", "sacct", text="echo down >&2; exit 1")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=":")
        assert running.poll()[task.key].phase is TaskPhase.QUEUED
        with pytest.raises(ExecutorError, match=r"failed \(1\): down"):
            executor(home).adopt("token-e", [task])
    poll_until(running, all_ended)


def test_all_parts_of_a_round_keep_to_the_slots_together(home: Home) -> None:
    running = executor(home, workers=2, max_array=3)
    tasks = tasks_of(home, ["instant"] * 6, delay_s=2.0)
    running.submit("token-f", tasks)
    most = 0

    def done(views: Mapping[TaskKey, TaskView]) -> bool:
        nonlocal most
        most = max(most, count(views, TaskPhase.RUNNING))
        return all_ended(views) and len(views) == 6

    poll_until(running, done)
    assert most <= 2
    spans = sorted(status_span(task) for task in tasks)
    overlaps = [sum(a < end and start < b for a, b in spans) for start, end in spans]
    assert 2 <= max(overlaps) <= 3, "a task meets the one beside it, before and after"


def status_span(task: TaskSpec) -> tuple[str, str]:
    status = read_json(task.files.status)
    return status["started"], status["ended"]


def test_slots_change_while_a_round_runs(home: Home) -> None:
    running = executor(home, workers=1)
    tasks = tasks_of(home, ["instant"] * 8, delay_s=1.0)
    running.submit("token-g", tasks)
    poll_until(running, lambda views: count(views, TaskPhase.RUNNING) == 1)
    running.adjust(slots=0)
    poll_until(running, lambda views: count(views, TaskPhase.RUNNING) == 0)
    held = running.poll()
    assert count(held, TaskPhase.QUEUED) == len(held) > 0
    # Another driver goes on where this one was paused.
    later = executor(home, workers=4)
    later.adopt("token-g", tasks)
    poll_until(later, lambda views: count(views, TaskPhase.RUNNING) == 4)
    poll_until(later, lambda _: all(task.files.status.exists() for task in tasks))
    for task in tasks:
        assert read_json(task.files.status)["outcome"] == "done"


def test_what_sbatch_queued_and_denied_is_adopted(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tasks = tasks_of(home, ["instant", "instant"])
    bad = tmp_path / "bad"
    bad.mkdir()
    sbatch = shutil.which("sbatch")
    break_commands(
        bad, "sbatch", text=f'{sbatch} "$@" >/dev/null; echo "Socket timed out" >&2; exit 1'
    )
    first = executor(home)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(bad), prepend=":")
        with pytest.raises(UnreachableError, match="Socket timed out"):
            first.submit("token-h", tasks)
    ids = first.adopt("token-h", tasks[1:])
    assert [job.partition("_")[2] for job in ids.values()] == ["1"], "numbers stay"
    assert set(first.adopt("token-h", tasks)) == {"r01t000", "r01t001"}
    poll_until(first, lambda views: all_ended(views) and len(views) == 2)
    assert [read_json(task.files.status)["outcome"] for task in tasks] == ["done", "done"]


def test_a_driver_inside_a_job_submits_and_asks_as_anywhere(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_ARRAY_TASK_ID": "77",
        "SLURM_MEM_PER_CPU": "999999",
        "SBATCH_PARTITION": "no-such-partition",
        "SQUEUE_STATES": "SUSPENDED",
        "SACCT_FORMAT": "JobID",
        "NEUROSWEEP_JOB": "1",
    }.items():
        monkeypatch.setenv(name, value)
    running = executor(home)
    tasks = tasks_of(home, ["instant"], delay_s=1.0)
    ids = running.submit("token-i", tasks)
    poll_until(running, lambda views: count(views, TaskPhase.RUNNING) == 1)
    poll_until(running, all_ended)
    assert read_json(tasks[0].files.status)["outcome"] == "done"
    claim = read_claim(tasks[0].files.claim)
    assert claim is not None
    assert claim.job == ids["r01t000"]


def test_an_end_is_noticed_while_slurm_does_not_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running = executor(home)
    tasks = tasks_of(home, ["instant"], delay_s=2.0)
    running.submit("token-j", tasks)
    poll_until(running, lambda views: count(views, TaskPhase.RUNNING) == 1)
    break_commands(tmp_path, "squeue", "sacct", text="echo Unable to contact >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    view = poll_until(running, all_ended)[tasks[0].key]
    assert view.reason == "its status says so"
    assert view.held_s is not None
    assert 1.0 < view.held_s < 6.0


def test_tasks_cancelled_together_take_one_command_and_hand_cancels_are_told(home: Home) -> None:
    running = executor(home, workers=2)
    tasks = tasks_of(home, ["hang"] * 4)
    ids = running.submit("token-k", tasks)
    poll_until(running, lambda views: count(views, TaskPhase.RUNNING) == 2)
    subprocess.run(["scancel", ids["r01t000"]], check=True)
    before = running.watch.queries
    for task in tasks[1:]:
        running.cancel(*task.key, Kind.STOPPED)
    running.poll()
    assert running.watch.queries - before <= 3, "one scancel, and one look at the most"
    views = poll_until(running, lambda views: all_ended(views) and len(views) == 4)
    hints = [views[task.key].kind_hint for task in tasks]
    assert hints == [Kind.CANCELLED_USER, Kind.STOPPED, Kind.STOPPED, Kind.STOPPED]


def test_executors_of_one_process_share_their_queries(home: Home, tmp_path: Path) -> None:
    pool: dict[str, object] = {"": None}
    first, second = executor(home, pool=pool), executor(Home(tmp_path / "other"), pool=pool)
    tasks = tasks_of(home, ["instant"]), tasks_of(Home(tmp_path / "other"), ["instant"])
    first.submit("token-l", tasks[0])
    second.submit("token-m", tasks[1])
    assert first.watch is second.watch
    seen: dict[int, TaskView] = {}
    end = time.monotonic() + LIMIT_S
    while len(seen) < 2 and time.monotonic() < end:
        for number, one in enumerate((first, second)):
            ended = [v for v in one.poll().values() if v.phase is TaskPhase.ENDED]
            seen |= dict.fromkeys([number] * len(ended), ended[0]) if ended else {}
        time.sleep(0.1)
    assert len(seen) == 2
    assert first.watch.queries <= 2 * first.watch.looks + 3
