"""The runner inside this process: order, files, and every ending as data."""

import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosweep.core import files as core_files
from neurosweep.core.clock import parse_iso
from neurosweep.core.files import read_json, read_jsonl, sha256_file
from neurosweep.core.layout import AttemptDir, Home
from neurosweep.exec import outputs, status
from neurosweep.exec.job_api import JobContext
from neurosweep.exec.protocol import TaskSpec
from neurosweep.exec.runner import main, run_attempt
from neurosweep.testing.attempts import make_task

THIS = "test_runner_jobs"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def same_folder() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def run(task: TaskSpec) -> tuple[int, dict[str, Any]]:
    code = run_attempt(task.attempt_dir, isolated=False)
    return code, read_json(task.files.status)


def change_run(task: TaskSpec, **changes: Any) -> None:
    path = task.attempt_dir.parents[1] / "run.json"
    path.write_text(json.dumps(read_json(path) | changes), encoding="utf-8")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, home: Home) -> Any:
    """Run a function of the test as the job of an attempt."""

    def run_function(function: Any) -> tuple[int, dict[str, Any]]:
        module = type(sys)(THIS)
        module.__dict__["job"] = function
        monkeypatch.setitem(sys.modules, THIS, module)
        task = make_task(home)
        change_run(task, entry=f"{THIS}:job")
        return run(task)

    return run_function


def test_a_good_attempt_leaves_all_files(home: Home) -> None:
    task = make_task(home)
    code, said = run(task)
    assert code == 0
    names = {"claim.json", "heartbeat.json", "log.txt", "metrics.jsonl", "predictions.jsonl"}
    assert {path.name for path in task.attempt_dir.iterdir()} == names | {"status.json"}
    assert (said["trial"], said["attempt"], said["outcome"]) == ("r01t000", 1, "done")
    assert (said["kind"], said["error"], said["epochs"]) == ("none", None, 3)
    assert said["files"] == {"predictions.jsonl": sha256_file(task.files.predictions)}
    assert parse_iso(said["started"]) <= parse_iso(said["ended"])
    assert said["peak_mb"] > 1.0
    assert said["code"]["commit"] == "0" * 40
    assert len(list(read_jsonl(task.files.predictions))) == 24
    assert [line["epoch"] for line in read_jsonl(task.files.metrics)] == [0, 1, 2]


def test_the_same_seed_gives_the_same_predictions(home: Home) -> None:
    tasks = [make_task(home, trial=f"r01t00{n}") for n in range(2)]
    shas = [run(task)[1]["files"]["predictions.jsonl"] for task in tasks]
    assert shas[0] == shas[1]


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("crash", "user_error", "the model of this job always fails"),
        ("diverge", "diverged", "loss is nan at step 1"),
        ("full_disk", "node_failure", "the disk is full .*last.ckpt.*free space"),
        ("oom_gpu", "oom_gpu", "CUDA out of memory"),
        ("nan_predictions", "broken_predictions", "prediction 1 .*cannot be written as JSON"),
        ("not_predictions", "broken_predictions", "item and hypothesis must be text"),
    ],
)
def test_a_failure_is_recorded_with_its_reason(home: Home, name: str, kind: str, text: str) -> None:
    task = make_task(home, name)
    code, said = run(task)
    assert (code, said["outcome"], said["kind"]) == (1, "failed", kind)
    assert re.search(text, said["error"]["text"])
    assert "Traceback" in said["error"]["traceback"]
    assert said["files"] == {}
    assert not task.files.predictions.exists()
    assert "the attempt failed" in task.files.log.read_text()


@pytest.mark.parametrize("name", ["unknown_item", "duplicate_item", "missing_item"])
def test_predictions_that_only_the_driver_can_judge_pass(home: Home, name: str) -> None:
    code, said = run(make_task(home, name))
    assert (code, said["outcome"]) == (0, "done")


def test_predictions_have_a_limit(home: Home) -> None:
    task = make_task(home, "endless_predictions", limits={"predictions_mb": 0.05})
    code, said = run(task)
    assert (code, said["kind"]) == (1, "broken_predictions")
    assert not task.files.predictions.exists()


def test_a_second_start_does_nothing(home: Home) -> None:
    task = make_task(home)
    run(task)
    before = {path: path.stat().st_mtime_ns for path in task.attempt_dir.iterdir()}
    assert run_attempt(task.attempt_dir, isolated=False) == 3
    assert {path: path.stat().st_mtime_ns for path in task.attempt_dir.iterdir()} == before


