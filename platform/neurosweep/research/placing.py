"""Place attempts with executors: the intent first, and never a second time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from neurosweep.exec.protocol import Executor, TaskKey, TaskSpec
from neurosweep.records.state import AttemptState, TrialState
from neurosweep.research.endings import is_told_by_executor
from neurosweep.research.journal import Journal
from neurosweep.research.placer import Placer, is_news


@dataclass(frozen=True)
class Pace:
    """Hold the waiting times of the loop, in seconds.

    Attributes
    ----------
    poll_s
        Longest pause between two ticks.
    settle_s
        How long a result may take to appear after its process ended on another machine.
    heartbeat_s
        Pause between two looks at a job's heartbeat.
    patience_s
        How long a claim on another machine is believed without a sign of life.
    overtime_s
        Added to a job's time limit before the driver ends it itself.
    cancel_s
        How long an ended job may take to die before it is given up.
    """

    poll_s: float = 0.25
    settle_s: float = 10.0
    heartbeat_s: float = 5.0
    patience_s: float = 300.0
    overtime_s: float = 60.0
    cancel_s: float = 60.0


@dataclass(frozen=True)
class TaskShape:
    """Hold what all tasks of a study have in common.

    Attributes
    ----------
    cores, memory_mb, timeout_s, env
        As in `TaskSpec`.
    stall_s
        No progress for so long is a hang, seconds.
    """

    cores: int
    memory_mb: int | None
    timeout_s: float
    stall_s: float
    env: Mapping[str, str] = field(default_factory=dict)


class Placement:
    """Submit attempts, and find those again that an earlier driver submitted.

    Parameters
    ----------
    journal
        Ledger and state.
    executor
        Runs the attempts.
    shape
        What all tasks have in common.
    pace
        Waiting times.
    """

    def __init__(self, journal: Journal, executor: Executor, shape: TaskShape, pace: Pace) -> None:
        self._journal = journal
        self._shape = shape
        self._placer = Placer(lambda _: executor, journal.done, journal.clock, pace)

    @property
    def waiting(self) -> set[TaskKey]:
        """Attempts that are intended and not yet with the executor."""
        return self._placer.waiting

    @property
    def trouble(self) -> str:
        """Why something is not submitted yet; empty when nothing is held up."""
        return self._placer.trouble

    def submit(self, round_number: int, trials: Sequence[TrialState]) -> None:
        """Give each trial its next attempt and submit them together.

        The intent is in the ledger before anything is submitted: whatever dies after it, the
        next driver looks the attempts up under its token.

        Raises
        ------
        ExecutorError
            When the executor refuses again and again from the start.
        """
        if not trials:
            return
        state = self._journal.state
        number = sum(len(r.intents) for r in state.rounds.values()) + 1
        token = f"{state.study}.r{round_number:02d}.{number:04d}"
        pairs = [[trial.plan.trial, len(trial.attempts) + 1] for trial in trials]
        data = {"token": token, "round": round_number, "trials": pairs}
        self._journal.record("submit_intended", data)
        for trial in trials:
            self._placer.add(token, self._task(trial, _open(trial)))
        self._place(token, known=False, may_submit=True)

    def take_up(self, trials: Sequence[TrialState], *, may_submit: bool) -> None:
        """Find the open attempts of an earlier driver; submit those that never started.

        Parameters
        ----------
        trials
            Trials with an open attempt.
        may_submit
            Whether those that never started are still wanted.

        Raises
        ------
        ExecutorError
            When the executor refuses again and again from the start.
        """
        for trial in trials:
            task = self._task(trial, _open(trial))
            if is_told_by_executor(task.files):
                self._placer.add(_open(trial).token, task)
        for token in self._placer.tokens:
            self._place(token, known=True, may_submit=may_submit)

    def retry(self, *, may_submit: bool) -> None:
        """Try again what could not be submitted, when its waiting time is over.

        Raises
        ------
        ExecutorError
            When the executor refuses again and again from the start.
        """
        for token in self._placer.tokens if self._placer.is_time else ():
            self._place(token, known=True, may_submit=may_submit)

    def _task(self, trial: TrialState, attempt: AttemptState) -> TaskSpec:
        folder = self._journal.study.trial(trial.plan.trial).attempt(attempt.number).root
        shape = self._shape
        return TaskSpec(
            trial.plan.trial,
            attempt.number,
            folder,
            shape.cores,
            shape.memory_mb,
            shape.timeout_s,
            shape.env,
        )

    def _place(self, token: str, *, known: bool, may_submit: bool) -> None:
        jobs = self._placer.place(token, known=known, may_submit=may_submit)
        if jobs is not None and is_news(jobs, self._recorded(token)):
            self._journal.record("submitted", {"token": token, "jobs": jobs})

    def _recorded(self, token: str) -> dict[str, str] | None:
        """Return trial to job id as the ledger has them; None before ``submitted``."""
        state = self._journal.state
        for round_state in state.rounds.values():
            if token in round_state.submitted:
                pairs = round_state.intents[token]
                return {trial: state.trials[trial].attempts[k - 1].job for trial, k in pairs}
        return None


def _open(trial: TrialState) -> AttemptState:
    attempt = trial.open_attempt
    assert attempt is not None
    return attempt
