"""Write the batch file of an array with submitit, and hand it to sbatch."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import submitit

from neurosweep.core.errors import ConfigError, ExecutorError, UnreachableError
from neurosweep.core.files import atomic_write_text
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import TaskSpec
from neurosweep.exec.slurm_parts import Part
from neurosweep.exec.slurm_state import run_slurm
from neurosweep.records.log_tail import SETUP_FAILED

SUBMIT_TIMEOUT_S = 60.0
# SLURM sends its warning up to a minute before it is asked to.
_EARLY_S = 60.0
_SHORT_S = 120.0
_MORE_MEMORY = 1.1
# A batch file goes on after a line that fails: at least the task's log says which one it was.
_TELL_FAILURES = (
    f'trap \'printf "{SETUP_FAILED}%s: %s\\n" "$?" "$(sed -n "${{LINENO}}p" "$0")" >&2\' ERR'
)
_ID = re.compile(r"\bjob (\d+)\b")


class _BatchFile(submitit.SlurmExecutor):
    """submitit's batch file, with a light command and without what some clusters refuse."""

    dropped: tuple[str, ...] = ()

    @classmethod
    def affinity(cls) -> int:
        """Return that it can be used: whether sbatch is there shows when it is called."""
        return 2

    def text(self, command: str, number: int) -> str:
        """Return the batch file of an array."""
        self.parameters["map_count"] = number
        lines = str(self._make_submission_file_text(command, "")).splitlines()
        return "\n".join(line for line in lines if not line.startswith(self.dropped)) + "\n"


def submit_part(profile: Profile, part: Part, tasks: Sequence[TaskSpec], level: int) -> str:
    """Submit an array and return its id.

    Parameters
    ----------
    profile
        The cluster.
    part, tasks
        The array.
    level
        Tasks of it that run at a time; 0 holds it until it is released.

    Raises
    ------
    ConfigError
        When a task is shorter than its trial may take, and cannot go on after its end.
    UnreachableError
        When SLURM does not answer, or names no job. It may have queued the array all the same.
    ExecutorError
        When sbatch refuses.
    """
    file = _BatchFile(folder=part.folder, max_num_timeout=0)
    limit_s = limit_minutes(profile, tasks) * 60
    parameters = _parameters(profile, part, tasks, level, limit_s)
    file.dropped = ("#SBATCH --wckey=submitit",)
    if "signal" not in parameters["additional_parameters"]:
        file.dropped += ("#SBATCH --signal=",)
    file.update_parameters(**parameters)
    command = shlex.join([sys.executable, "-u", "-m", "neurosweep.exec.slurm_task"])
    # exec: Python takes the place of the shell, and hears the signals that SLURM sends to it.
    text = file.text(f"exec {command} {shlex.quote(str(part.folder))}", len(tasks))
    atomic_write_text(part.script, text)
    try:
        output = run_slurm(["sbatch", str(part.script)], SUBMIT_TIMEOUT_S)
    except UnreachableError:
        raise
    except ExecutorError as error:
        msg = (
            f"sbatch refused the array {part.name}: {error}; change the profile "
            "(`neurosweep doctor --on slurm:PROFILE` says what does not fit), then resume"
        )
        raise ExecutorError(msg) from error
    answer = _ID.search(output)
    if answer is None:
        msg = f"sbatch named no job id for the array {part.name}: {output.strip()[:200]!r}"
        raise UnreachableError(msg)
    return answer[1]


def log_pattern(part: Part) -> str:
    """Return where SLURM writes what a task prints; in a folder's name % stands for itself."""
    return str(part.folder).replace("%", "%%") + "/%A_%a_0_log.out"


def limit_minutes(profile: Profile, tasks: Sequence[TaskSpec]) -> int:
    """Return the time limit of a task, in minutes.

    Raises
    ------
    ConfigError
        When the profile's own is too short for a task that cannot go on after its end.
    """
    longest = max(task.timeout_s for task in tasks)
    if profile.minutes is None:
        # Room for the start, and for a warning that comes early.
        return math.ceil(longest / 60.0) + (2 if profile.requeue else 1)
    if profile.minutes * 60 < longest and not profile.requeue:
        msg = (
            f"the profile's minutes = {profile.minutes} is less than the {longest / 60.0:g} min "
            "that a trial may take, and requeue = false; raise minutes, or set requeue = true so "
            "that a task goes on from its checkpoint"
        )
        raise ConfigError(msg)
    return profile.minutes


