"""The local executor with real processes: limits, kills, and a driver that dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import ExecutorError
from neurosweep.core.files import read_json, read_jsonl
from neurosweep.core.layout import AttemptDir, Home
from neurosweep.core.provenance import code_env
from neurosweep.exec.claim import Claim, ProcessMark, read_claim
from neurosweep.exec.executors.local import LocalExecutor
from neurosweep.exec.protocol import ExecSettings, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.records.trial import Kind
from neurosweep.testing.attempts import make_task

STUDY = "tests-20260101-0000"
TOKEN = "local-r01-0123abcd"
LIMIT_S = 60.0

Make = Callable[..., LocalExecutor]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def make(home: Home) -> Iterator[Make]:
    created: list[LocalExecutor] = []

    def create(workers: int = 2, grace_s: float = 5.0, **settings: Any) -> LocalExecutor:
        chosen = ExecSettings(home.study(STUDY).root, workers=workers, **settings)
        created.append(LocalExecutor(chosen, grace_s=grace_s))
        return created[-1]

    yield create
    for executor in created:
        executor.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {LIMIT_S:g} s"
        time.sleep(0.01)


def wait_for_all(executor: LocalExecutor, number: int) -> dict[TaskKey, TaskView]:
    over: dict[TaskKey, TaskView] = {}

    def all_over() -> bool:
        views = executor.poll()
        over.update((k, v) for k, v in views.items() if v.phase is TaskPhase.ENDED)
        return len(over) == number

    wait_until(all_over, f"the end of {number} tasks")
    return over


def run_one(executor: LocalExecutor, task: TaskSpec) -> TaskView:
    executor.submit(TOKEN, [task])
    return wait_for_all(executor, 1)[task.key]


def kind_of(task: TaskSpec) -> str:
    return str(read_json(task.files.status)["kind"])


def claim_of(task: TaskSpec) -> Claim:
    claim = read_claim(task.files.claim)
    assert claim is not None
    return claim


def wait_for_claims(tasks: list[TaskSpec]) -> None:
    wait_until(lambda: all(task.files.claim.exists() for task in tasks), "a claim")


def phases(views: Mapping[TaskKey, TaskView]) -> list[TaskPhase]:
    return [view.phase for view in views.values()]


def test_never_more_than_the_workers_run(make: Make, home: Home) -> None:
    tasks = [
        make_task(home, trial=f"r01t{n:03d}", settings={"fault.delay_s": 0.1}) for n in range(6)
    ]
    executor = make(workers=2)
    executor.submit(TOKEN, tasks)
    most, over = 0, 0
    while over < len(tasks):
        views = executor.poll()
        most = max(most, phases(views).count(TaskPhase.RUNNING))
        over += phases(views).count(TaskPhase.ENDED)
        claimed = sum(t.files.claim.exists() and not t.files.status.exists() for t in tasks)
        assert claimed <= 2
        time.sleep(0.005)
    assert most == 2
    assert {kind_of(task) for task in tasks} == {"none"}


def test_a_free_worker_takes_the_next_without_a_poll(make: Make, home: Home) -> None:
    tasks = [make_task(home, trial=f"r01t{n:03d}") for n in range(8)]
    make(workers=1).submit(TOKEN, tasks)
    wait_until(lambda: all(task.files.status.exists() for task in tasks), "the end of the queue")


def write_module(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")


MARKER = """
    import os
    from pathlib import Path
    with (Path(__file__).parent / "imports.txt").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    def job(ctx):
        os.write(1, f"{os.getppid()} {os.getsid(0) == os.getpid()}\\n".encode())
        return []
