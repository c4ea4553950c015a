"""Place attempts with an executor and bring each to its one recorded end."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import ExecutorError, PredictionsError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.protocol import Executor, TaskKey, TaskPhase, TaskSpec, TaskView
from neurosweep.records.state import AttemptState, Phase, TrialState
from neurosweep.records.types import Kind
from neurosweep.research.endings import (
    Claimed,
    Ending,
    Hold,
    failed,
    judge_silence,
    progress_mark,
    read_claimed,
    read_status,
    revoke,
)
from neurosweep.research.journal import Journal
from neurosweep.research.scoring import Scored, Scorer

logger = logging.getLogger(__name__)

_GONE = TaskView(TaskPhase.GONE)
_MAX_SUBMIT_FAILURES = 8
_MAX_WAIT_S = 60.0


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


@dataclass
class _Sighting:
    """What the driver remembers of an open attempt; all of it may be forgotten."""

    over: TaskView | None = None
    silent_since: float | None = None
    ended_since: float | None = None
    looked: float = 0.0
    mark: str = ""
    moved: float | None = None


class AttemptDesk:
    """Follow the open attempts of a study from intent to end.

    Parameters
    ----------
    journal
        Ledger and state.
    executor
        Runs the attempts.
    scorer
        Scores predictions.
    shape
        What all tasks have in common.
    pace
        Waiting times.
    """

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        scorer: Scorer,
        shape: TaskShape,
        pace: Pace,
    ) -> None:
        self._journal = journal
        self._executor = executor
        self._scorer = scorer
        self._shape = shape
        self._pace = pace
        self._clock = journal.clock
        self._sightings: dict[TaskKey, _Sighting] = {}
        self._unplaced: dict[str, list[TaskSpec]] = {}
        self._submit_failures = 0
        self._retry_at = 0.0
        self.closing: Kind | None = None

    def open_trials(self) -> list[TrialState]:
        """Return the trials whose last attempt has no end yet."""
        trials = self._journal.state.trials.values()
        return [trial for trial in trials if trial.open_attempt is not None]

    def recover(self) -> None:
        """Take up what an earlier driver left: score what ended, find what runs."""
        state = self._journal.state
        for trial in state.trials.values():
            if trial.phase is Phase.ENDED:
                self._record_score(trial, self._score_again(trial))
        for trial in self.open_trials():
            attempt = trial.open_attempt
            assert attempt is not None
            task = self._task(trial, attempt)
            if not os.path.lexists(task.files.status):
                self._unplaced.setdefault(attempt.token, []).append(task)
        for token in list(self._unplaced):
            self._place(token, fresh=False)

    def submit(self, round_number: int, trials: Sequence[TrialState]) -> None:
        """Give each trial its next attempt and submit them together.

        The intent is in the ledger before anything is submitted: whatever dies after it, the
        next driver looks the attempts up under its token.
        """
        if not trials:
            return
        state = self._journal.state
        number = sum(len(r.intents) for r in state.rounds.values()) + 1
        token = f"{state.study}.r{round_number:02d}.{number:04d}"
        pairs = [[trial.plan.trial, len(trial.attempts) + 1] for trial in trials]
        data = {"token": token, "round": round_number, "trials": pairs}
        self._journal.record("submit_intended", data)
        tasks = []
        for trial in trials:
            attempt = trial.open_attempt
            assert attempt is not None
            tasks.append(self._task(trial, attempt))
        self._unplaced[token] = tasks
        self._place(token, fresh=True)

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

    def _place(self, token: str, *, fresh: bool) -> None:
        tasks = self._unplaced[token]
        for task in tasks:
            task.attempt_dir.mkdir(parents=True, exist_ok=True)
        try:
            jobs = {} if fresh else dict(self._executor.adopt(token, tasks))
            missing = [t for t in tasks if t.trial not in jobs and self._is_free(t)]
            if missing and self.closing is None:
                jobs |= self._executor.submit(token, missing)
                self._journal.done("submit")
        except ExecutorError as error:
            self._postpone(error)
            return
        del self._unplaced[token]
        self._submit_failures = 0
        known = self._jobs_of(token)
        if token not in known or any(known[token].get(t) != job for t, job in jobs.items()):
            self._journal.record("submitted", {"token": token, "jobs": jobs})

    def _is_free(self, task: TaskSpec) -> bool:
        return self._claimed(task.files).hold is Hold.NOBODY

    def _jobs_of(self, token: str) -> dict[str, dict[str, str]]:
        state = self._journal.state
        for round_state in state.rounds.values():
            if token in round_state.submitted:
                pairs = round_state.intents[token]
                return {token: {t: state.trials[t].attempts[k - 1].job for t, k in pairs}}
        return {}

    def _postpone(self, error: ExecutorError) -> None:
        self._submit_failures += 1
        if self._submit_failures >= _MAX_SUBMIT_FAILURES:
            raise error
        wait = min(2.0**self._submit_failures, _MAX_WAIT_S)
        self._retry_at = self._clock.monotonic() + wait
        logger.warning("submission failed, next try in %g s: %s", wait, error)

    def tick(self) -> bool:
        """Look at every open attempt once; return whether anything was recorded."""
        before = self._journal.state.num_events
        if self._unplaced and self._clock.monotonic() >= self._retry_at:
            for token in list(self._unplaced):
                self._place(token, fresh=False)
        waiting = {task.key for tasks in self._unplaced.values() for task in tasks}
        try:
            views = self._executor.poll()
        except ExecutorError as error:
            # A query that failed says nothing about the jobs.
            logger.warning("the executor cannot be asked: %s", error)
            return self._journal.state.num_events > before
        for trial in self.open_trials():
            attempt = trial.open_attempt
            assert attempt is not None
            key = (trial.plan.trial, attempt.number)
            if key not in waiting:
                self._follow(trial, attempt, views.get(key))
        return self._journal.state.num_events > before

    def ask_end(self, trial: TrialState, kind: Kind, reason: str) -> None:
        """Have the open attempt of a trial ended at the next tick; the ledger knows first."""
        attempt = trial.open_attempt
        assert attempt is not None
        if self._asked(trial, attempt) is None:
            data = {"action": "end_attempt", "trial": trial.plan.trial, "attempt": attempt.number}
            data |= {"kind": kind.value, "reason": reason}
            self._journal.record("control", data)

    def _cancel(self, trial: TrialState, attempt: AttemptState, kind: Kind) -> None:
        sighting = self._sighting(trial, attempt)
        sighting.ended_since = self._clock.monotonic()
        try:
            self._executor.cancel(trial.plan.trial, attempt.number, kind)
        except ExecutorError as error:
            logger.warning("%s could not be cancelled: %s", trial.plan.trial, error)

    def _asked(self, trial: TrialState, attempt: AttemptState) -> Kind | None:
        for control in self._journal.state.controls:
            if (
                control.get("action") == "end_attempt"
                and control["trial"] == trial.plan.trial
                and control["attempt"] == attempt.number
            ):
                return Kind(control["kind"])
        return None

    def _sighting(self, trial: TrialState, attempt: AttemptState) -> _Sighting:
        return self._sightings.setdefault((trial.plan.trial, attempt.number), _Sighting())

    def _files(self, trial: TrialState, attempt: AttemptState) -> AttemptDir:
        return self._journal.study.trial(trial.plan.trial).attempt(attempt.number)

    def _follow(self, trial: TrialState, attempt: AttemptState, view: TaskView | None) -> None:
        sighting = self._sighting(trial, attempt)
        if view is None:
            view = sighting.over or _GONE
        if view.phase in (TaskPhase.ENDED, TaskPhase.GONE):
            sighting.over = view
        files = self._files(trial, attempt)
        if view.phase is TaskPhase.RUNNING:
            self._note_start(trial, attempt, files)
            self._check_limits(trial, attempt, files)
        over = view.phase in (TaskPhase.ENDED, TaskPhase.GONE)
        if over or self._given_up(sighting):
            self._conclude(trial, attempt, files, view)
        elif sighting.ended_since is None:
            asked = self._asked(trial, attempt) or self.closing
            if asked is not None:
                self._cancel(trial, attempt, asked)

    def _given_up(self, sighting: _Sighting) -> bool:
        since = sighting.ended_since
        return since is not None and self._clock.monotonic() - since > self._pace.cancel_s

    def _note_start(self, trial: TrialState, attempt: AttemptState, files: AttemptDir) -> None:
        if attempt.started_t:
            return
        claimed = self._claimed(files)
        if not claimed.pid:
            return
        data = {"trial": trial.plan.trial, "attempt": attempt.number, "job": attempt.job}
        self._journal.record("attempt_started", data | {"host": claimed.host, "pid": claimed.pid})

    def _claimed(self, files: AttemptDir) -> Claimed:
        return read_claimed(files, self._clock.now(), self._pace.patience_s)

    def _check_limits(self, trial: TrialState, attempt: AttemptState, files: AttemptDir) -> None:
        sighting = self._sighting(trial, attempt)
        now = self._clock.monotonic()
        if sighting.ended_since is not None or not attempt.started_t:
            return
        ran = self._clock.now() - parse_iso(attempt.started_t)
        if ran > self._shape.timeout_s + self._pace.overtime_s:
            self.ask_end(trial, Kind.TIME_LIMIT, f"ran for {ran:.0f} s")
            return
        if now - sighting.looked < self._pace.heartbeat_s:
            return
        sighting.looked = now
        mark = progress_mark(files.heartbeat)
        if sighting.moved is None or mark != sighting.mark:
            sighting.mark, sighting.moved = mark, now
        elif now - sighting.moved > self._shape.stall_s:
            self.ask_end(trial, Kind.HANG, f"no progress for {now - sighting.moved:.0f} s")

    def _conclude(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> None:
        known = view.kind_hint or self._asked(trial, attempt)
        ending = read_status(files, known)
        if ending is None and self._silence_is_final(trial, attempt, files, view):
            never = self._claimed(files).hold is Hold.NOBODY
            if never and not revoke(files, self._clock):
                return
            # The status may have come between the two looks.
            ending = read_status(files, known)
            known = known or self.closing
            if ending is None and never and known is None:
                ending = failed(Kind.LOST, view.reason or "the job never started")
            ending = ending or judge_silence(view, known)
        if ending is not None:
            self._note_start(trial, attempt, files)
            self._finish(trial, attempt, files, ending)

    def _silence_is_final(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> bool:
        """Return whether no status will come any more."""
        claimed = self._claimed(files)
        if claimed.hold is Hold.NOBODY and view.phase is TaskPhase.ENDED:
            return True  # whoever comes later finds the claim revoked
        sighting = self._sighting(trial, attempt)
        if self._given_up(sighting):
            return True
        if claimed.hold in (Hold.ALIVE, Hold.MAYBE):
            sighting.silent_since = None
            return False
        if claimed.over_here:
            return True
        now = self._clock.monotonic()
        if sighting.silent_since is None:
            sighting.silent_since = now
        return now - sighting.silent_since >= self._pace.settle_s

    def _finish(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, ending: Ending
    ) -> None:
        scored: Scored | None = None
        if ending.done:
            try:
                scored = self._score(trial, attempt, files, ending)
            except PredictionsError as error:
                ending = failed(
                    Kind.BROKEN_PREDICTIONS,
                    str(error),
                    type_="PredictionsError",
                    seconds=ending.seconds,
                )
        data = {
            "trial": trial.plan.trial,
            "attempt": attempt.number,
            "outcome": ending.outcome.value,
            "kind": ending.kind.value,
            "error": dict(ending.error),
            "seconds": ending.seconds,
            "peak_mb": ending.peak_mb,
            "cores": self._shape.cores,
        }
        if self.closing is not None:
            data["final"] = True
        self._journal.record("attempt_ended", data)
        self._sightings.pop((trial.plan.trial, attempt.number), None)
        if scored is not None:
            self._record_score(trial, scored)
        shutil.rmtree(files.ckpt, ignore_errors=True)

    def _score(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, ending: Ending
    ) -> Scored:
        target = self._journal.study.trial(trial.plan.trial).scores_json
        scored = self._scorer.score(trial.plan, attempt.number, files, target, ending.files)
        self._journal.done("scores_json")
        return scored

    def _score_again(self, trial: TrialState) -> Scored:
        attempt = trial.attempts[-1]
        files = self._files(trial, attempt)
        target: Path = self._journal.study.trial(trial.plan.trial).scores_json
        return self._scorer.score(trial.plan, attempt.number, files, target, {})

    def _record_score(self, trial: TrialState, scored: Scored) -> None:
        data = {"trial": trial.plan.trial, "attempt": trial.attempts[-1].number}
        self._journal.record("trial_scored", data | scored.to_dict())