def test_other_code_than_the_trials_is_refused_before_it_runs(home: Home, tmp_path: Path) -> None:
    task = make_task(home, "crash")
    change_run(task, code_roots={"neurosweep": str(tmp_path / "snapshot")})
    code, said = run(task)
    assert (code, said["kind"]) == (1, "wrong_code")
    assert "expected under" in said["error"]["text"]


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"entry": "neurosweep.testing.jobs"}, "user_error", "expected package.module:function"),
        ({"entry": "neurosweep.testing.jobs:nobody"}, "user_error", "has no function 'nobody'"),
        ({"entry": "nowhere_at_all.job:run"}, "user_error", "nowhere_at_all"),
        ({"seed": "seven"}, "user_error", "has a field that cannot be used"),
        ({"limits": {"time": 5}}, "user_error", "time: unknown; allowed are timeout_s"),
        ({"stores": ["store/none"]}, "user_error", "x.json"),
    ],
)
def test_a_run_that_cannot_start_says_why(
    home: Home, changes: dict[str, Any], kind: str, text: str
) -> None:
    task = make_task(home)
    change_run(task, **changes)
    code, said = run(task)
    assert (code, said["kind"]) == (1, kind)
    assert text in said["error"]["text"]


@pytest.mark.parametrize("content", [None, b"{", b"{}"])
def test_a_damaged_run_json_is_named(home: Home, content: bytes | None) -> None:
    task = make_task(home)
    path = task.attempt_dir.parents[1] / "run.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    code, said = run(task)
    assert (code, said["kind"], said["trial"]) == (1, "user_error", "r01t000")
    assert "run.json" in said["error"]["text"]


def test_a_job_may_not_leave_by_the_side_door(job: Any) -> None:
    def leaves(_ctx: JobContext) -> None:
        sys.exit(0)

    code, said = job(leaves)
    assert (code, said["kind"]) == (1, "user_error")
    assert "sys.exit(0)" in said["error"]["text"]


def test_a_job_without_predictions_is_told_what_is_missing(job: Any) -> None:
    code, said = job(lambda _ctx: None)
    assert (code, said["kind"]) == (1, "user_error")
    assert "returned None" in said["error"]["text"]


def test_a_job_sees_its_configuration_and_folder(job: Any) -> None:
    seen: dict[str, Any] = {}

    def looks(ctx: JobContext) -> list[dict[str, str]]:
        seen.update(seed=ctx.seed, rank=ctx.config["model"]["rank"], part=ctx.part)
        seen.update(stop=ctx.should_stop(), folds=ctx.folds, cwd=Path.cwd())
        (ctx.ckpt_dir / "last.ckpt").write_bytes(b"weights")
        return []

    code, said = job(looks)
    assert (code, said["outcome"]) == (0, "done")
    assert (seen["seed"], seen["rank"], seen["part"], seen["stop"]) == (7, 8, "val", False)
    assert all(fold.is_absolute() and (fold / "val").is_dir() for fold in seen["folds"])
    assert seen["cwd"].name == "1"


def test_an_interrupt_is_recorded_and_goes_on(home: Home, job: Any) -> None:
    def interrupted(_ctx: JobContext) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(interrupted)
    files = AttemptDir(home.study("tests-20260101-0000").trial("r01t000").attempt(1).root)
    assert read_json(files.status)["kind"] == "cancelled_user"


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "predictions.jsonl")


def test_a_disk_that_fills_while_predicting(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "atomic_write_bytes", no_space)
    task = make_task(home)
    code, said = run(task)
    assert (code, said["kind"], said["files"]) == (1, "node_failure", {})
    assert "the disk is full" in said["error"]["text"]
    assert not task.files.predictions.exists()


def test_a_disk_too_full_for_a_status_gives_up_predictions_for_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(home)

    def full_until_predictions_go(path: Path, data: Any) -> None:
        if task.files.predictions.exists():
            no_space()
        core_files.atomic_write_json(path, data)

    monkeypatch.setattr(status, "atomic_write_json", full_until_predictions_go)
    code, said = run(task)
    assert (code, said["outcome"], said["kind"]) == (1, "failed", "node_failure")
    assert said["files"] == {}


def test_where_no_status_can_be_written_the_exit_code_tells(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "atomic_write_json", no_space)
    task = make_task(home)
    assert run_attempt(task.attempt_dir, isolated=False) == 4
    assert not task.files.status.exists()
    assert not task.files.predictions.exists()


def test_a_folder_that_does_not_exist_is_told_by_the_exit_code(tmp_path: Path) -> None:
    assert run_attempt(tmp_path / "absent", isolated=False) == 4
    assert not (tmp_path / "absent").exists()


def test_the_command_line_wants_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
