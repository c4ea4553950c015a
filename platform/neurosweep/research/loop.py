"""The driver of a study: a state machine that knows nothing but the ledger and the disk.

Every step looks at the state, does one thing that survives the driver's death, and records it.
A driver that dies anywhere is followed by one that folds the ledger and goes on: what was begun
and not recorded is found again on disk or with the executor, never done twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.provenance import code_env
from neurosweep.exec.heartbeat import PERIOD_S
from neurosweep.exec.protocol import Executor
from neurosweep.records.agent_api import Agent
from neurosweep.records.state import Phase, RoundState, StudyState
from neurosweep.records.trial import Purpose
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.best import running_best
from neurosweep.research.commands import Closing, Commands, Paused
from neurosweep.research.journal import Hooks, Journal, disk_error
from neurosweep.research.lock import StudyLock
from neurosweep.research.placing import Pace, TaskShape
from neurosweep.research.planning import RunFolders
from neurosweep.research.progress import (
    DriveResult,
    DriveState,
    cancel_reason,
    closed_as,
    counts_of,
)
from neurosweep.research.pump import MirrorPump, SupportsSync
from neurosweep.research.rounds import Pauses, Steps, interrupted, ready, trials_of, work_off
from neurosweep.research.scoring import Scorer
from neurosweep.research.turns import Planner, Refused

# Before its ledger is read a study gets what it would get if it wanted everything.
_UNKNOWN_DEMAND = 1_000_000
_QUICK_LOSSES = 10


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

    Attributes
    ----------
    study, executor
        As given.
    shares_slots
        Whether somebody else divides the executor's slots; to be set before the first step.
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
        self.study = study
        self.executor = executor
        self.shares_slots = False
        self._agent = agent
        self._fallback = fallback
        self._clock = clock or SystemClock()
        self._hooks = hooks or Hooks()
        self._pace = pace or Pace()
        self._pump = MirrorPump(mirror, clock=self._clock)
        self._lock = StudyLock(study.lock, self._clock)
        self._journal: Journal
        self._desk: AttemptDesk
        self._folders: RunFolders
        self._planner: Planner
        self._commands: Commands
        self._ended: tuple[DriveState, str]
        self._result: DriveResult | None = None

    def run(self) -> DriveResult:
        """Run until the study is closed, paused or interrupted from the keyboard.

        Raises
        ------
        LockedError
            When another driver works on the study, or has taken it over.
        LedgerError
            When the ledger is damaged elsewhere than in a cut last line.
        StudyError
            When the disk is full or the folder is not a study.
        ExecutorError
            When the executor refuses attempts again and again from the start.
        """
        steps = self.steps()
        try:
            for pause_s in steps:
                self._clock.sleep(pause_s)
        except KeyboardInterrupt as interrupt:
            for _ in interrupted(steps, interrupt):
                pass
        return self.result

    @property
    def result(self) -> DriveResult:
        """How the run ended; only after its last step."""
        assert self._result is not None
        return self._result

    def steps(self) -> Steps:
        """Run as `run` does, step by step, and leave the waiting to the caller.

        Yields
        ------
        float
            Seconds to wait before the next step.
        """
        try:
            with self._lock:
                try:
                    self._open()
                    yield from self._drive()
                finally:
                    self.executor.close()
                state, reason = self._ended
                patience_s = 5.0 if state is DriveState.INTERRUPTED else 120.0
                mirrored = yield from self._pump.finishing(patience_s)
                counts = counts_of(self._journal.state)
                self._result = DriveResult(state, reason, **counts, mirrored=mirrored)
        except OSError as error:
            raise disk_error(error, self.study) from error

    @property
    def demand(self) -> int:
        """How many slots the study could use now; 0 after its end."""
        if self._result is not None:
            return 0
        if not hasattr(self, "_journal"):
            return _UNKNOWN_DEMAND
        state, size = self._state, int(self._budget["trials_per_round"])
        unfinished = sum(not trial.phase.final for trial in state.trials.values())
        left = self._whole - sum(1 for _ in state.of(Purpose.SEARCH))
        return unfinished + left if state.asynchronous else unfinished or min(left, size)

    @property
    def slots_wanted(self) -> int | None:
        """The slots that somebody asked for while the study runs, 0 in a pause; None for none."""
        return self._commands.slots if hasattr(self, "_commands") else None

    @property
    def running(self) -> int:
        """How many attempts have left their queue."""
        return self._desk.running if hasattr(self, "_desk") else 0

    def _open(self) -> None:
        self._journal = Journal(self.study, self._clock, self._hooks, self._lock.check)
        created = self._journal.state.created
        self._folders = RunFolders(self.study, created)
        schema = self._folders.schema()
        home = Home(self.study.root.parent.parent)
        references = home.root / created["data_info"]["secret"] / "val_refs.jsonl"
        scorer = Scorer(references, self._journal.state.metric)
        shape = task_shape(created["spec"], self._folders.code_root)
        self._desk = AttemptDesk(self._journal, self.executor, scorer, shape, self._pace)
        self._planner = Planner(self._journal, self._folders, schema, self._agent, self._fallback)
        self._commands = Commands(
            self.study,
            self._journal,
            self._desk,
            self.executor,
            schema,
            owns_slots=not self.shares_slots,
        )

    @property
    def _state(self) -> StudyState:
        return self._journal.state

    @property
    def _budget(self) -> Mapping[str, Any]:
        budget: Mapping[str, Any] = self._state.spec["budget"]
        return budget

    @property
    def _whole(self) -> int:
        return int(self._budget["rounds"]) * int(self._budget["trials_per_round"])

    def _drive(self) -> Steps:
        if self._state.closed is not None:
            self._ended = closed_as(self._state)
            return
        try:
            self._commands.take_up()
            self._commands.obey()
            self._desk.recover()
            if self._state.spec["reserve"]["floor"]:
                yield from self._round(0, self._state.spec["reserve"]["floor"])
                self._stop_when_floor_failed()
            if self._state.asynchronous:
                yield from self._stream()
            else:
                for number in range(1, self._budget["rounds"] + 1):
                    yield from self._round(number, self._budget["trials_per_round"])
            cut = any(trial.kind is self._desk.closing for trial in self._state.trials.values())
            self._close(cancel_reason(self._state) if cut else "complete")
        except Paused as pause:
            self._ended = DriveState.PAUSED, str(pause)
            return
        except Closing as closing:
            self._close(str(closing))
        except KeyboardInterrupt:
            self._ended = DriveState.INTERRUPTED, "interrupted; running trials go on"
            return
        self._ended = closed_as(self._state)

    def _close(self, reason: str) -> None:
        self._journal.record("study_closed", {"reason": reason, **counts_of(self._state)})

    def _round(self, number: int, size: int) -> Steps:
        """Plan a round as a whole, and wait for its last trial."""
        if self._round_state(number).closed:
            return
        if not self._round_state(number).trials:
            yield from self._plan(number, 0, size)
        yield from work_off(
            self._journal,
            self._desk,
            number,
            self._pace,
            may_submit=lambda: not self._commands.want_out,
            each_tick=self._each_tick,
            when_idle=self._commands.leave_when_asked,
        )
        self._close_round(number)

    def _stream(self) -> Steps:
        """Refill a slot as soon as its trial has ended; a round closes with its last trial."""
        pauses = Pauses(self._pace.poll_s)
        planning: Iterator[float] = iter(())
        while any(not self._round_state(number).closed for number in self._numbers):
            self._each_tick()
            # What is begun is ended: the agent may be thinking while trials are watched.
            if next(planning, None) is None and not self._commands.want_out:
                planning = self._refill()
                next(planning, None)
            if not self._commands.want_out:
                for number in self._numbers:
                    self._desk.submit(number, ready(self._state, number))
            moved = self._desk.tick()
            self._hooks.on_tick(self._state)
            for number in self._numbers:
                self._close_when_full(number)
            if not self._desk.running:
                self._commands.leave_when_asked()
            yield pauses.next(moved=moved)

    @property
    def _numbers(self) -> range:
        return range(1, self._budget["rounds"] + 1)

    def _refill(self) -> Steps:
        """Plan as many trials as there are free slots, up to the end of the round."""
        size = self._budget["trials_per_round"]
        number = next((n for n in self._numbers if len(self._round_state(n).trials) < size), None)
        if number is None:
            return
        busy = sum(not trial.phase.final for trial in self._state.of(Purpose.SEARCH))
        first = len(self._round_state(number).trials)
        count = min(self.executor.slots - busy, size - first)
        if count <= 0:
            return
        try:
            yield from self._planner.plan(number, first, count)
        except Refused as refused:
            self._ask_to_pause(str(refused))

    def _close_when_full(self, number: int) -> None:
        found, trials = self._round_state(number), trials_of(self._state, number)
        full = len(trials) == self._budget["trials_per_round"]
        if not found.closed and full and all(trial.phase.final for trial in trials):
            self._close_round(number)

    def _round_state(self, number: int) -> RoundState:
        return self._state.rounds.get(number) or RoundState(number)

    def _plan(self, number: int, first: int, count: int) -> Steps:
        self._commands.obey()
        self._commands.leave_when_asked()
        try:
            yield from self._planner.plan(number, first, count)
        except Refused as refused:
            self._pause(str(refused))

    def _pause(self, reason: str) -> None:
        self._ask_to_pause(reason)
        raise Paused(reason)

    def _ask_to_pause(self, reason: str) -> None:
        """Have the study pause when what runs has ended."""
        self._journal.record("control", {"action": "pause", "reason": reason})

    def _each_tick(self) -> None:
        self._lock.check()
        self._commands.obey()
        self._commands.spend()
        self._rest_when_machines_fail()
        self._pump.nudge()

    def _rest_when_machines_fail(self) -> None:
        """Pause before one broken machine, or an emptied queue, has used up every attempt."""
        if self._desk.quick_losses < _QUICK_LOSSES or self._commands.want_out:
            return
        reason = (
            f"{self._desk.quick_losses} attempts in a row were lost at once to their machines "
            "(`study status` says how, and where the last ones ran); resume when that is mended"
        )
        self._desk.quick_losses = 0
        self._ask_to_pause(reason)

    def _close_round(self, number: int) -> None:
        best = running_best(self._state)
        trials = trials_of(self._state, number)
        done = sum(trial.phase is Phase.SCORED for trial in trials)
        data = {"round": number, "best": None if best is None else best.to_dict()}
        self._journal.record("round_closed", data | {"done": done, "failed": len(trials) - done})
        self._pump.nudge()
        self._hooks.on_round_closed(self.study, number)

    def _stop_when_floor_failed(self) -> None:
        """Pause when the unchanged recipe fails with every seed: searching around it is waste."""
        floor = list(self._state.of(Purpose.FLOOR))
        if any(trial.phase is Phase.SCORED for trial in floor) or len(self._state.rounds) > 1:
            return
        asked_before = any(c.get("action") == "pause" for c in self._state.controls)
        if asked_before or self._commands.want_out:
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
