"""What every executor must do, run on every plugin found."""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import NeurosweepError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.core.plugins import find_plugins, load_plugin
from neurosweep.core.provenance import code_env
from neurosweep.exec.claim import read_claim
from neurosweep.exec.protocol import (
    ExecSettings,
    Executor,
    TaskKey,
    TaskPhase,
    TaskSpec,
    TaskView,
)
from neurosweep.records.trial import Kind
from neurosweep.testing.attempts import make_task

PACKAGE = "neurosweep.exec.executors"
PLUGINS = sorted(find_plugins(PACKAGE))
LIMIT_S = 60.0

Make = Callable[[], Executor]


def test_the_three_executors_are_found() -> None:
    assert {"inline", "local", "slurm"} <= set(PLUGINS)


@pytest.fixture
def token() -> str:
    """Name one submission: no two in the world share it."""
    return f"contract-r01-{secrets.token_hex(4)}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.study("tests-20260101-0000").root.mkdir(parents=True)
    return home


def slurm_profile(folder: Path) -> str:
    if shutil.which("sbatch") is None:
        pytest.skip("no SLURM here: sbatch is not installed")
    try:
        subprocess.run(["sinfo"], capture_output=True, check=True, timeout=10)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("no SLURM here: sinfo cannot reach a controller")
    path = folder / "profile.toml"
    path.write_text("poll_s = 0.5\nminutes = 2\nmem_gb = 0.5\n", encoding="utf-8")
    return str(path)


@pytest.fixture(params=PLUGINS)
def make(request: pytest.FixtureRequest, home: Home, tmp_path: Path) -> Iterator[Make]:
    """Create executors of one kind, as an earlier and a later driver would."""
    name = request.param
    option = slurm_profile(tmp_path) if name == "slurm" else None
    settings = ExecSettings(home.study("tests-20260101-0000").root, workers=2)
    module = load_plugin(PACKAGE, name, needs=("create",))
    created: list[Executor] = []

    def create() -> Executor:
        created.append(module.create(option, settings))
        assert created[-1].name == name
        return created[-1]

    yield create
    for executor in created:
        executor.close()


def tasks_of(home: Home, *jobs: str, delay_s: float = 0.0) -> list[TaskSpec]:
    env = code_env(None, 1) | {"NEUROSWEEP_CONTRACT": "seen"}
    settings = {"fault.delay_s": delay_s}
    return [
        replace(make_task(home, job, trial=f"r01t{number:03d}", settings=settings), env=env)
        for number, job in enumerate(jobs)
    ]


def wait_for_all(executor: Executor, tasks: list[TaskSpec]) -> dict[TaskKey, TaskView]:
    """Poll until every task has been reported as ended, and check that it is reported once."""
    over: dict[TaskKey, TaskView] = {}
    deadline = time.monotonic() + LIMIT_S
    while len(over) < len(tasks):
        assert time.monotonic() < deadline, f"only {sorted(over)} of {len(tasks)} tasks ended"
        for key, view in executor.poll().items():
            assert key not in over, f"{key} was reported again after its end"
            if view.phase is TaskPhase.ENDED:
                over[key] = view
        time.sleep(0.02)
    assert executor.poll() == {}
    return over


def outcomes(tasks: list[TaskSpec]) -> list[str]:
    return [read_json(task.files.status)["kind"] for task in tasks]


def test_every_task_runs_once_and_is_reported_once(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, *["instant"] * 5), make()
    jobs = executor.submit(token, tasks)
    assert set(jobs) == {task.trial for task in tasks}
    assert len(set(jobs.values())) == len(tasks)
    over = wait_for_all(executor, tasks)
    assert {view.job_id for view in over.values()} == set(jobs.values())
    assert {view.kind_hint for view in over.values()} <= {None, Kind.NONE}
    assert outcomes(tasks) == ["none"] * 5
    claims = [read_claim(task.files.claim) for task in tasks]
    assert [claim and claim.job for claim in claims] == [jobs[task.trial] for task in tasks]


def test_a_failed_job_says_why_in_its_status(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, "crash", "diverge", "instant"), make()
    executor.submit(token, tasks)
    over = wait_for_all(executor, tasks)
    assert outcomes(tasks) == ["user_error", "diverged", "none"]
    assert all(view.phase is TaskPhase.ENDED for view in over.values())


def test_a_job_gets_the_variables_of_its_task(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, "tell"), make()
    executor.submit(token, tasks)
    wait_for_all(executor, tasks)
    assert '"NEUROSWEEP_CONTRACT": "seen"' in tasks[0].files.log.read_text()


def test_what_was_never_submitted_is_not_adopted(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, "instant", "instant"), make()
    assert executor.adopt(token, tasks) == {}
    assert executor.poll() == {}


def test_what_ended_between_two_drivers_is_adopted_and_reported(
    make: Make, home: Home, token: str
) -> None:
    tasks, executor = tasks_of(home, "instant", "crash"), make()
    jobs = executor.submit(token, tasks)
    wait_for_all(executor, tasks)
    executor.close()
    later = make()
    assert later.adopt(token, tasks) == jobs
    over = wait_for_all(later, tasks)
    assert {key[0] for key in over} == set(jobs)


def test_a_cancelled_task_carries_the_reason(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, "instant", "instant", "instant", delay_s=0.3), make()
    executor.submit(token, tasks)
    executor.cancel(tasks[2].trial, 1, Kind.STOPPED)
    over = wait_for_all(executor, tasks)
    assert over[tasks[2].key].kind_hint is Kind.STOPPED
    assert outcomes(tasks[:2]) == ["none", "none"]


def test_to_cancel_what_is_unknown_or_over_does_nothing(make: Make, home: Home, token: str) -> None:
    tasks, executor = tasks_of(home, "instant"), make()
    executor.cancel("r09t000", 1, Kind.STOPPED)
    executor.submit(token, tasks)
    wait_for_all(executor, tasks)
    executor.cancel(tasks[0].trial, 1, Kind.STOPPED)
    assert executor.poll() == {}
    assert outcomes(tasks) == ["none"]


def test_a_double_submission_runs_once(make: Make, home: Home, token: str) -> None:
    tasks = tasks_of(home, "instant", "instant", delay_s=0.2)
    statuses = {task.trial: task.files.status for task in tasks}
    executors, over = [make(), make()], 0
    for executor in executors:
        executor.submit(token, tasks)
    deadline = time.monotonic() + LIMIT_S
    while over < 2 * len(tasks):
        assert time.monotonic() < deadline, f"only {over} ends of {2 * len(tasks)} were seen"
        for executor in executors:
            for (trial, _), view in executor.poll().items():
                if view.phase is TaskPhase.ENDED:
                    over += 1
                    assert view.kind_hint in (None, Kind.NONE)
                    assert statuses[trial].exists()
        time.sleep(0.005)
    assert outcomes(tasks) == ["none", "none"]
    for task in tasks:
        epochs = task.files.metrics.read_text().splitlines()
        assert len(epochs) == 3


def test_a_closed_executor_can_be_closed_again(make: Make, home: Home, token: str) -> None:
    executor = make()
    executor.submit(token, tasks_of(home, "instant"))
    executor.close()
    executor.close()


@pytest.mark.parametrize(("name", "option"), [("local", "x"), ("local", "0"), ("inline", "2")])
def test_a_wrong_option_is_refused_with_an_example(home: Home, name: str, option: str) -> None:
    module = load_plugin(PACKAGE, name, needs=("create",))
    with pytest.raises(NeurosweepError, match=f"{name}:{option}"):
        module.create(option, ExecSettings(home.root))
