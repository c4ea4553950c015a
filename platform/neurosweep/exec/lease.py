"""A task's place on a cluster: how long it lasts, and how the task gives it up and comes back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from neurosweep.exec.claim import JOB_VARIABLE

logger = logging.getLogger(__name__)

REQUEUE_VARIABLE = "NEUROSWEEP_REQUEUE"
SECONDS_VARIABLE = "NEUROSWEEP_TASK_S"

_COMMAND_TIMEOUT_S = 20.0
_RUNNING = "RUNNING"


@dataclass(frozen=True)
class Lease:
    """Say what a scheduler gave a task.

    Attributes
    ----------
    job
        The scheduler's name of the task.
    requeue
        Whether the task may be started again and go on: asked to end, it saves and leaves.
    seconds
        Length of its time, in seconds; None when it does not know.
    """

    job: str = ""
    requeue: bool = False
    seconds: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], job: str) -> Lease:
        """Return the lease that the executor's variables describe; anything odd is left out.

        A worker of the local executor has none, though its driver may itself be such a task.
        """
        if environ.get(REQUEUE_VARIABLE) != "1" or environ.get(JOB_VARIABLE):
            return cls(job)
        try:
            seconds = float(environ.get(SECONDS_VARIABLE, ""))
        except ValueError:
            return cls(job, True)
        return cls(job, True, seconds if seconds > 0 else None)

    def come_back(self) -> bool:
        """Have the scheduler queue this task again; return whether it will.

        A task that exits in its grace time counts as ended and is not queued again, so it asks
        for that itself. One that the scheduler already ends is left to it: a request of ours
        would bring a cancelled task back to life.
        """
        state = _answer(["squeue", "-h", "-j", self.job, "-o", "%T"])
        if state is None or state.strip() != _RUNNING:
            logger.info("%s is %s; its scheduler decides", self.job, (state or "unknown").strip())
            return False
        return _answer(["scontrol", "requeue", self.job]) is not None


def _answer(command: list[str]) -> str | None:
    """Return what a command printed; None when it failed."""
    import subprocess  # a task that nobody interrupts starts sooner without it

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s: %s", command[0], error)
        return None
    if done.returncode != 0:
        logger.warning("%s: %s", " ".join(command), done.stderr.strip()[:500])
        return None
    return done.stdout
