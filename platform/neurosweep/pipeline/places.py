"""Where the tasks of each stage run: one executor for each kind of place they need."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

from neurosweep.core.errors import ConfigError, PluginError
from neurosweep.core.files import atomic_write_text
from neurosweep.core.layout import PipelineDir
from neurosweep.core.plugins import load_plugin
from neurosweep.core.provenance import code_env
from neurosweep.exec.profiles import Profile, load_profile
from neurosweep.exec.protocol import ExecSettings, Executor
from neurosweep.pipeline.plan import Plan
from neurosweep.pipeline.spec import EVALUATE, PipelineSpec, StageSpec
from neurosweep.research.placing import TaskShape
from neurosweep.research.toml_text import to_toml

_EXECUTORS = "neurosweep.exec.executors"
_SLURM = "slurm"


class Places:
    """Create the executors of a pipeline when they are first asked for.

    Parameters
    ----------
    pipeline
        Its folder.
    plan
        Its tasks.
    on, workers
        What the command line says instead of the pipeline file; a stage that names a place of
        its own stays there.
    """

    def __init__(
        self,
        pipeline: PipelineDir,
        plan: Plan,
        *,
        on: str | None = None,
        workers: int | None = None,
    ) -> None:
        self._dir, self._plan = pipeline, plan
        self._spec: PipelineSpec = plan.spec
        self._on = on or self._spec.on
        self._workers = workers or self._spec.workers
        self._pool: dict[str, object] = {}
        self._executors: dict[str, Executor] = {}
        self._of_stage: dict[str, Executor] = {}
        self._shapes: dict[str, TaskShape] = {}

    def check(self) -> None:
        """Refuse places that do not exist, before anything is done; see `check_places`."""
        check_places(self._spec, self._on)

    def executor(self, stage: str) -> Executor:
        """Return the executor of a stage.

        Raises
        ------
        PluginError, ConfigError, ExecutorError
            When it cannot be created.
        """
        if stage not in self._of_stage:
            kind, option = self._place(self._spec.stages[stage])
            if kind == _SLURM:
                key, option = self._profile(stage, option)
            else:
                key = f"{kind}:{option or ''}"
            if key not in self._executors:
                module = load_plugin(_EXECUTORS, kind, needs=("create",))
                self._executors[key] = module.create(option, self._settings(kind))
            self._of_stage[stage] = self._executors[key]
        return self._of_stage[stage]

    def all(self) -> list[Executor]:
        """Return the executors that were created."""
        return list(self._executors.values())

    def shape(self, stage: str) -> TaskShape:
        """Return what the tasks of a stage may use."""
        if stage not in self._shapes:
            self._shapes[stage] = self._shape(stage)
        return self._shapes[stage]

    def _shape(self, stage: str) -> TaskShape:
        one = self._spec.stages[stage]
        cores = self.executor(stage).allocation.cores
        if self._place(one)[0] != _SLURM:
            cores = one.cores or 1
        minutes = one.minutes or self._spec.minutes
        return TaskShape(
            cores=cores,
            memory_mb=None if one.mem_gb is None else math.ceil(one.mem_gb * 1024),
            timeout_s=minutes * 60.0,
            stall_s=min(self._spec.stall_minutes, minutes) * 60.0,
            env=code_env(self._plan.code_root, cores),
        )

    def limits(self, stage: str) -> dict[str, Any]:
        """Return the limits that run.json gives a job."""
        shape = self.shape(stage)
        return {
            "timeout_s": shape.timeout_s,
            "stall_s": shape.stall_s,
            "memory_mb": shape.memory_mb,
            "threads": shape.cores,
        }

    def close(self) -> None:
        """Let go of all executors; running attempts go on."""
        for executor in self._executors.values():
            executor.close()

    def _jobs(self) -> dict[str, StageSpec]:
        return {n: stage for n, stage in self._spec.stages.items() if stage.job != EVALUATE}

    def _place(self, stage: StageSpec) -> tuple[str, str | None]:
        kind, _, option = (stage.on or self._on).partition(":")
        return kind, option or None

    def _settings(self, kind: str) -> ExecSettings:
        jobs = self._jobs()
        here = [n for n, stage in jobs.items() if self._place(stage)[0] == kind]
        warm = [name for stage in here for name in self._plan.facts(stage).get("warm", [])]
        return ExecSettings(
            study_dir=self._dir.root,
            code_root=self._plan.code_root,
            workers=self._workers,
            cores_per_task=max([jobs[name].cores or 1 for name in here], default=1),
            warm=tuple(dict.fromkeys(warm)),
            pool=self._pool,
        )

    def _profile(self, stage: str, option: str | None) -> tuple[str, str | None]:
        """Return a name and the option of a profile with what a stage says itself."""
        base, one = load_profile(option), self._spec.stages[stage]
        changes = _changes(base, one)
        if not changes:
            return f"{_SLURM}:{option}", option
        profile = base.model_copy(update=changes)
        text = to_toml(profile.model_dump(mode="json"))
        path = self._dir.root / _SLURM / f"{stage}.toml"
        path.parent.mkdir(exist_ok=True)
        atomic_write_text(path, text)
        return f"{_SLURM}:{text}", str(path)


def check_places(spec: PipelineSpec, on: str | None = None) -> None:
    """Refuse places that do not exist, or lack what a stage needs.

    Parameters
    ----------
    spec
        The pipeline.
    on
        What is used instead of the place that it names for all stages.

    Raises
    ------
    ConfigError
        With every problem, when an executor or profile does not exist or holds problems, or a
        stage needs GPUs where there are none.
    """
    problems: dict[str, None] = {}
    for name, stage in spec.stages.items():
        if stage.job != EVALUATE:
            where = f"stages.{name}.on" if stage.on else "on"
            place = stage.on or on or spec.on
            problems |= dict.fromkeys(_place_problems(name, stage, place, where))
    if len(problems) == 1:
        raise ConfigError(next(iter(problems)))
    if problems:
        raise ConfigError(f"{len(problems)} problems\n  " + "\n  ".join(problems))


def _place_problems(name: str, stage: StageSpec, place: str, where: str) -> list[str]:
    kind, _, option = place.partition(":")
    try:
        load_plugin(_EXECUTORS, kind, needs=("create",))
        if kind == _SLURM:
            load_profile(option or None)
    except (ConfigError, PluginError) as error:
        return [f"{where}: {error}"]
    if kind == _SLURM:
        missing = shutil.which("sbatch") is None
        return [f"{where}: sbatch is not installed here, so {place} cannot be used"] * missing
    if stage.gpus:
        text = f"stages.{name}.gpus: is {stage.gpus}, but {kind} gives no GPUs to tasks"
        return [f"{text}; name a cluster, on = 'slurm:PROFILE', or leave it out"]
    return []


def _changes(profile: Profile, stage: StageSpec) -> Mapping[str, Any]:
    given = {"cores": stage.cores, "gpus": stage.gpus, "mem_gb": stage.mem_gb}
    if stage.minutes is not None and profile.minutes is not None:
        # A profile's shorter limit stands: it is what its partition allows.
        given["minutes"] = min(profile.minutes, math.ceil(stage.minutes) + 1)
    return {key: value for key, value in given.items() if value is not None}