"""


def marked_tasks(home: Home, number: int, module: str = "marker_module") -> list[TaskSpec]:
    tasks = [make_task(home, trial=f"r01t{n:03d}") for n in range(number)]
    for task in tasks:
        path = task.attempt_dir.parents[1] / "run.json"
        path.write_text(json.dumps(read_json(path) | {"entry": f"{module}:job"}))
    return tasks


def test_a_warm_start_imports_once_for_all(make: Make, home: Home, tmp_path: Path) -> None:
    code = tmp_path / "code"
    write_module(code, "marker_module", MARKER)
    tasks = marked_tasks(home, 4)
    executor = make(code_root=code, warm=("marker_module",))
    executor.submit(TOKEN, tasks)
    server = executor.server_pid
    wait_for_all(executor, 4)
    assert (code / "imports.txt").read_text() == f"{server}\n"
    assert {task.files.log.read_text() for task in tasks} == {f"{server} True\n"}


def test_imports_that_start_threads_fall_back_to_cold_starts(
    make: Make, home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = tmp_path / "code"
    thread = "import threading\n    threading.Thread(target=threading.Event().wait, daemon=True)"
    write_module(code, "marker_module", f"    {thread}.start()\n" + MARKER)
    tasks = marked_tasks(home, 2)
    executor = make(code_root=code, warm=("marker_module",))
    executor.submit(TOKEN, tasks)
    server = executor.server_pid
    wait_for_all(executor, 2)
    assert len((code / "imports.txt").read_text().splitlines()) == 3
    assert caplog.text.count("start cold, each with its own imports: the warm imports") == 1
    assert {task.files.log.read_text() for task in tasks} == {f"{server} True\n"}


def test_a_warm_import_that_fails_fails_in_the_attempt(
    make: Make, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    (broken,) = marked_tasks(home, 1, module="no_such_module")
    executor = make(warm=("no_such_module",))
    executor.submit(TOKEN, [broken, make_task(home, trial="r01t001")])
    wait_for_all(executor, 2)
    assert "no_such_module cannot be imported" in caplog.text
    status = read_json(broken.files.status)
    assert status["kind"] == "user_error"
    assert "there is no module 'no_such_module'" in status["error"]["text"]
    assert read_json(broken.attempt_dir.parents[2] / "r01t001/attempts/1/status.json")[
        "outcome"
    ] == ("done")


def test_an_attempt_of_other_code_is_not_forked_from_warm_code(
    make: Make, home: Home, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        write_module(tmp_path / name, "marker_module", MARKER + f"\n    NAME = '{name}'\n")
    (task,) = marked_tasks(home, 1)
    executor = make(code_root=tmp_path / "old", warm=("marker_module",))
    run_one(executor, replace(task, env=code_env(tmp_path / "new", 1)))
    assert len((tmp_path / "new/imports.txt").read_text().splitlines()) == 1
    assert kind_of(task) == "none"


def test_an_attempt_that_overruns_is_ended(make: Make, home: Home) -> None:
    task = make_task(home, "sleepy", limits={"timeout_s": 0.3})
    view = run_one(make(), task)
    assert kind_of(task) == "time_limit"
    assert view.exit_code == 1


def test_a_deaf_attempt_that_overruns_is_killed_and_leaves_a_status(make: Make, home: Home) -> None:
    task = make_task(home, "hang", limits={"timeout_s": 0.3, "grace_s": 0.3})
    run_one(make(), replace(task, timeout_s=60.0))
    status = read_json(task.files.status)
    assert (status["kind"], status["outcome"]) == ("time_limit", "failed")
    assert "in hang" in task.files.log.read_text()


def test_a_frozen_attempt_is_killed_by_the_executor(make: Make, home: Home) -> None:
    task = make_task(home, "hang", limits={"timeout_s": 60.0})
    executor = make(grace_s=0.2)
    executor.submit(TOKEN, [replace(task, timeout_s=0.4)])
    wait_for_claims([task])
    os.kill(claim_of(task).mark.pid, signal.SIGSTOP)
    view = wait_for_all(executor, 1)[task.key]
    assert (view.signal, view.kind_hint) == (signal.SIGKILL, Kind.TIME_LIMIT)
    assert not task.files.status.exists()


def test_a_running_attempt_is_cancelled_with_a_status(make: Make, home: Home) -> None:
    task, executor = make_task(home, "sleepy"), make()
    executor.submit(TOKEN, [task])
    wait_until(lambda: (read_beat(task) or {}).get("phase") == "sleep", "a sign of life")
    executor.cancel(task.trial, 1, Kind.HANG)
    view = wait_for_all(executor, 1)[task.key]
    assert (view.kind_hint, kind_of(task)) == (Kind.HANG, "stopped")


def read_beat(task: TaskSpec) -> dict[str, Any] | None:
    path = task.files.heartbeat
    found: dict[str, Any] | None = read_json(path) if path.exists() else None
    return found


def test_a_queued_attempt_is_cancelled_without_a_trace(make: Make, home: Home) -> None:
    first = make_task(home, settings={"fault.delay_s": 0.4})
    second = make_task(home, trial="r01t001")
    executor = make(workers=1)
    executor.submit(TOKEN, [first, second])
    wait_for_claims([first])
    executor.cancel("r01t001", 1, Kind.CANCELLED_USER)
    over = wait_for_all(executor, 2)
    assert over[second.key].kind_hint is Kind.CANCELLED_USER
    assert list(second.attempt_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("job", "kind", "signal_number", "exit_code"),
    [
        ("segfault", Kind.USER_ERROR, signal.SIGSEGV, None),
        ("vanish", Kind.LOST, signal.SIGKILL, None),
        ("leave", Kind.USER_ERROR, None, 7),
    ],
)
def test_an_attempt_that_dies_silently_is_explained(
    make: Make,
    home: Home,
    job: str,
    kind: Kind,
    signal_number: int | None,
    exit_code: int | None,
) -> None:
    task = make_task(home, job)
    view = run_one(make(), task)
    assert (view.kind_hint, view.signal, view.exit_code) == (kind, signal_number, exit_code)
    assert view.reason
    noted = read_json(task.files.exit)
    assert (noted["signal"], noted["exit_code"]) == (signal_number, exit_code)
    assert not task.files.status.exists()


def test_memory_is_bounded(make: Make, home: Home) -> None:
    task = make_task(home, "oom", limits={"memory_mb": 150})
    run_one(make(), task)
    status = read_json(task.files.status)
    assert status["kind"] == "oom_host"
    assert 100 < status["peak_mb"] < 700


def test_memory_that_is_held_is_watched(make: Make, home: Home, tmp_path: Path) -> None:
    text = "import time\ndef job(ctx):\n    held = b'x' * 200 * 2**20\n    time.sleep(60)\n"
    write_module(tmp_path / "code", "holding_module", text)
    (task,) = marked_tasks(home, 1, module="holding_module")
    path = task.attempt_dir.parents[1] / "run.json"
    path.write_text(json.dumps(read_json(path) | {"limits": {"memory_mb": 150}}))
    run_one(make(code_root=tmp_path / "code"), task)
    status = read_json(task.files.status)
    assert status["kind"] == "oom_host"
    assert "held more than its limit of 150 MB" in status["error"]["text"]


def test_a_request_far_beyond_the_memory_fails_at_once(
    make: Make, home: Home, tmp_path: Path
) -> None:
    text = "def job(ctx):\n    import numpy\n    return [numpy.ones(10**9)]\n"
    write_module(tmp_path / "code", "greedy_module", text)
    (task,) = marked_tasks(home, 1, module="greedy_module")
    path = task.attempt_dir.parents[1] / "run.json"
    path.write_text(json.dumps(read_json(path) | {"limits": {"memory_mb": 100}}))
    run_one(make(code_root=tmp_path / "code"), task)
    status = read_json(task.files.status)
    assert status["kind"] == "oom_host"
    assert status["error"]["type"].endswith("MemoryError")


def test_output_is_kept_and_bounded(make: Make, home: Home) -> None:
    task = make_task(home, "noisy", limits={"log_mb": 0.1}, settings={"fault.share": 1.0})
    run_one(make(), task)
    log = task.files.log.read_bytes()
    assert log.startswith(b"written past Python\nan error written past Python\n")
    assert len(log) < 0.2 * 2**20


def test_what_an_attempt_left_behind_ends_with_it(make: Make, home: Home, tmp_path: Path) -> None:
    write_module(
        tmp_path / "code",
        "parent_module",
        """
        import os, subprocess
        def job(ctx):
            child = subprocess.Popen(["sleep", "300"])
            os.write(1, f"{child.pid}\\n".encode())
            os._exit(0)
        """,
    )
    (task,) = marked_tasks(home, 1, module="parent_module")
    run_one(make(code_root=tmp_path / "code"), task)
    child = int(task.files.log.read_text())
    wait_until(lambda: not ProcessMark.of(child).is_alive(), "the end of the grandchild")


def test_a_folder_that_is_missing_queues_nothing(make: Make, home: Home) -> None:
    good = make_task(home)
    bad = replace(good, trial="r01t001", attempt_dir=home.root / "absent")
    executor = make()
    with pytest.raises(ExecutorError, match="absent"):
        executor.submit(TOKEN, [good, bad])
    assert executor.poll() == {}
    assert not good.files.claim.exists()


DRIVER = """
    import json, sys, time
    from pathlib import Path
    from neurosweep.exec.executors.local import LocalExecutor
    from neurosweep.exec.protocol import ExecSettings, TaskSpec
    given = json.loads(sys.argv[1])
    tasks = [TaskSpec(t, 1, Path(d), 1, None, 60.0) for t, d in given["tasks"]]
    executor = LocalExecutor(ExecSettings(Path(given["study"]), workers=given["workers"]))
    executor.submit("token", tasks)
    while True:
        executor.poll()
        print(executor.server_pid, flush=True)
        time.sleep(0.05)
