"""Small pipelines of stages that make text, on the fake cluster."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from _loop_kit import START, call_here, no_waiting_for_disks

from neurosweep.core.entry import resolve_entry
from neurosweep.core.files import atomic_write_json, canonical_json, read_json, sha256_bytes
from neurosweep.core.layout import AttemptDir, Home, PipelineDir
from neurosweep.exec.job_api import JobContext
from neurosweep.exec.made import made_files
from neurosweep.exec.protocol import Executor
from neurosweep.pipeline.create import create_pipeline
from neurosweep.pipeline.driver import drive
from neurosweep.pipeline.journal import Hooks, read_state
from neurosweep.pipeline.places import Places
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.state import PipelineState
from neurosweep.research.placing import Pace
from neurosweep.research.toml_text import to_toml
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor, FakeJob, Fate

PACE = Pace(settle_s=5.0, patience_s=60.0, heartbeat_s=1.0, overtime_s=5.0, cancel_s=30.0)
TOY: Mapping[str, Any] = {
    "name": "toy",
    "recipe": "instant",
    "entry": "neurosweep.testing",
    "minutes": 1.0,
    "stall_minutes": 0.5,
    "set": {"data": {"items": 6, "subjects": 3}, "training": {"epochs": 1}},
    "stages": {
        "encoder": {"job": "read"},
        "lora": {"job": "ill", "needs": ["encoder"], "foreach": "subjects"},
        "soup": {"job": "make", "needs": ["lora"], "at_least": 2},
        "decode": {"job": "read", "needs": ["soup", "encoder"]},
        "evaluate": {"job": "evaluate", "needs": ["encoder", "lora", "decode"], "at_least": 2},
    },
}


def toy(**changes: Any) -> dict[str, Any]:
    """Return the toy pipeline with sections changed; of stages, those that are named."""
    data = copy.deepcopy(dict(TOY))
    for key, value in changes.items():
        if key == "stages":
            for name, stage in value.items():
                data["stages"][name] = {**data["stages"].get(name, {}), **stage}
        else:
            data[key] = {**data[key], **value} if isinstance(data.get(key), dict) else value
    return data


def write(path: Path, data: Mapping[str, Any]) -> Path:
    """Write a pipeline file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(data), encoding="utf-8")
    return path


def create(root: Path, data: Mapping[str, Any] = TOY) -> PipelineDir:
    """Create a pipeline under a home of its own."""
    path = write(root / "pipeline.toml", data)
    with (
        mock.patch("neurosweep.pipeline.create.call_entry", call_here),
        no_waiting_for_disks(),
    ):
        return create_pipeline(path, Home(root / "home"), clock=FakeClock(START))


class StageCluster(FakeCluster):
    """Run the stages that jobs name, in this process."""

    def _leave_files(self, job: FakeJob) -> None:
        if job.fate is not Fate.DONE:
            super()._leave_files(job)
            return
        files = job.task.files
        status: dict[str, Any]
        try:
            predictions = self._predict(job)
            files.predictions.write_bytes(predictions)
            listed = {files.predictions.name: sha256_bytes(predictions)} | made_files(files)
            status = {"outcome": "done", "kind": "none", "files": listed}
            self.completions[job.task.trial] += 1
        except ValueError as error:
            told = {"type": type(error).__name__, "text": str(error), "traceback": ""}
            status = {"outcome": "failed", "kind": "user_error", "error": told}
        atomic_write_json(files.status, self._times(job) | status)

    def _predict(self, job: FakeJob) -> bytes:
        folder = job.task.attempt_dir.parents[1]
        run = read_json(folder / "run.json")
        home = folder.parents[3]
        ctx = JobContext(
            attempt_dir=job.task.attempt_dir,
            config=run["config"],
            seed=run["seed"],
            threads=1,
            folds=tuple(home / store for store in run["stores"]),
            log=_quiet,
            beat=_quiet,
            should_stop=lambda: False,
            part=run["part"],
            inputs={name: home / place for name, place in run["inputs"].items()},
        )
        lines = resolve_entry(run["entry"])(ctx)
        return b"".join(canonical_json(line).encode() + b"\n" for line in lines)


def _quiet(*_arguments: object, **_named: object) -> None:
    """Report to nobody."""


class OneCluster(Places):
    """Run every stage on one fake cluster."""

    def __init__(self, pipeline: PipelineDir, cluster: FakeCluster) -> None:
        super().__init__(pipeline, Plan(pipeline, read_state(pipeline).created))
        self.fake = FakeExecutor(cluster)

    def executor(self, stage: str) -> Executor:  # noqa: ARG002
        return self.fake


def new_cluster(**options: Any) -> StageCluster:
    return StageCluster(FakeClock(START), **options)


def run(
    pipeline: PipelineDir, cluster: FakeCluster | None = None, hooks: Hooks | None = None
) -> dict[str, Any]:
    """Run a driver of its own on a cluster."""
    cluster = cluster or new_cluster()
    places = OneCluster(pipeline, cluster)
    with no_waiting_for_disks():
        return drive(pipeline, hooks=hooks, clock=cluster.clock, pace=PACE, places=places)


def state_of(pipeline: PipelineDir) -> PipelineState:
    return read_state(pipeline)


def artifact(pipeline: PipelineDir, task: str) -> Path:
    """Return the folder of what a task made."""
    return Home(pipeline.root.parents[1]).artifact(state_of(pipeline).tasks[task].fp)


def made(pipeline: PipelineDir, task: str) -> str:
    return (artifact(pipeline, task) / "made.txt").read_text(encoding="utf-8")


def attempt(pipeline: PipelineDir, task: str, number: int = 1) -> AttemptDir:
    return pipeline.task(task).attempt(number)
