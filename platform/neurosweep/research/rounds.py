"""Work off the planned trials of one round."""

from __future__ import annotations

from collections.abc import Callable

from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.research.attempts import AttemptDesk
from neurosweep.research.journal import Journal
from neurosweep.research.placing import Pace

_SHORTEST_PAUSE_S = 0.01


def trials_of(state: StudyState, number: int) -> list[TrialState]:
    """Return the planned trials of a round, in order."""
    found = state.rounds.get(number)
    return [] if found is None else [state.trials[trial] for trial in found.trials]


def work_off(
    journal: Journal,
    desk: AttemptDesk,
    number: int,
    pace: Pace,
    *,
    may_submit: Callable[[], bool],
    each_tick: Callable[[], None],
    when_idle: Callable[[], None],
) -> None:
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
        Called when no attempt is open and trials are left; it may leave by an exception.
    """
    pause = _SHORTEST_PAUSE_S
    while True:
        each_tick()
        if may_submit():
            desk.submit(number, _ready(journal.state, number))
        moved = desk.tick()
        journal.hooks.on_tick(journal.state)
        if not desk.open_trials():
            if all(trial.phase.final for trial in trials_of(journal.state, number)):
                return
            when_idle()
        pause = _SHORTEST_PAUSE_S if moved else min(pause * 1.5, pace.poll_s)
        journal.clock.sleep(pause)


def _ready(state: StudyState, number: int) -> list[TrialState]:
    return [
        trial
        for trial in trials_of(state, number)
        if trial.phase is Phase.PLANNED and trial.open_attempt is None
    ]