"""


def start_driver(home: Home, tasks: list[TaskSpec], workers: int) -> subprocess.Popen[str]:
    given = {
        "study": str(home.study(STUDY).root),
        "workers": workers,
        "tasks": [(task.trial, str(task.attempt_dir)) for task in tasks],
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **code_env(None, 1)},
    )


def kill_driver(driver: subprocess.Popen[str]) -> ProcessMark:
    """Kill a driver as the kernel would, and return its fork server."""
    assert driver.stdout is not None
    server = ProcessMark.of(int(driver.stdout.readline()))
    driver.kill()
    driver.wait()
    driver.stdout.close()
    return server


def test_a_killed_driver_leaves_attempts_that_the_next_one_finds(make: Make, home: Home) -> None:
    settings = {"fault.delay_s": 1.5}
    tasks = [make_task(home, trial=f"r01t{n:03d}", settings=settings) for n in range(5)]
    driver = start_driver(home, tasks, workers=3)
    wait_for_claims(tasks[:3])
    server = kill_driver(driver)
    wait_until(lambda: not server.is_alive(), "the end of the fork server")
    marks = [claim_of(task).mark for task in tasks[:3]]
    assert all(mark.is_alive() for mark in marks)

    executor = make(workers=3)
    found = executor.adopt(TOKEN, tasks)
    assert found == {task.trial: claim_of(task).job for task in tasks[:3]}
    executor.submit(TOKEN, [task for task in tasks if task.trial not in found])
    views = executor.poll()
    assert phases(views).count(TaskPhase.RUNNING) == 3
    assert phases(views).count(TaskPhase.QUEUED) == 2
    assert not tasks[3].files.claim.exists()
    wait_for_all(executor, 5)
    assert [kind_of(task) for task in tasks] == ["none"] * 5
    assert [claim_of(task).mark for task in tasks[:3]] == marks
    first_end = min(parse_iso(read_json(task.files.status)["ended"]) for task in tasks[:3])
    assert min(claim_of(task).t for task in tasks[3:]) >= first_end
    assert all(len(list(read_jsonl(task.files.metrics))) == 3 for task in tasks)


def test_an_attempt_of_a_dead_driver_still_has_its_limits(make: Make, home: Home) -> None:
    limits = {"grace_s": 60.0}
    tasks = [make_task(home, "hang", trial=f"r01t{n:03d}", limits=limits) for n in range(2)]
    driver = start_driver(home, tasks, workers=2)
    wait_for_claims(tasks)
    kill_driver(driver)
    executor = make(grace_s=0.2)
    short = [replace(tasks[0], timeout_s=0.5), tasks[1]]
    assert len(executor.adopt(TOKEN, short)) == 2
    executor.cancel(tasks[1].trial, 1, Kind.HANG)
    over = wait_for_all(executor, 2)
    assert [over[task.key].kind_hint for task in tasks] == [Kind.TIME_LIMIT, Kind.HANG]
    assert not any(claim_of(task).mark.is_alive() for task in tasks)


def test_a_killed_fork_server_is_replaced(make: Make, home: Home) -> None:
    settings = {"fault.delay_s": 0.8}
    tasks = [make_task(home, trial=f"r01t{n:03d}", settings=settings) for n in range(3)]
    executor = make(workers=2)
    executor.submit(TOKEN, tasks)
    wait_for_claims(tasks[:2])
    executor.poll()
    first = executor.server_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for_all(executor, 3)
    assert executor.server_pid != first
    assert [kind_of(task) for task in tasks] == ["none"] * 3


def test_a_fork_server_that_cannot_start_is_an_error(
    make: Make, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    executor = make()
    executor.submit(TOKEN, [make_task(home)])

    def poll_for_ever() -> None:
        for _ in range(1000):
            executor.poll()
            time.sleep(0.01)

    with pytest.raises(ExecutorError, match="died 3 times in a row"):
        poll_for_ever()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("free_kb", [0, 4, 8, 12, 16, 20, 24])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    make: Make, small_disk: Path, free_kb: int
) -> None:
    task = make_task(Home(small_disk))
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * shutil.disk_usage(small_disk).free)
        file.truncate(file.tell() - free_kb * 1024)
    view = run_one(make(), task)
    files, outcome = task.files, "node_failure"
    if files.status.exists():
        status = read_json(files.status)
        outcome = status["kind"]
        assert outcome == "none" or "the disk is full" in status["error"]["text"]
    else:
        assert view.kind_hint is Kind.NODE_FAILURE
        assert "disk full" in view.reason
    assert files.predictions.exists() == (outcome == "none")
    assert outcome in {"none", "node_failure"}
    assert not [path.name for path in task.attempt_dir.iterdir() if path.suffix == ".tmp"]


def test_a_process_that_vanished_unseen_is_lost(make: Make, home: Home) -> None:
    task = make_task(home)
    mark = replace(ProcessMark.of(os.getpid()), start_ticks=1)  # a pid that is used again
    task.files.claim.write_text(Claim(mark, "local-gone", 0, time.time()).to_json())
    executor = make()
    assert executor.adopt(TOKEN, [task]) == {task.trial: "local-gone"}
    view = wait_for_all(executor, 1)[task.key]
    assert (view.phase, view.kind_hint) == (TaskPhase.ENDED, Kind.LOST)


def test_a_forged_claim_cannot_make_the_executor_kill_another_process(
    make: Make, home: Home
) -> None:
    task = make_task(home)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as victim:
        try:
            mark = ProcessMark.of(victim.pid)
            task.files.claim.write_text(Claim(mark, "local-forged", 0, time.time()).to_json())
            executor = make(grace_s=0.0)
            executor.adopt(TOKEN, [replace(task, timeout_s=0.01)])
            executor.cancel(task.trial, 1, Kind.STOPPED)
            for _ in range(20):
                executor.poll()
                time.sleep(0.01)
            assert victim.poll() is None
            assert mark.is_alive()
        finally:
            victim.kill()


def test_a_note_of_another_trial_is_not_trusted(make: Make, home: Home) -> None:
    task, folder = make_task(home), home.study(STUDY).root / "local"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as victim:
        try:
            mark = ProcessMark.of(victim.pid)
            note = {**asdict(mark), "job": "local-other", "trial": "r09t009", "attempt": 1}
            (folder / "local-other.json").write_text(json.dumps(note))
            task.files.claim.write_text(Claim(mark, "local-other", 0, time.time()).to_json())
            executor = make(grace_s=0.0)
            executor.adopt(TOKEN, [task])
            executor.cancel(task.trial, 1, Kind.STOPPED)
            for _ in range(20):
                executor.poll()
                time.sleep(0.01)
            assert victim.poll() is None
        finally:
            victim.kill()


def test_a_damaged_claim_ends_the_attempt_as_lost(make: Make, home: Home) -> None:
    task = make_task(home)
    task.files.claim.write_bytes(b"{")
    executor = make()
    assert executor.adopt(TOKEN, [task]) == {task.trial: "unknown"}
    assert wait_for_all(executor, 1)[task.key].kind_hint is Kind.LOST


def test_attempts_go_on_after_a_close(make: Make, home: Home) -> None:
    task = make_task(home, settings={"fault.delay_s": 0.5})
    executor = make()
    executor.submit(TOKEN, [task])
    wait_for_claims([task])
    executor.close()
    assert not task.files.status.exists()
    wait_until(task.files.status.exists, "the end of the attempt")
    assert kind_of(task) == "none"


def test_many_processes_race_for_one_attempt_and_one_runs_it(home: Home) -> None:
    task = make_task(home)
    command = [sys.executable, "-m", "neurosweep.exec.runner", str(task.attempt_dir)]
    env = {**os.environ, **code_env(None, 1)}
    racers = [subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) for _ in range(4)]
    codes = sorted(racer.wait(LIMIT_S) for racer in racers)
    assert codes == [0, 3, 3, 3]
    assert len(list(read_jsonl(AttemptDir(task.attempt_dir).metrics))) == 3