def memory_mb(profile: Profile, tasks: Sequence[TaskSpec]) -> int | None:
    """Return the memory that is asked of SLURM for a task, in MB; None for the cluster's default.

    Raises
    ------
    ConfigError
        When the profile asks for less than its attempt may use.
    """
    limit = max((task.memory_mb or 0 for task in tasks), default=0)
    if profile.mem_gb is None:
        # The attempt ends by its own limit, which says more than SLURM's end of it.
        return math.ceil(limit * _MORE_MEMORY) or None
    asked = math.ceil(profile.mem_gb * 1024)
    if asked < limit:
        msg = (
            f"the profile's mem_gb = {profile.mem_gb:g} is less than the {limit} MB that an "
            "attempt may use; raise mem_gb, or lower the memory limit of the attempts"
        )
        raise ConfigError(msg)
    return asked


def warning_s(profile: Profile, limit_s: float, timeout_s: float) -> int | None:
    """Return how long before its limit a task is warned with USR2; None for no signal.

    A task that has time for its whole trial is not warned of its limit: the runner's own clock
    ends it. It still asks for the signal, with a second to go, because SLURM sends it to what is
    preempted as well. A warning that comes at the start would kill the task: a limit of two
    minutes or less gets none.

    Parameters
    ----------
    profile
        The cluster.
    limit_s
        Time limit of a task, in seconds.
    timeout_s
        Time that its trial may take, in seconds.
    """
    if not profile.requeue or limit_s <= _SHORT_S:
        return None
    if limit_s >= timeout_s + _EARLY_S:
        return 1
    return max(int(min(profile.signal_s, (limit_s - _EARLY_S) / 2)), 1)


def task_environ(profile: Profile, tasks: Sequence[TaskSpec], limit_s: float) -> dict[str, str]:
    """Return the variables that a task is started with."""
    env = dict(tasks[0].env)
    cores = str(profile.cores)
    env |= {name: cores for name in env if name.endswith("_NUM_THREADS")}
    env["NEUROSWEEP_THREADS"] = cores
    env["NEUROSWEEP_TASK_S"] = f"{limit_s:.0f}"
    if profile.requeue:
        env["NEUROSWEEP_REQUEUE"] = "1"
    return env


def _parameters(
    profile: Profile, part: Part, tasks: Sequence[TaskSpec], level: int, limit_s: int
) -> dict[str, Any]:
    further: dict[str, Any] = dict(profile.sbatch)
    further["chdir"] = str(part.folder)
    further["output"] = log_pattern(part)
    further["requeue" if profile.requeue else "no-requeue"] = True
    warning = warning_s(profile, limit_s, max(task.timeout_s for task in tasks))
    # USR2 that comes before Python listens must not end the task: ignored until then.
    setup = [] if warning is None else ["trap '' USR2"]
    if warning is not None:
        further["signal"] = f"B:USR2@{warning}"
    if level == 0:
        further["hold"] = True
    environ = task_environ(profile, tasks, limit_s)
    own = [_TELL_FAILURES, *profile.setup, "trap - ERR"] if profile.setup else []
    # SECONDS is bash's own count: what the setup took is no longer the task's.
    rest = ["export NEUROSWEEP_TASK_S=$((NEUROSWEEP_TASK_S - SECONDS))"] if profile.setup else []
    parameters: dict[str, Any] = {
        "job_name": part.name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "time": limit_s // 60,
        "cpus_per_task": profile.cores,
        "array_parallelism": max(level, 1),
        "setup": [*setup, *own, *_exports(environ), *rest],
        "stderr_to_stdout": True,
        "use_srun": False,
        "additional_parameters": further,
    }
    if (memory := memory_mb(profile, tasks)) is not None:
        parameters["mem"] = f"{memory}M"
    if profile.gpus:
        kind = f"{profile.gpu_type}:" if profile.gpu_type else ""
        parameters["gres"] = f"gpu:{kind}{profile.gpus}"
    return {key: value for key, value in parameters.items() if value is not None}


def _exports(environ: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in environ.items()]
