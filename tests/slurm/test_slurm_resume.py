"""Tasks that leave their place on a real SLURM and come back: short limits, and real training."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _sentence_stores import make_sentence_facts, write_sentence_store
from _slurm_kit import slurm

from neurosweep.core.files import read_json, sha256_file
from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env
from neurosweep.exec import slurm_submit
from neurosweep.exec.executors.slurm import SlurmExecutor
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, TaskPhase, TaskSpec, TaskView
from neurosweep.exec.runner import run_attempt
from neurosweep.testing.attempts import make_task

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("own_cluster"), pytest.mark.timeout(180)]
PLACE_S = 12.0
LIMIT_S = 120.0
MODEL = {
    "family": "conv_conformer",
    "merger_channels": 8,
    "fourier_grid": 4,
    "mixed_channels": 8,
    "conv_width": 16,
    "num_convs": 1,
    "width": 16,
    "num_layers": 1,
    "ffn_width": 16,
    "conformer_kernel": 5,
    "dropout": 0.3,
}


def steps_task(home: Home, trial: str, delay_s: float) -> TaskSpec:
    settings = {"training.epochs": 24, "fault.delay_s": delay_s}
    task = make_task(home, "steps", trial=trial, settings=settings)
    return replace(task, env=code_env(None, 1))


def encoder_task(home: Home, trial: str) -> TaskSpec:
    """A trial that trains a real encoder, a few seconds long."""
    task = make_task(home, trial=trial)
    store = home.root / "store" / "sentences"
    if not store.exists():
        write_sentence_store(store, make_sentence_facts(5), {"train": 8, "dev": 2, "val": 3})
    path = task.attempt_dir.parents[1] / "run.json"
    training = {"epochs": 100, "patience": 100, "batch_size": 2, "device": "cpu"}
    data = {"dataset": "simulated_typing"}
    run: dict[str, Any] = read_json(path)
    run |= {"entry": "neurodecode.jobs.encoder:run", "stores": [str(store)]}
    run |= {"config": {"data": data, "model": MODEL, "training": training}}
    path.write_text(json.dumps(run), encoding="utf-8")
    return replace(task, env=code_env(None, 1))


def undisturbed(task: TaskSpec) -> TaskSpec:
    before = Path.cwd()
    assert run_attempt(task.attempt_dir, isolated=False) == 0
    os.chdir(before)
    return task


def lines(task: TaskSpec) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in task.files.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "t"} for line in found]


def assert_same(task: TaskSpec, calm: TaskSpec) -> None:
    assert lines(task) == lines(calm)
    assert sha256_file(task.files.predictions) == sha256_file(calm.files.predictions)
    weights = [one.files.ckpt / "encoder" / "encoder.safetensors" for one in (task, calm)]
    assert len({sha256_file(path) for path in weights if path.exists()}) <= 1
    assert not task.files.resume.exists()


def executor(home: Home, name: str) -> SlurmExecutor:
    profile = Profile(partition="main", poll_s=0.5, mem_gb=1.0, minutes=5)
    return SlurmExecutor(profile, ExecSettings(home.root / "studies" / name))


def follow(running: SlurmExecutor, end: float) -> dict[Any, TaskView]:
    seen: dict[Any, TaskView] = {}
    while time.monotonic() < end:
        seen |= running.poll()
        if seen and all(view.phase is TaskPhase.ENDED for view in seen.values()):
            return seen
        time.sleep(0.3)
    pytest.fail(f"SLURM says {seen}")


def test_a_task_leaves_a_place_that_is_too_short_or_wanted_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task's places are shorter than its work, the other is warned in the middle of training.

    A place of a minute would be as real, and slower: the task goes by the length it is told.
    """
    home, end = Home(tmp_path), time.monotonic() + LIMIT_S
    trained, stepped = encoder_task(home, "r01t000"), steps_task(home, "r01t001", 0.4)
    long = executor(home, "long")
    [job] = long.submit("resume-a", [trained]).values()
    environ = slurm_submit.task_environ

    def shorter(*args: Any) -> dict[str, str]:
        return environ(*args) | {"NEUROSWEEP_TASK_S": f"{PLACE_S}"}

    monkeypatch.setattr(slurm_submit, "task_environ", shorter)
    short = executor(home, "short")
    short.submit("resume-b", [stepped])

    while not (trained.files.metrics.exists() and len(lines(trained)) >= 10):
        assert time.monotonic() < end
        time.sleep(0.05)
    slurm("scancel", "--batch", "--signal=USR2", job)
    follow(long, end)
    follow(short, end)
    calm = [undisturbed(t) for t in (encoder_task(home, "f01"), steps_task(home, "f02", 0.0))]
    assert read_json(trained.files.status)["restarts"] == 1
    assert "from save 1" in trained.files.log.read_text(encoding="utf-8")
    assert read_json(stepped.files.status)["restarts"] >= 1
    for task, other in zip((trained, stepped), calm, strict=True):
        assert read_json(task.files.status)["outcome"] == "done"
        assert_same(task, other)
