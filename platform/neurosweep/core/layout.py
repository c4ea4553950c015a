"""Where everything lies: the one place that knows file names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AttemptDir:
    """Name the files of one attempt; only its job writes here, but for `exit`."""

    root: Path

    @property
    def claim(self) -> Path:
        """The claim: created by the one process that runs the attempt."""
        return self.root / "claim.json"

    @property
    def heartbeat(self) -> Path:
        """The last sign of life."""
        return self.root / "heartbeat.json"

    @property
    def metrics(self) -> Path:
        """Curves, one JSON line a step."""
        return self.root / "metrics.jsonl"

    @property
    def predictions(self) -> Path:
        """Hypotheses of the scored items."""
        return self.root / "predictions.jsonl"

    @property
    def log(self) -> Path:
        """What the job printed."""
        return self.root / "log.txt"

    @property
    def ckpt(self) -> Path:
        """Folder of checkpoints."""
        return self.root / "ckpt"

    @property
    def resume(self) -> Path:
        """What an interrupted job goes on from; gone once it has ended."""
        return self.root / "resume"

    @property
    def out(self) -> Path:
        """What a stage of a pipeline makes."""
        return self.root / "out"

    @property
    def status(self) -> Path:
        """Written last: its existence means finished."""
        return self.root / "status.json"

    @property
    def exit(self) -> Path:
        """Exit code or signal, written by the local executor's server."""
        return self.root / "exit.json"


@dataclass(frozen=True)
class TrialDir:
    """Name the files of one trial."""

    root: Path

    @property
    def run_json(self) -> Path:
        """What is to be run."""
        return self.root / "run.json"

    @property
    def scores_json(self) -> Path:
        """Scores, written by the driver."""
        return self.root / "scores.json"

    def attempt(self, number: int) -> AttemptDir:
        """Return the folder of an attempt, counted from 1."""
        return AttemptDir(self.root / "attempts" / str(number))


@dataclass(frozen=True)
class DrivenDir:
    """Name the files of whatever has a ledger and a driver."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The append-only event log."""
        return self.root / "ledger.jsonl"

    @property
    def lock(self) -> Path:
        """The lock of the one driver."""
        return self.root / "lock"

    @property
    def control_dir(self) -> Path:
        """Requests to a running driver, one JSON file each."""
        return self.root / "control"

    @property
    def code_dir(self) -> Path:
        """The immutable snapshot of the decoders' code."""
        return self.root / "code"


@dataclass(frozen=True)
class StudyDir(DrivenDir):
    """Name the files of one study."""

    @property
    def study_id(self) -> str:
        """The study's id: the name of its folder."""
        return self.root.name

    @property
    def study_toml(self) -> Path:
        """The specification as the user wrote it."""
        return self.root / "study.toml"

    @property
    def schema_json(self) -> Path:
        """The frozen configuration schema."""
        return self.root / "schema.json"

    @property
    def report_dir(self) -> Path:
        """The rendered report; may be deleted and rebuilt."""
        return self.root / "report"

    @property
    def mirror_json(self) -> Path:
        """How far MLflow has been brought; may be deleted."""
        return self.root / "mirror.json"

    def round(self, number: int) -> Path:
        """Return the folder of a round; round 0 holds the floor."""
        return self.root / "rounds" / f"{number:02d}"

    def trial(self, trial_id: str) -> TrialDir:
        """Return the folder of a trial."""
        return TrialDir(self.root / "trials" / trial_id)


@dataclass(frozen=True)
class PipelineDir(DrivenDir):
    """Name the files of one pipeline."""

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id: the name of its folder."""
        return self.root.name

    @property
    def pipeline_toml(self) -> Path:
        """The pipeline as it was read: run from here, it is the same one."""
        return self.root / "pipeline.toml"

    @property
    def result_json(self) -> Path:
        """What came out, written by the driver."""
        return self.root / "result.json"

    def scores(self, row: str) -> Path:
        """Return the file of the scores of one row of the result."""
        return self.root / "scores" / f"{row}.json"

    def task(self, task: str) -> TrialDir:
        """Return the folder of a task; it looks like that of a trial."""
        return TrialDir(self.root / "tasks" / task)


@dataclass(frozen=True)
class Home:
    """Name the folders under a user's home of studies."""

    root: Path

    @property
    def mlflow_dir(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def cache_dir(self) -> Path:
        """What can be computed again."""
        return self.root / "cache"

    @property
    def studies_dir(self) -> Path:
        """All studies."""
        return self.root / "studies"

    @property
    def pipelines_dir(self) -> Path:
        """All pipelines."""
        return self.root / "pipelines"

    def pipeline(self, pipeline_id: str) -> PipelineDir:
        """Return the folder of a pipeline."""
        return PipelineDir(self.pipelines_dir / pipeline_id)

    def artifact(self, fp: str) -> Path:
        """Return the folder of what a stage made, under the fingerprint of all it follows from."""
        return self.root / "artifacts" / fp

    @property
    def arenas_dir(self) -> Path:
        """Groups of studies that are compared."""
        return self.root / "arenas"

    def arena(self, arena_id: str) -> Path:
        """Return the folder of an arena."""
        return self.arenas_dir / arena_id

    def store(self, data_fp: str) -> Path:
        """Return the folder of prepared data that jobs may read."""
        return self.root / "store" / data_fp

    def secret(self, data_fp: str) -> Path:
        """Return the folder of references that only the driver reads."""
        return self.root / "secret" / data_fp

    def study(self, study_id: str) -> StudyDir:
        """Return the folder of a study."""
        return StudyDir(self.studies_dir / study_id)


def default_home() -> Home:
    """Return the home named by NEUROSWEEP_HOME, else `neurosweep-home` in this folder."""
    return Home(Path(os.environ.get("NEUROSWEEP_HOME", "neurosweep-home")).absolute())
