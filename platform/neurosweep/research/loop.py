"""The driver of a study: a state machine that knows nothing but the ledger and the disk.

Every step looks at the state, does one thing that survives the driver's death, and records it.
A driver that dies anywhere is followed by one that folds the ledger and goes on: what was begun
and not recorded is found again on disk or with the executor, never done twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.provenance import code_env
from neurosweep.core.schema import Schema
from neurosweep.exec.heartbeat import PERIOD_S
from neurosweep.exec.protocol import Executor
from neurosweep.records.agent_api import Agent
from neurosweep.records.state import Phase, RoundState, StudyState
from neurosweep.records.trial import Kind, Purpose, TrialPlan
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.best import running_best
from neurosweep.research.control import Request, pending_requests
from neurosweep.research.journal import Hooks, Journal, disk_error
from neurosweep.research.lock import StudyLock
from neurosweep.research.placing import Pace, TaskShape
from neurosweep.research.planning import (
    RunFolders,
    floor_plans,
    read_round,
    search_plans,
    study_seed,
    write_round,
)
from neurosweep.research.progress import (
    DriveResult,
    DriveState,
    cancel_reason,
    closed_as,
    counts_of,
    hours_used,
    is_cancelled,
    is_paused,
    last_switch,
)
from neurosweep.research.proposals import ask, history_of
from neurosweep.research.pump import MirrorPump, SupportsSync
from neurosweep.research.rounds import trials_of, work_off
from neurosweep.research.scoring import Scorer
from neurosweep.research.seeds import sampler_rng

logger = logging.getLogger(__name__)


class _Paused(Exception):  # noqa: N818 - a way out of the loop, not an error
    """Leave the loop until somebody resumes the study."""


class _Closing(Exception):  # noqa: N818 - a way out of the loop, not an error
    """Leave the loop for good with less than the whole budget."""


class Driver:
    """Run a study from where its ledger ends.

    Parameters
    ----------
    study
        Folder of the study.
    executor
        Runs attempts; it is closed when the driver ends, running attempts go on.
    agent
        Proposes.
    fallback
        Fills rounds that the agent could not; None pauses the study instead.
    mirror
        Brings the ledger to MLflow; None for none.
    clock
        Source of time.
    hooks
        Who is told of what.
    pace
        Waiting times.
    """

    def __init__(
        self,
        study: StudyDir,
        executor: Executor,
        agent: Agent,
        *,
        fallback: Agent | None = None,
        mirror: SupportsSync | None = None,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._study = study
        self._executor = executor
        self._agent = agent
        self._fallback = fallback
        self._clock = clock or SystemClock()
        self._hooks = hooks or Hooks()
        self._pace = pace or Pace()
        self._pump = MirrorPump(mirror, clock=self._clock)
        self._journal: Journal
        self._desk: AttemptDesk
        self._folders: RunFolders
        self._schema: Schema

    def run(self) -> DriveResult:
        """Run until the study is closed, paused or interrupted from the keyboard.

        Raises
        ------
        LockedError
            When another driver works on the study.
        LedgerError
            When the ledger is damaged elsewhere than in a cut last line.
        StudyError
            When the disk is full or the folder is not a study.
        ExecutorError
            When attempts cannot be submitted for a long time.
        """
        with StudyLock(self._study.lock, self._clock):
            try:
                self._open()
                state, reason = self._drive()
            except OSError as error:
                raise disk_error(error, self._study) from error
            finally:
                self._executor.close()
            mirrored = self._pump.finish(5.0 if state is DriveState.INTERRUPTED else 120.0)
            counts = counts_of(self._journal.state)
            return DriveResult(state, reason, **counts, mirrored=mirrored)

    def _open(self) -> None:
        self._journal = Journal(self._study, self._clock, self._hooks)
        created = self._journal.state.created
        self._folders = RunFolders(self._study, created)
        self._schema = self._folders.schema()
        home = Home(self._study.root.parent.parent)
        references = home.root / created["data_info"]["secret"] / "val_refs.jsonl"
        scorer = Scorer(references, self._journal.state.metric)
        shape = task_shape(created["spec"], self._folders.code_root)
        self._desk = AttemptDesk(self._journal, self._executor, scorer, shape, self._pace)

    @property
    def _state(self) -> StudyState:
        return self._journal.state

    def _drive(self) -> tuple[DriveState, str]:
        if self._state.closed is not None:
            return closed_as(self._state)
        try:
            if is_paused(self._state):
                self._journal.record("control", {"action": "resume"})
            self._obey()
            self._desk.recover()
            if self._state.spec["reserve"]["floor"]:
                self._round(0)
                self._stop_when_floor_failed()
            for number in range(1, self._state.spec["budget"]["rounds"] + 1):
                self._round(number)
            self._close("complete")
        except _Paused as pause:
            return DriveState.PAUSED, str(pause)
        except _Closing as closing:
            self._close(str(closing))
        except KeyboardInterrupt:
            return DriveState.INTERRUPTED, "interrupted; running trials go on"
        return closed_as(self._state)

    def _close(self, reason: str) -> None:
        self._journal.record("study_closed", {"reason": reason, **counts_of(self._state)})

    def _round(self, number: int) -> None:
        if self._round_state(number).closed:
            return
        if not self._round_state(number).trials:
            self._plan(number)
        self._work_off(number)
        self._close_round(number)

    def _round_state(self, number: int) -> RoundState:
        return self._state.rounds.get(number) or RoundState(number)

    def _plan(self, number: int) -> None:
        self._obey()
        self._leave_when_asked()
        self._folders.verify_code()
        fixed = read_round(self._study, number)
        if fixed is None:
            fixed = self._propose(number)
            self._journal.done("round_json")
        if fixed["turn"] is not None and fixed["turn"] not in self._round_state(number).turns:
            self._journal.record("agent_turn", fixed["turn"])
        for item in fixed["trials"]:
            if self._folders.write(TrialPlan.from_dict(item)):
                self._journal.done("run_json")
        self._journal.record("round_planned", {"round": number, "trials": fixed["trials"]})

    def _propose(self, number: int) -> dict[str, Any]:
        if number == 0:
            plans = floor_plans(self._state, self._state.spec["reserve"]["floor"])
            return write_round(self._study, 0, plans, None)
        wanted = self._state.spec["budget"]["trials_per_round"]
        seed = study_seed(self._state)
        turn = ask(
            self._agent,
            history_of(self._state),
            wanted,
            self._schema,
            lambda answer: sampler_rng(seed, number, answer),
            self._fallback,
        )
        data = {"round": number, "agent": self._agent.name, "asked": wanted, **turn.to_dict()}
        if len(turn.accepted) < wanted:
            self._journal.record("agent_turn", data)
            reason = f"agent {self._agent.name} was refused {len(turn.refused)} times in a row"
            self._pause(f"round {number}: {reason}, last for: {turn.refused[-1][0]}")
        plans = search_plans(self._state, number, turn.accepted)
        return write_round(self._study, number, plans, data)

    def _pause(self, reason: str) -> None:
        self._journal.record("control", {"action": "pause", "reason": reason})
        raise _Paused(reason)

    def _work_off(self, number: int) -> None:
        work_off(
            self._journal,
            self._desk,
            number,
            self._pace,
            may_submit=lambda: not self._wants_out,
            each_tick=self._each_tick,
            when_idle=self._leave_when_asked,
        )

    def _each_tick(self) -> None:
        self._obey()
        self._spend()
        self._pump.nudge()

    @property
    def _wants_out(self) -> bool:
        return self._desk.closing is not None or is_paused(self._state)

    def _leave_when_asked(self) -> None:
        if self._desk.closing is not None:
            raise _Closing(cancel_reason(self._state))
        if is_paused(self._state):
            raise _Paused(str(last_switch(self._state).get("reason") or "paused on request"))

    def _obey(self) -> None:
        """Consume the requests that wait, each into the ledger first."""
        known = {control.get("request") for control in self._state.controls}
        for request in pending_requests(self._study):
            if request.id not in known:
                self._journal.record("control", request.to_dict())
            if request.action == "stop":
                self._stop(request)
            request.path.unlink(missing_ok=True)
            self._journal.done("request_consumed")
        if self._desk.closing is None and is_cancelled(self._state):
            self._desk.closing = Kind.CANCELLED_USER

    def _stop(self, request: Request) -> None:
        trial = self._state.trials.get(request.trial)
        if trial is not None and trial.open_attempt is not None:
            self._desk.ask_end(trial, Kind.STOPPED, request.reason or "stopped on request")

    def _spend(self) -> None:
        """Close the study when its budget of hours is used up."""
        limit = self._state.spec["budget"]["gpu_hours"]
        if limit is None or self._desk.closing is not None:
            return
        used = hours_used(self._state, self._clock.now())
        if used >= limit:
            reason = f"the budget of {limit:g} hours is used up"
            self._journal.record("control", {"action": "cancel", "by": "budget", "reason": reason})
            self._desk.closing = Kind.CANCELLED_USER

    def _close_round(self, number: int) -> None:
        best = running_best(self._state)
        trials = trials_of(self._state, number)
        done = sum(trial.phase is Phase.SCORED for trial in trials)
        data = {"round": number, "best": None if best is None else best.to_dict()}
        self._journal.record("round_closed", data | {"done": done, "failed": len(trials) - done})
        self._pump.nudge()
        self._hooks.on_round_closed(self._study, number)

    def _stop_when_floor_failed(self) -> None:
        """Pause when the unchanged recipe fails with every seed: searching around it is waste."""
        floor = list(self._state.of(Purpose.FLOOR))
        if any(trial.phase is Phase.SCORED for trial in floor) or len(self._state.rounds) > 1:
            return
        asked_before = any(c.get("action") == "pause" for c in self._state.controls)
        if asked_before or self._wants_out:
            return
        first = floor[0].attempts[-1]
        why = f"{first.kind}: {first.error.get('text', '')}"
        self._pause(f"all {len(floor)} trials of the unchanged recipe failed, the first with {why}")


def task_shape(spec: Mapping[str, Any], code_root: Path | None) -> TaskShape:
    """Return what all tasks of a study have in common.

    Parameters
    ----------
    spec
        The study's specification as data.
    code_root
        Source root of the snapshot that jobs import.
    """
    return TaskShape(
        cores=1,
        memory_mb=spec["execution"]["memory_mb"],
        timeout_s=spec["budget"]["trial_minutes"] * 60.0,
        stall_s=max(spec["execution"]["stall_minutes"] * 60.0, 2.0 * PERIOD_S),
        env=code_env(code_root, 1),
    )
