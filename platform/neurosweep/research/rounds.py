"""Work off the planned trials of one round."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.journal import Journal
from neurosweep.research.placing import Pace

SHORTEST_PAUSE_S = 0.01

Steps = Generator[float, None, None]
"""What a driver does, step by step; each step yields how many seconds it would wait now."""


def trials_of(state: StudyState, number: int) -> list[TrialState]:
    """Return the planned trials of a round, in order."""
    found = state.rounds.get(number)
    return [] if found is None else [state.trials[trial] for trial in found.trials]


def ready(state: StudyState, number: int) -> list[TrialState]:
    """Return the trials of a round that wait for an attempt."""
    return [
        trial
        for trial in trials_of(state, number)
        if trial.phase is Phase.PLANNED and trial.open_attempt is None
    ]


def interrupted(steps: Steps, error: BaseException) -> Steps:
    """Let steps meet an exception that came while they waited, and yield what they still do."""
    try:
        yield steps.throw(error)
    except StopIteration:
        return
    yield from steps


@dataclass
class Pauses:
    """Wait a moment after something happened, and longer and longer while nothing does.

    Attributes
    ----------
    longest_s
        Upper limit.
    """

    longest_s: float
    _now_s: float = SHORTEST_PAUSE_S

    def next(self, *, moved: bool) -> float:
        """Return the pause after a tick."""
        self._now_s = SHORTEST_PAUSE_S if moved else min(self._now_s * 1.5, self.longest_s)
        return self._now_s


def work_off(
    journal: Journal,
    desk: AttemptDesk,
    number: int,
    pace: Pace,
    *,
    may_submit: Callable[[], bool],
    each_tick: Callable[[], None],
    when_idle: Callable[[], None],
) -> Steps:
    """Bring every trial of a round to its end.

    Parameters
    ----------
    journal
        Ledger and state.
    desk
        Follows the attempts.
    number
        Round.
    pace
        Waiting times.
    may_submit
        Whether trials may be given a further attempt now.
    each_tick
        Called before every look at the attempts.
    when_idle
        Called when no attempt runs and trials are left; it may leave by an exception.

    Yields
    ------
    float
        Seconds to wait before the next look.
    """
    pauses = Pauses(pace.poll_s)
    while True:
        each_tick()
        if may_submit():
            desk.submit(number, ready(journal.state, number))
        moved = desk.tick()
        journal.hooks.on_tick(journal.state)
        if all(trial.phase.final for trial in trials_of(journal.state, number)):
            return
        if not desk.running:
            when_idle()
        yield pauses.next(moved=moved)
