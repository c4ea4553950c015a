"""Plan trials: ask who proposes them, fix them on disk, write them into folders and ledger."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from neurosweep.core.schema import Schema
from neurosweep.records.agent_api import Agent
from neurosweep.records.state import StudyState
from neurosweep.records.trial import Purpose, TrialPlan
from neurosweep.research.aside import aside
from neurosweep.research.journal import Journal
from neurosweep.research.planning import (
    RunFolders,
    floor_plans,
    read_plans,
    search_plans,
    study_seed,
    write_plans,
)
from neurosweep.research.proposals import Accepted, ask, history_of
from neurosweep.research.rounds import Steps
from neurosweep.research.seeds import sampler_rng

CLONE = "clone"


class Refused(Exception):  # noqa: N818 - the agent was, and there is nobody to fall back on
    """Report that an agent was refused too often and no fallback is allowed."""


class Planner:
    """Plan the trials of a study.

    What was fixed on disk is taken up by the next driver; the agent is not asked again.

    Parameters
    ----------
    journal
        Ledger and state.
    folders
        Writes what jobs are to run.
    schema
        Exposed fields.
    agent, fallback
        Who proposes, and who fills in; without a fallback a refused agent raises `Refused`.
    """

    def __init__(
        self,
        journal: Journal,
        folders: RunFolders,
        schema: Schema,
        agent: Agent,
        fallback: Agent | None,
    ) -> None:
        self._journal = journal
        self._folders = folders
        self._schema = schema
        self._agent = agent
        self._fallback = fallback

    @property
    def _state(self) -> StudyState:
        return self._journal.state

    def plan(self, number: int, first: int, count: int) -> Steps:
        """Plan `count` trials of a round from the place `first` on; round 0 is the floor.

        The agent thinks in a thread of its own.

        Yields
        ------
        float
            Seconds to wait while it thinks.

        Raises
        ------
        Refused
            When the agent was refused too often and there is no fallback.
        """
        self._folders.verify_code()
        whole = number == 0 or not self._state.asynchronous
        fixed = read_plans(self._journal.study, number, None if whole else first)
        if fixed is None:
            plans, turn = yield from self._propose(number, first, count)
            place = None if whole else first
            fixed = write_plans(self._journal.study, number, place, plans, turn)
            self._journal.done("round_json")
        known = self._state.rounds.get(number)
        turn = fixed["turn"]
        if turn is not None and (known is None or turn not in known.turns):
            self._journal.record("agent_turn", turn)
        for item in fixed["trials"]:
            if self._folders.write(TrialPlan.from_dict(item)):
                self._journal.done("run_json")
        self._journal.record("round_planned", {"round": number, "trials": fixed["trials"]})

    def _propose(
        self, number: int, first: int, count: int
    ) -> Generator[float, None, tuple[list[TrialPlan], Mapping[str, Any] | None]]:
        if number == 0:
            return floor_plans(self._state, count), None
        clones = pending_clones(self._state)[:count]
        wanted = count - len(clones)
        data: dict[str, Any] = {"round": number, "agent": self._agent.name, "asked": wanted}
        if first:
            data["first"] = first
        accepted = clones
        if wanted:
            accepted = clones + (yield from self._ask(number, first, wanted, data))
        plans = search_plans(self._state, number, first, accepted)
        return plans, data | ({"clones": len(clones)} if clones else {})

    def _ask(
        self, number: int, first: int, wanted: int, data: dict[str, Any]
    ) -> Generator[float, None, list[Accepted]]:
        seed, history = study_seed(self._state), history_of(self._state)
        turn = yield from aside(
            lambda: ask(
                self._agent,
                history,
                wanted,
                self._schema,
                lambda answer: sampler_rng(seed, number, answer, first),
                self._fallback,
            )
        )
        data |= turn.to_dict()
        if len(turn.accepted) < wanted:
            self._journal.record("agent_turn", data)
            reason = f"agent {self._agent.name} was refused {len(turn.refused)} times in a row"
            raise Refused(f"round {number}: {reason}, last for: {turn.refused[-1][0]}")
        return turn.accepted


def pending_clones(state: StudyState) -> list[Accepted]:
    """Return the clones that were asked for and have no place in a round yet, oldest first."""
    asked = [
        Accepted(
            {**state.trials[control["trial"]].plan.overrides, **control["overrides"]},
            idea=f"clone of {control['trial']}: {control.get('reason') or 'on request'}",
            source=CLONE,
        )
        for control in state.controls
        if control.get("action") == CLONE and "refused" not in control
    ]
    placed = sum(trial.plan.source == CLONE for trial in state.of(Purpose.SEARCH))
    return asked[placed:]


def rooms_left(state: StudyState) -> int:
    """Return how many search trials are not planned yet and not promised to clones."""
    budget = state.spec["budget"]
    planned = sum(1 for _ in state.of(Purpose.SEARCH))
    whole = int(budget["rounds"]) * int(budget["trials_per_round"])
    return whole - planned - len(pending_clones(state))
