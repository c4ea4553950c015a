"""The status of a study: one read of its ledger, quick also over thousands of trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from neurosweep.core.clock import Clock, SystemClock, parse_iso
from neurosweep.core.errors import StudyError
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.plugins import near_misses
from neurosweep.records.cost import Cost, study_cost
from neurosweep.records.endings import failed_kinds
from neurosweep.records.fold import load_state
from neurosweep.records.state import Phase, RoundState, StudyState
from neurosweep.records.trial import Purpose
from neurosweep.research.best import Best, top_trials
from neurosweep.research.lock import live_driver
from neurosweep.research.progress import counts_of, hours_used, is_paused, note_held

_TOP = 5


@dataclass(frozen=True)
class RoundStatus:
    """Say where a round stands; round 0 is the floor.

    Attributes
    ----------
    number
        Round.
    phases
        Phase to its number of trials.
    closed
        Whether it is over.
    best
        Running best after it; None before it closed or without any score.
    fallback
        Trials that the fallback proposed.
    """

    number: int
    phases: dict[str, int]
    closed: bool
    best: dict[str, Any] | None
    fallback: int


@dataclass(frozen=True)
class StudyStatus:
    """Say where a study stands.

    Attributes
    ----------
    study, agent, recipe
        Which study.
    stands
        ``complete``, ``incomplete``, ``paused``, ``running`` (a driver works on it) or
        ``resumable`` (none does).
    reason
        Why it was closed or paused; empty otherwise.
    driver
        Who drives it, in words; empty when nobody does.
    metric, minimize
        The objective and its direction.
    planned, done, failed, running, queued
        Search trials: the budget, and how many stand where.
    best
        The best search trials with their intervals, best first.
    floor
        Objective of the unchanged recipe: ``mean``, ``sd``, ``n``.
    rounds
        Every round so far.
    kinds
        Kind of failure to its number of failed trials, all purposes.
    cost
        Of all attempts, running ones included.
    hours
        Those that count against the budget.
    seconds
        Wall time since its creation, to its end or to now.
    """

    study: str
    agent: str
    recipe: str
    stands: str
    reason: str
    driver: str
    metric: str
    minimize: bool
    planned: int
    done: int
    failed: int
    running: int
    queued: int
    best: list[Best] = field(default_factory=list)
    floor: dict[str, float] = field(default_factory=dict)
    rounds: list[RoundStatus] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    hours: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON data."""
        return {"v": 1, **asdict(self), "cost": self.cost.to_dict()}


def study_status(study: StudyDir, clock: Clock | None = None) -> StudyStatus:
    """Return the status of a study.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    """
    state = load_state(study)
    note_held(study, state)
    holder = live_driver(study.lock, clock)
    return status_of(state, "" if holder is None else str(holder), (clock or SystemClock()).now())


def status_of(state: StudyState, driver: str, now: float) -> StudyStatus:
    """Return the status that a folded study has.

    Parameters
    ----------
    state
        The study.
    driver
        Who drives it, in words; empty for nobody.
    now
        Seconds since 1970.
    """
    stands, reason = _stands(state, driver)
    phases = Counter(trial.phase for trial in state.of(Purpose.SEARCH))
    spec = state.spec
    end = parse_iso(state.closed_t) if state.closed_t else now
    return StudyStatus(
        study=state.study,
        agent=str(spec["agent"]["name"]),
        recipe=str(spec["recipe"]),
        stands=stands,
        reason=reason,
        driver=driver,
        metric=state.metric,
        minimize=state.minimize,
        **counts_of(state),
        running=phases[Phase.RUNNING],
        queued=phases[Phase.PLANNED] + phases[Phase.SUBMITTED],
        best=top_trials(state, _TOP),
        floor=floor_of(state),
        rounds=[_round(state, r) for _, r in sorted(state.rounds.items())],
        kinds=failed_kinds(state),
        cost=study_cost(state, now),
        hours=hours_used(state, now),
        seconds=max(end - parse_iso(state.created_t), 0.0),
    )


def floor_of(state: StudyState) -> dict[str, float]:
    """Return mean, standard deviation and number of the floor's values.

    The standard deviation is that of one run over seeds; it is left out below two values.
    """
    found = (state.value(trial) for trial in state.of(Purpose.FLOOR))
    values = [value for value in found if value is not None]
    if not values:
        return {}
    mean = sum(values) / len(values)
    data = {"mean": mean, "n": float(len(values))}
    if len(values) > 1:
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        data["sd"] = variance**0.5
    return data


def find_study(home: Home, name: str) -> StudyDir:
    """Return the study that an id, or the only id that begins so, names.

    Raises
    ------
    StudyError
        When no study or more than one has the name.
    """
    known = list_studies(home)
    matches = [s for s in known if s == name] or [s for s in known if s.startswith(name)]
    if len(matches) == 1:
        return home.study(matches[0])
    if matches:
        listed = ", ".join(matches[:5])
        msg = f"'{name}' is the beginning of {len(matches)} studies: {listed}; give more of the id"
        raise StudyError(msg)
    listed = ", ".join(known[-5:]) or "none yet"
    msg = f"there is no study '{name}' under {home.studies_dir}{near_misses(name, known)}"
    raise StudyError(f"{msg}; there are: {listed}")


def list_studies(home: Home) -> list[str]:
    """Return the ids of all studies of a home, the one last worked on last."""
    if not home.studies_dir.is_dir():
        return []
    folders = [
        folder
        for folder in home.studies_dir.iterdir()
        if not folder.name.startswith(".") and (folder / "ledger.jsonl").is_file()
    ]
    return [f.name for f in sorted(folders, key=lambda f: (f / "ledger.jsonl").stat().st_mtime)]


def _stands(state: StudyState, driver: str) -> tuple[str, str]:
    if state.closed is not None:
        reason = str(state.closed["reason"])
        return ("complete" if reason == "complete" else "incomplete"), reason
    if driver:
        return "running", ""
    if is_paused(state):
        reasons = [c.get("reason", "") for c in state.controls if c.get("action") == "pause"]
        return "paused", str(reasons[-1])
    return "resumable", ""


def _round(state: StudyState, round_state: RoundState) -> RoundStatus:
    trials = [state.trials[trial] for trial in round_state.trials]
    return RoundStatus(
        number=round_state.number,
        phases=dict(Counter(trial.phase.value for trial in trials)),
        closed=round_state.closed,
        best=None if round_state.best is None else dict(round_state.best),
        fallback=sum(trial.plan.source == "fallback" for trial in trials),
    )
