"""Pipelines on a real SLURM: edges of the driver, resources of a stage, a driver that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from _pipeline_kit import toy, write

from neurosweep.cli import exits
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.core.provenance import code_env
from neurosweep.pipeline.journal import read_state

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(180)]
LIMIT_S = 120.0
PROFILE = 'partition = "main"\ncores = 1\nmem_gb = 0.5\nminutes = 5\npoll_s = 0.5\n'
SLOW = {"fault": {"hostile": "s02", "delay_s": 4.0}}
STAGES = {"soup": {"mem_gb": 0.25, "cores": 2, "minutes": 2}}


def command(tmp_path: Path, data: dict[str, Any]) -> list[str]:
    (tmp_path / "dev.toml").write_text(PROFILE, encoding="utf-8")
    file = write(tmp_path / "toy.toml", data)
    words = [sys.executable, "-m", "neurosweep.cli", "pipeline", "run", str(file), "--no-mlflow"]
    words += ["--home", str(tmp_path / "home"), "--on", f"slurm:{tmp_path / 'dev.toml'}", "--json"]
    return words


def environment() -> dict[str, str]:
    return {**os.environ, **code_env(None, 1)}


def finish(words: list[str]) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def state_in(home: Path) -> tuple[PipelineDir | None, Any]:
    ledgers = list(Home(home).pipelines_dir.glob("toy-*/ledger.jsonl"))
    if not ledgers:
        return None, None
    pipeline = PipelineDir(ledgers[0].parent)
    return pipeline, read_state(pipeline)


def test_stages_run_one_after_the_other_each_with_its_resources(tmp_path: Path) -> None:
    code, result = finish(command(tmp_path, toy(stages=STAGES)))
    assert (code, result["state"], result["missing"]) == (exits.OK, "complete", [])
    _, state = state_in(tmp_path / "home")
    jobs = {name: task.attempts[-1].job for name, task in state.tasks.items()}
    assert len({jobs[f"lora.s0{n}"].partition("_")[0] for n in (1, 2, 3)}) == 1
    assert state.tasks["soup"].attempts[-1].cores == 2
    shown = subprocess.run(
        ["scontrol", "show", "job", jobs["soup"]],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert "cpu=2,mem=256M" in shown
    assert "TimeLimit=00:03:00" in shown
    assert abs(result["core_hours"] * 3600.0 - accounted_s(list(jobs.values()))) <= len(jobs)


def accounted_s(jobs: Collection[str]) -> float:
    """Return the core-seconds that accounting has for jobs, once all of them are over."""
    query = ["sacct", "-X", "-n", "-P", "-o", "CPUTimeRAW,End", "-j", ",".join(jobs)]
    deadline = time.monotonic() + LIMIT_S
    while True:
        shown = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
        rows = [line.split("|") for line in shown.splitlines()]
        if len(rows) == len(jobs) and all(end != "Unknown" for _, end in rows):
            return float(sum(int(seconds) for seconds, _ in rows))
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_pipeline_without_a_driver_is_cancelled_where_it_ran(tmp_path: Path) -> None:
    words = command(tmp_path, toy(set={"fault": {"delay_s": 60.0}}))
    quiet = subprocess.DEVNULL
    driver = subprocess.Popen(words, env=environment(), stdout=quiet, stderr=quiet)
    end = time.monotonic() + LIMIT_S
    while True:
        pipeline, state = state_in(tmp_path / "home")
        started = state is not None and [
            t.attempts[-1].job
            for t in state.tasks.values()
            if t.task.startswith("lora") and t.attempts and t.attempts[-1].started_t
        ]
        if started:
            break
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert pipeline is not None
    which = ["pipeline", "cancel", pipeline.pipeline_id, "--home", str(tmp_path / "home")]
    code, result = finish([sys.executable, "-m", "neurosweep.cli", *which, "--json"])
    assert (code, result["state"]) == (exits.OK, "cancelled")
    _, state = state_in(tmp_path / "home")
    jobs = [t.attempts[-1].job for t in state.tasks.values() if t.attempts]
    assert abs(result["core_hours"] * 3600.0 - accounted_s(jobs)) <= len(jobs)


def test_a_killed_driver_finds_its_jobs_again_and_a_failed_subject_is_said(tmp_path: Path) -> None:
    words = command(tmp_path, toy(set=SLOW))
    quiet = subprocess.DEVNULL
    driver = subprocess.Popen(words, env=environment(), stdout=quiet, stderr=quiet)
    end = time.monotonic() + LIMIT_S
    while True:
        _, state = state_in(tmp_path / "home")
        if state is not None and any(".lora." in token for token in state.submitted):
            break
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {name: task.attempts[-1].job for name, task in state.tasks.items() if task.attempts}
    code, result = finish(words)
    assert (code, result["state"]) == (exits.OK, "complete")
    missing = [(one["task"], one["kind"]) for one in result["missing"]]
    assert missing == [("lora.s02", "user_error")]
    pipeline, state = state_in(tmp_path / "home")
    assert pipeline is not None
    assert all(len(task.attempts) == 1 for task in state.tasks.values())
    assert before.items() <= {n: task.attempts[0].job for n, task in state.tasks.items()}.items()
    ends = [read_json(path) for path in pipeline.root.glob("tasks/*/attempts/*/status.json")]
    assert sorted(one["outcome"] for one in ends) == ["done"] * 5 + ["failed"]
