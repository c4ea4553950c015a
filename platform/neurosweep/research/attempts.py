"""Follow attempts and bring each to its one recorded end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from neurosweep.core.clock import parse_iso
from neurosweep.core.errors import ErrorRecord, ExecutorError, PredictionsError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.heartbeat import held_seconds
from neurosweep.exec.protocol import Executor, TaskPhase, TaskView
from neurosweep.exec.resume import made_progress
from neurosweep.records.state import AttemptState, Phase, TrialState
from neurosweep.records.trial import POLICY, Kind, Outcome
from neurosweep.research.checkpoints import tidy
from neurosweep.research.endings import (
    Ending,
    failed,
)
from neurosweep.research.following import Watch
from neurosweep.research.journal import Journal
from neurosweep.research.placing import Pace, Placement, TaskShape
from neurosweep.research.progress import cancel_reason
from neurosweep.research.scoring import Scored, Scorer

logger = logging.getLogger(__name__)

_BY_MACHINES = frozenset({Kind.NODE_FAILURE, Kind.LOST, Kind.CANCELLED_ADMIN})
_QUICK_S = 60.0


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

    Attributes
    ----------
    closing
        Why everything is ended; None while it is not.
    quick_losses
        How many attempts in a row were lost at once to machines, not to their configuration.
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
        self._watch = Watch(journal.clock, pace)
        self._placement = Placement(journal, executor, shape, pace)
        self.closing: Kind | None = None
        self.quick_losses = 0

    def open_trials(self) -> list[TrialState]:
        """Return the trials whose last attempt has no end yet."""
        trials = self._journal.state.trials.values()
        return [trial for trial in trials if trial.open_attempt is not None]

    @property
    def running(self) -> int:
        """How many open attempts have left their queue."""
        waiting = self._placement.waiting
        phases = [
            self._watch.sighting(key).phase
            for trial in self.open_trials()
            if (key := (trial.plan.trial, len(trial.attempts))) not in waiting
        ]
        return sum(phase is not TaskPhase.QUEUED for phase in phases)

    def recover(self) -> None:
        """Take up what an earlier driver left: score what ended, find what runs."""
        state = self._journal.state
        for trial in state.trials.values():
            if trial.phase is Phase.ENDED:
                self._score_late(trial)
        self._placement.take_up(self.open_trials(), may_submit=self.closing is None)

    def submit(self, round_number: int, trials: Sequence[TrialState]) -> None:
        """Give each trial its next attempt and submit them together."""
        self._placement.submit(round_number, trials)

    def tick(self) -> bool:
        """Look at every open attempt once; return whether anything was recorded."""
        before = self._journal.state.num_events
        self._placement.retry(may_submit=self.closing is None)
        waiting = self._placement.waiting
        try:
            views = self._executor.poll()
        except ExecutorError as error:
            # A query that failed says nothing about the jobs.
            logger.warning("the executor cannot be asked: %s", error)
            self._journal.hooks.on_executor(str(error))
            return self._journal.state.num_events > before
        self._journal.hooks.on_executor(self._placement.trouble or self._executor.trouble)
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

    def _files(self, trial: TrialState, attempt: AttemptState) -> AttemptDir:
        return self._journal.study.trial(trial.plan.trial).attempt(attempt.number)

    def _follow(self, trial: TrialState, attempt: AttemptState, view: TaskView | None) -> None:
        key, files = (trial.plan.trial, attempt.number), self._files(trial, attempt)
        view = self._watch.see(key, view)
        if view.phase is TaskPhase.RUNNING:
            self._note_start(trial, attempt, files)
            self._check_limits(trial, attempt, files, view)
        if self.closing is not None:
            self.ask_end(trial, self.closing, cancel_reason(self._journal.state))
        asked = self._asked(trial, attempt)
        if self._watch.is_over(key, view):
            ending = self._watch.ending(key, files, view, asked, self.closing)
            if ending is not None:
                self._note_start(trial, attempt, files)
                self._finish(trial, attempt, files, ending, view)
        elif asked is not None and self._watch.may_end(key):
            self._cancel(trial, attempt, asked)

    def _note_start(self, trial: TrialState, attempt: AttemptState, files: AttemptDir) -> None:
        if attempt.started_t:
            return
        claimed = self._watch.claimed(files)
        if not claimed.pid:
            return
        data = {"trial": trial.plan.trial, "attempt": attempt.number, "job": attempt.job}
        held = self._executor.allocation
        data |= {
            "host": claimed.machine,
            "pid": claimed.pid,
            "cores": held.cores,
            "gpus": held.gpus,
        }
        first = attempt.intended_t and not claimed.restart
        if first:
            data["queue_s"] = round(max(claimed.t - parse_iso(attempt.intended_t), 0.0), 3)
        self._journal.record("attempt_started", data)

    def _check_limits(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, view: TaskView
    ) -> None:
        key, limits = (
            (trial.plan.trial, attempt.number),
            (self._shape.timeout_s, self._shape.stall_s),
        )
        if not attempt.started_t:
            return
        found = self._watch.overdue(key, files, view, limits, parse_iso(attempt.started_t))
        if found is not None:
            self.ask_end(trial, *found)

    def _finish(
        self,
        trial: TrialState,
        attempt: AttemptState,
        files: AttemptDir,
        ending: Ending,
        view: TaskView,
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
            "cores": self._executor.allocation.cores,
            "gpus": self._executor.allocation.gpus,
            "restarts": max(view.restarts, self._watch.claimed(files).restart),
        }
        # Where the scheduler does not say it, the job did, with its last sign of life.
        # A job that said nothing yet may have been killed later than that.
        said_s = held_seconds(files.heartbeat) or None
        held_s = said_s if view.held_s is None else view.held_s
        if held_s is not None:
            data["held_s"] = round(held_s, 3)
        if scored is not None:
            data["predictions_sha"] = scored.predictions_sha
        if POLICY[ending.kind].refill and made_progress(files):
            data["progressed"] = True
        if self.closing is not None:
            data["final"] = True
        self._journal.record("attempt_ended", data)
        quick = ending.kind in _BY_MACHINES and ending.seconds < _QUICK_S
        self.quick_losses = self.quick_losses + 1 if quick else 0
        self._watch.forget((trial.plan.trial, attempt.number))
        if scored is not None:
            self._record_score(trial, scored)
        tidy(self._journal.study, self._journal.state, trial)

    def _score(
        self, trial: TrialState, attempt: AttemptState, files: AttemptDir, ending: Ending
    ) -> Scored:
        target = self._journal.study.trial(trial.plan.trial).scores_json
        scored = self._scorer.score(trial.plan, attempt.number, files, target, ending.files)
        self._journal.done("scores_json")
        return scored

    def _score_late(self, trial: TrialState) -> None:
        """Score what ended under an earlier driver; what cannot be scored any more has failed."""
        attempt = trial.attempts[-1]
        files = self._files(trial, attempt)
        target: Path = self._journal.study.trial(trial.plan.trial).scores_json
        sha = attempt.predictions_sha
        expected = {files.predictions.name: sha} if sha else {}
        try:
            scored = self._scorer.score(trial.plan, attempt.number, files, target, expected)
        except PredictionsError as error:
            data = {
                "trial": trial.plan.trial,
                "attempt": attempt.number,
                "outcome": Outcome.FAILED.value,
                "kind": Kind.BROKEN_PREDICTIONS.value,
                "error": ErrorRecord("PredictionsError", str(error)).to_dict(),
                "seconds": attempt.seconds,
                "peak_mb": attempt.peak_mb,
                "cores": attempt.cores,
                "revised": True,
            }
            self._journal.record("attempt_ended", data)
        else:
            self._record_score(trial, scored)
        tidy(self._journal.study, self._journal.state, trial)

    def _record_score(self, trial: TrialState, scored: Scored) -> None:
        data = {"trial": trial.plan.trial, "attempt": trial.attempts[-1].number}
        self._journal.record("trial_scored", data | scored.to_dict())
