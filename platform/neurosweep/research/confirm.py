"""Confirm a champion on the sealed test part: frozen first, trained anew, opened once.

The order is the point. The configuration's hash enters the ledger before any job sees a test
input; jobs get test inputs without labels; the labels are opened by the driver alone, after a
line in the ledger says so; and of the sealed part only aggregates are let out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.core.clock import Clock
from neurosweep.core.errors import StudyError
from neurosweep.core.files import sha256_file
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import StudyDir
from neurosweep.exec.protocol import Executor
from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.records.trial import Purpose, TrialPlan
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.best import running_best
from neurosweep.research.confirmation import Confirmation, result_of
from neurosweep.research.journal import Hooks, Journal
from neurosweep.research.lock import StudyLock
from neurosweep.research.loop import task_shape
from neurosweep.research.placing import Pace
from neurosweep.research.planning import RunFolders, full_config, reserve_plan
from neurosweep.research.pump import MirrorPump, SupportsSync
from neurosweep.research.rounds import trials_of, work_off
from neurosweep.research.scoring import Scorer

if TYPE_CHECKING:
    from neurosweep.evaluation.references import Reference


def confirm(
    study: StudyDir,
    executor: Executor,
    *,
    trial: str | None = None,
    reason: str = "",
    mirror: SupportsSync | None = None,
    hooks: Hooks | None = None,
    clock: Clock | None = None,
    pace: Pace | None = None,
) -> Confirmation:
    """Freeze the best configuration, train it with fresh seeds, score it on the test part.

    A confirmation that was interrupted is taken up where it stopped.

    Parameters
    ----------
    study
        Folder of a closed study.
    executor
        Runs the attempts; it is closed at the end.
    trial
        Search trial whose configuration to confirm; default: the best.
    reason
        Why the vault is opened again; needed from the second time on.
    mirror, hooks, clock, pace
        As for `Driver`.

    Raises
    ------
    StudyError
        When the study is not closed, has no score or no test part, or the vault was opened
        before and no reason is given.
    LockedError
        When a driver works on the study.
    """
    try:
        with StudyLock(study.lock, clock):
            journal = Journal(study, clock, hooks)
            case = _Case(journal, executor, pace or Pace(), MirrorPump(mirror, clock=clock))
            return case.run(trial, reason)
    finally:
        executor.close()


class _VaultScorer(Scorer):
    """A scorer that tells the ledger before it reads the first label."""

    def __init__(self, references: Path, metric: str, journal: Journal, number: int) -> None:
        super().__init__(references, metric, part="test")
        self._journal = journal
        self._number = number

    @cached_property
    def references(self) -> dict[str, Reference]:
        opened = self._journal.state.vault_openings
        if all(opening["round"] != self._number for opening in opened):
            champion = self._journal.state.champions[-1]
            data = {
                "round": self._number,
                "champion": champion["trial"],
                "config_sha": champion["config_sha"],
                "reason": champion["reason"],
                "opening": len(opened) + 1,
                "references_sha": sha256_file(self._path),
            }
            self._journal.record("vault_opened", data)
        return super().references


class _Case:
    """One confirmation."""

    def __init__(self, journal: Journal, executor: Executor, pace: Pace, pump: MirrorPump) -> None:
        self._journal = journal
        self._executor = executor
        self._pace = pace
        self._pump = pump
        self._created = journal.state.created
        self._folders = RunFolders(journal.study, self._created)
        self._secret = journal.home.root / self._created["data_info"]["secret"]
        self._store = journal.study.root / "confirm" / "store"

    @property
    def _state(self) -> StudyState:
        return self._journal.state

    def run(self, trial: str | None, reason: str) -> Confirmation:
        if self._state.closed is None:
            study = self._state.study
            msg = f"study {study} is not closed; end it first (`neurosweep study resume {study}`)"
            raise StudyError(msg)
        self._folders.verify_code()
        champion = self._unfinished() or self._freeze(trial, reason)
        number = int(champion["round"])
        self._provide_inputs()
        if not trials_of(self._state, number):
            self._plan(champion)
        self._work_off(number)
        shutil.rmtree(self._store.parent, ignore_errors=True)
        self._pump.finish()
        return result_of(self._state, champion, trials_of(self._state, number))

    def _unfinished(self) -> Mapping[str, Any] | None:
        if not self._state.champions:
            return None
        last = self._state.champions[-1]
        found = self._state.rounds.get(int(last["round"]))
        return None if found is not None and found.closed else last

    def _freeze(self, trial: str | None, reason: str) -> Mapping[str, Any]:
        source = self._source(trial)
        count = self._state.spec["reserve"]["confirm"]
        if count < 1:
            raise StudyError("[reserve] confirm is 0: the study keeps no trials for a confirmation")
        if not reason:
            self._refuse_without_reason()
        config = full_config(self._state.config, source.plan.overrides)
        data = {
            "trial": source.plan.trial,
            "round": max(self._state.rounds) + 1,
            "overrides": dict(source.plan.overrides),
            "config_sha": fingerprint(config, 64),
            "commit": self._created["commit"],
            "code_sha": self._created["code"]["sha"],
            "data_fp": self._created["data_fp"],
            "count": count,
            "reason": reason,
        }
        self._journal.record("champion_frozen", data)
        return data

    def _refuse_without_reason(self) -> None:
        study, closed = self._state.study, self._state.closed or {}
        if self._state.vault_openings:
            earlier = self._state.vault_openings[-1]
            msg = (
                f"the test part was opened before, at {earlier['t']} for {earlier['champion']}; "
                "every further look makes its figures less honest. To open it again say why with "
                "--reason TEXT"
            )
            raise StudyError(msg)
        if closed.get("reason") != "complete":
            msg = (
                f"study {study} was closed before its budget was used ({closed.get('reason')}): "
                "its best trial is not the outcome of the whole search. To confirm it all the same "
                "say why with --reason TEXT"
            )
            raise StudyError(msg)

    def _source(self, trial: str | None) -> TrialState:
        if not self._has_test_part:
            raise StudyError(f"the data of study {self._state.study} have no sealed test part")
        best = running_best(self._state)
        if best is None:
            raise StudyError(f"study {self._state.study} has no scored trial to confirm")
        found = self._state.trials.get(trial or best.trial)
        if found is None or found.plan.purpose is not Purpose.SEARCH:
            raise StudyError(f"{trial!r} is not a search trial of study {self._state.study}")
        if found.phase is not Phase.SCORED:
            raise StudyError(f"trial {trial} ended in {found.kind}; only a scored one is confirmed")
        return found

    @property
    def _has_test_part(self) -> bool:
        return bool(self._created["data_info"].get("final"))

    def _provide_inputs(self) -> None:
        """Give jobs a store with test inputs, in a folder that tells no way to the labels."""
        if self._store.exists():
            return
        source = self._journal.home.root / self._created["data_info"]["final"]
        temporary = self._store.with_name("store.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.parent.mkdir(exist_ok=True)
        shutil.copytree(source, temporary, copy_function=_link_or_copy)
        temporary.rename(self._store)
        self._journal.done("confirm_store")

    def _plan(self, champion: Mapping[str, Any]) -> None:
        number = int(champion["round"])
        first = sum(1 for _ in self._state.of(Purpose.CONFIRM))
        overrides = champion["overrides"]
        plans: list[TrialPlan] = [
            reserve_plan(self._state, Purpose.CONFIRM, number, first + index, overrides)
            for index in range(champion["count"])
        ]
        store = str(self._store.relative_to(self._journal.home.root))
        for plan in plans:
            if self._folders.write(plan, stores=[store]):
                self._journal.done("run_json")
        trials = [plan.to_dict() for plan in plans]
        self._journal.record("round_planned", {"round": number, "trials": trials})

    def _work_off(self, number: int) -> None:
        scorer = _VaultScorer(
            self._secret / "test_refs.jsonl", self._state.metric, self._journal, number
        )
        shape = task_shape(self._state.spec, self._folders.code_root)
        desk = AttemptDesk(self._journal, self._executor, scorer, shape, self._pace)
        desk.recover()
        for pause_s in work_off(
            self._journal,
            desk,
            number,
            self._pace,
            may_submit=lambda: True,
            each_tick=self._pump.nudge,
            when_idle=lambda: None,
        ):
            self._journal.clock.sleep(pause_s)
        trials = trials_of(self._state, number)
        done = sum(trial.phase is Phase.SCORED for trial in trials)
        data = {"round": number, "best": None, "done": done, "failed": len(trials) - done}
        self._journal.record("round_closed", data)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
