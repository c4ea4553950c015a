"""SLURM: a round is one array, submitted through submitit and watched by one query a tick."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurosweep.core.errors import ExecutorError, MissingPackageError
from neurosweep.exec.job_api import RunCall
from neurosweep.exec.profiles import Profile, load_profile
from neurosweep.exec.protocol import (
    Allocation,
    ExecSettings,
    TaskKey,
    TaskPhase,
    TaskSpec,
    TaskView,
)
from neurosweep.exec.slurm_state import SlurmRow, accounting_rows, queue_rows, run_slurm, view_of
from neurosweep.records.trial import Kind

# A task that neither squeue nor sacct knows is given this long before it counts as gone:
# accounting lags behind the controller.
_GONE_AFTER_S = 60.0
_DAY_S = 86400.0


def create(option: str | None, settings: ExecSettings) -> SlurmExecutor:
    """Return an executor for the cluster that a profile describes.

    Parameters
    ----------
    option
        Name or path of the profile.
    settings
        Where the study lies and how many attempts run at a time.

    Raises
    ------
    ConfigError
        When the profile cannot be found or holds problems.
    """
    return SlurmExecutor(load_profile(option), settings)


def run_call(call: RunCall) -> int:
    """Run one attempt inside a SLURM task; the only function that is ever submitted."""
    from neurosweep.exec.runner import run_attempt

    return run_attempt(Path(call.attempt_dir))


class SlurmExecutor:
    """Submit attempts as arrays and translate what SLURM says of them.

    Parameters
    ----------
    profile
        The cluster.
    settings
        The study.
    """

    name = "slurm"

    def __init__(self, profile: Profile, settings: ExecSettings) -> None:
        self._profile = profile
        self._settings = settings
        self._jobs: dict[TaskKey, str] = {}
        self._names: dict[TaskKey, str] = {}
        self._views: dict[TaskKey, TaskView] = {}
        self._unknown_since: dict[TaskKey, float] = {}
        self._cancelled: dict[TaskKey, Kind] = {}
        self._last_poll = -math.inf
        self._since = _local_time(time.time() - 7 * _DAY_S)

    @property
    def allocation(self) -> Allocation:
        """What one task holds."""
        return Allocation(self._profile.cores, self._profile.gpus)

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""
        return min(self._settings.workers or self._profile.throttle, self._profile.throttle)

    @property
    def slots_file(self) -> Path | None:
        """File in which several drivers share the throttle."""
        return None

    def submit(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Submit one array, or several when the round is larger than an array may be.

        Raises
        ------
        ExecutorError
            When sbatch refuses; nothing of the refused array was queued.
        """
        jobs: dict[str, str] = {}
        for name, chunk in self._chunks(token, tasks):
            ids = self._submit_array(name, chunk)
            for task, job_id in zip(chunk, ids, strict=True):
                self._register(task, name, job_id)
                jobs[task.trial] = job_id
        return jobs

    def adopt(self, token: str, tasks: Sequence[TaskSpec]) -> dict[str, str]:
        """Find the arrays of a token again by their name.

        Raises
        ------
        ExecutorError
            When SLURM cannot be asked: not knowing is not the same as not there.
        """
        chunks = list(self._chunks(token, tasks))
        names = [name for name, _ in chunks]
        rows = {**accounting_rows(names, self._since), **queue_rows(names)}
        found: dict[str, str] = {}
        for name, chunk in chunks:
            own = [row.job_id for row in rows.values() if row.name == name]
            if not own:
                continue
            array = max(own, key=lambda job: int(job.partition("_")[0])).partition("_")[0]
            for index, task in enumerate(chunk):
                job_id = f"{array}_{index}" if len(chunk) > 1 else array
                self._register(task, name, job_id)
                found[task.trial] = job_id
        return found

    def poll(self) -> Mapping[TaskKey, TaskView]:
        """Ask SLURM about all open tasks, at most once every `poll_s` seconds.

        A query that fails changes nothing: the last known views are returned.
        """
        now = time.monotonic()
        if self._jobs and now - self._last_poll >= self._profile.poll_s:
            self._last_poll = now
            with contextlib.suppress(ExecutorError):
                self._refresh(now)
        return self._report()

    def cancel(self, trial: str, attempt: int, why: Kind) -> None:
        """Cancel one task; its view carries `why`."""
        key = (trial, attempt)
        job_id = self._jobs.get(key)
        if job_id is None:
            return
        self._cancelled[key] = why
        run_slurm(["scancel", job_id])

    def adjust(self, *, slots: int | None = None, poll_s: float | None = None) -> None:  # noqa: ARG002
        """Change the pause between two queries."""
        if poll_s is not None:
            self._profile = self._profile.model_copy(update={"poll_s": poll_s})

    def close(self) -> None:
        """Do nothing: the tasks belong to SLURM."""

    def _chunks(
        self, token: str, tasks: Sequence[TaskSpec]
    ) -> list[tuple[str, Sequence[TaskSpec]]]:
        size = self._profile.max_array
        return [
            (f"{token}-{start // size}", tasks[start : start + size])
            for start in range(0, len(tasks), size)
        ]

    def _register(self, task: TaskSpec, name: str, job_id: str) -> None:
        self._jobs[task.key] = job_id
        self._names[task.key] = name
        self._views[task.key] = TaskView(TaskPhase.QUEUED, job_id=job_id)

    def _submit_array(self, name: str, tasks: Sequence[TaskSpec]) -> list[str]:
        try:
            import submitit
        except ModuleNotFoundError as error:
            msg = "submitting to SLURM needs submitit; install it with pip install submitit"
            raise MissingPackageError(msg) from error
        folder = self._settings.study_dir / "slurm" / name
        folder.mkdir(parents=True, exist_ok=True)
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=0)
        executor.update_parameters(**self._parameters(name, tasks))
        calls = [RunCall(str(task.attempt_dir)) for task in tasks]
        try:
            jobs = executor.map_array(run_call, calls)
        except submitit.core.utils.FailedJobError as error:
            msg = f"sbatch refused the array {name}: {str(error).strip()[-500:]}"
            raise ExecutorError(msg) from error
        except FileNotFoundError as error:
            msg = "sbatch is not installed here; run `neurosweep doctor`, or use --on local"
            raise ExecutorError(msg) from error
        return [str(job.job_id) for job in jobs]

    def _parameters(self, name: str, tasks: Sequence[TaskSpec]) -> dict[str, object]:
        profile = self._profile
        minutes = profile.minutes or math.ceil(max(t.timeout_s for t in tasks) / 60.0) + 1
        exports = [f"export {key}={shlex.quote(value)}" for key, value in tasks[0].env.items()]
        workers = self._settings.workers
        parameters: dict[str, object] = {
            "job_name": name,
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "constraint": profile.constraint,
            "time": minutes,
            "cpus_per_task": profile.cores,
            "array_parallelism": min(profile.throttle, workers or profile.throttle),
            "setup": [*profile.setup, *exports],
            "stderr_to_stdout": True,
            "use_srun": False,
            # An attempt that loses its node is run again as a new attempt in a folder of its
            # own. CONT is harmless to a task that has not yet installed a handler.
            "additional_parameters": {"no-requeue": True, "signal": "CONT@1"},
        }
        if profile.mem_gb is not None:
            parameters["mem"] = f"{math.ceil(profile.mem_gb * 1024)}M"
        if profile.gpus:
            kind = f"{profile.gpu_type}:" if profile.gpu_type else ""
            parameters["gres"] = f"gpu:{kind}{profile.gpus}"
        return {key: value for key, value in parameters.items() if value is not None}

    def _refresh(self, now: float) -> None:
        names = sorted({self._names[key] for key in self._jobs})
        queued = queue_rows(names)
        missing = [key for key, job in self._jobs.items() if job not in queued]
        ended = accounting_rows(names, self._since) if missing else {}
        for key, job_id in self._jobs.items():
            row = queued.get(job_id) or ended.get(job_id)
            if row is None:
                self._not_known(key, job_id, now)
            else:
                self._unknown_since.pop(key, None)
                self._views[key] = self._view(key, row)

    def _view(self, key: TaskKey, row: SlurmRow) -> TaskView:
        view = view_of(row, os.getuid())
        if view.phase is TaskPhase.ENDED and key in self._cancelled:
            return TaskView(
                view.phase, view.job_id, view.reason, kind_hint=self._cancelled[key], host=view.host
            )
        return view

    def _not_known(self, key: TaskKey, job_id: str, now: float) -> None:
        if key in self._cancelled:
            # A task that is cancelled while it waits leaves no line in accounting.
            reason = "cancelled before it started"
            why = self._cancelled[key]
            self._views[key] = TaskView(TaskPhase.ENDED, job_id, reason, kind_hint=why)
            return
        since = self._unknown_since.setdefault(key, now)
        if now - since > _GONE_AFTER_S:
            reason = f"neither squeue nor sacct has known job {job_id} for {now - since:.0f} s"
            self._views[key] = TaskView(TaskPhase.GONE, job_id, reason, kind_hint=Kind.LOST)

    def _report(self) -> dict[TaskKey, TaskView]:
        report = {key: self._views[key] for key in self._jobs}
        for key, view in report.items():
            if view.phase in (TaskPhase.ENDED, TaskPhase.GONE):
                del self._jobs[key]
        return report


def _local_time(t: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(t))
