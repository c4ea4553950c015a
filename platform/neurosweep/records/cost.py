"""What a study cost: hours of cores and GPUs, waiting, idle slots and waste, from its state alone.

An attempt costs what it holds, from its first start to its end, whether it computes or not.
An attempt whose trial has no score of it is waste; so is all but the last attempt of a trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.records.state import AttemptState, Phase, StudyState, TrialState

_HOUR_S = 3600.0
_WHOLE_S = 1.0  # accounting counts in whole seconds


@dataclass(frozen=True)
class Cost:
    """Hold the cost of some attempts.

    Attributes
    ----------
    core_hours, gpu_hours
        Held, all attempts together.
    lost_core_hours, lost_gpu_hours
        The share of them that ended in no score.
    attempts, restarts
        Attempts that started, and how often a scheduler started one of them again.
    queue_s, queue_max_s
        Seconds from submission to first start: sum and longest.
    idle
        Share of the slots' time in which nothing ran, see `idle_share`; None when nothing ran
        or for a part that had no slots of its own.
    """

    core_hours: float = 0.0
    gpu_hours: float = 0.0
    lost_core_hours: float = 0.0
    lost_gpu_hours: float = 0.0
    attempts: int = 0
    restarts: int = 0
    queue_s: float = 0.0
    queue_max_s: float = 0.0
    idle: float | None = None

    @property
    def queue_mean_s(self) -> float:
        """Seconds that an attempt waited on average; 0 when none started."""
        return self.queue_s / self.attempts if self.attempts else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the cost as JSON data, rounded to what is worth reading."""
        return {
            "core_hours": round(self.core_hours, 5),
            "gpu_hours": round(self.gpu_hours, 5),
            "lost_core_hours": round(self.lost_core_hours, 5),
            "lost_gpu_hours": round(self.lost_gpu_hours, 5),
            "attempts": self.attempts,
            "restarts": self.restarts,
            "queue_mean_s": round(self.queue_mean_s, 3),
            "queue_max_s": round(self.queue_max_s, 3),
            "queue_total_s": round(self.queue_s, 3),
            "idle": None if self.idle is None else round(self.idle, 4),
        }


def trial_cost(trial: TrialState, now: float | None = None) -> Cost:
    """Return what a trial cost.

    Parameters
    ----------
    trial
        The trial.
    now
        Seconds since 1970, to count what runs up to now; None counts attempts that ended.
    """
    return _sum([trial], now, None)


def round_cost(state: StudyState, number: int, now: float | None = None) -> Cost:
    """Return what a round cost; see `trial_cost` for `now`.

    A round of an asynchronous study shares its slots with others and has no idle share.
    """
    trials = [state.trials[name] for name in state.rounds[number].trials]
    alone = number == 0 or not state.asynchronous
    return _sum(trials, now, idle_share([trials], now) if alone else None)


def study_cost(state: StudyState, now: float | None = None) -> Cost:
    """Return what a study cost, all purposes together; see `trial_cost` for `now`.

    The time between rounds counts as idle nowhere: nobody held a slot then. The rounds of an
    asynchronous study count as one.
    """
    rounds = [
        [state.trials[name] for name in found.trials] for _, found in sorted(state.rounds.items())
    ]
    if state.asynchronous:
        floor = [trials for trials in rounds if trials and trials[0].plan.round == 0]
        search = [trial for trials in rounds for trial in trials if trial.plan.round > 0]
        rounds = [*floor, search]
    return _sum(state.trials.values(), now, idle_share(rounds, now))


def idle_share(groups: Iterable[Iterable[TrialState]], now: float | None = None) -> float | None:
    """Return ``1 - busy / (slots * wall)``, summed over groups before it is divided.

    Per group, which is a round: ``busy`` is the sum of the seconds for which its attempts were
    held; ``wall`` runs from its first submission to the end of its last attempt; ``slots`` is the
    largest number of its jobs that ran at the same moment. A slot that nobody ever used, because
    the scheduler had fewer to give, is therefore not idle. The time of a pause, or for which
    nobody drove the study in the middle of a round, is idle as all time in which nothing ran.
    """
    busy = capacity = 0.0
    for trials in groups:
        spans = [span for trial in trials for span in _spans(trial, now)]
        if not spans:
            continue
        wall = max(span.end for span in spans) - min(span.intended for span in spans)
        busy += sum(span.end - span.start for span in spans)
        capacity += wall * _peak(spans)
    return max(1.0 - busy / capacity, 0.0) if capacity > 0 else None


def held_seconds(attempt: AttemptState, now: float | None = None) -> float:
    """Return for how long an attempt held its cores; what runs counts up to now, when given.

    Of what runs its job may have said it, see `AttemptState.held_s`; else it held them from its
    start on.
    Of a job that was killed nobody may have said how long it ran: then it is the time until its
    end was noticed.
    """
    ended = attempt.outcome is not None
    if ended and (attempt.held_s is not None or attempt.seconds):
        return max(attempt.held_s or 0.0, attempt.seconds)
    end = parse_iso(attempt.ended_t) if ended and attempt.ended_t else now
    if end is None or not attempt.started_t:
        return 0.0
    passed = max(end - _start(attempt), 0.0)
    # An attempt that was pushed aside waits for a place again, and holds none meanwhile.
    return min(attempt.held_s, passed) if attempt.held_s and not ended else passed


def budget_hours(state: StudyState, now: float) -> float:
    """Return the hours that count against a budget: of GPUs, or of cores of a task without GPU."""
    attempts = (attempt for trial in state.trials.values() for attempt in trial.attempts)
    return sum(held_seconds(a, now) * (a.gpus or a.cores) for a in attempts) / _HOUR_S


def hours_text(hours: float) -> str:
    """Return hours with two digits that count.

    Examples
    --------
    >>> hours_text(12.345), hours_text(0.0123), hours_text(0.0004)
    ('12.35', '0.012', '< 0.001')
    """
    if hours >= 0.1 or hours == 0:
        return f"{hours:.2f}"
    return f"{hours:.3f}" if hours >= 0.001 else "< 0.001"


def _sum(trials: Iterable[TrialState], now: float | None, idle: float | None) -> Cost:
    core = gpu = lost_core = lost_gpu = waited = longest = 0.0
    started = restarts = 0
    for trial in trials:
        for attempt in trial.attempts:
            hours = held_seconds(attempt, now) / _HOUR_S
            core += hours * attempt.cores
            gpu += hours * attempt.gpus
            if _is_lost(trial, attempt):
                lost_core += hours * attempt.cores
                lost_gpu += hours * attempt.gpus
            restarts += attempt.restarts
            if attempt.started_t:
                started += 1
                waited += attempt.queue_s
                longest = max(longest, attempt.queue_s)
    return Cost(core, gpu, lost_core, lost_gpu, started, restarts, waited, longest, idle)


def _is_lost(trial: TrialState, attempt: AttemptState) -> bool:
    if attempt.outcome is None:
        return False
    return attempt is not trial.attempts[-1] or trial.phase in (Phase.FAILED, Phase.PLANNED)


def _start(attempt: AttemptState) -> float:
    """Return when an attempt first started; the ledger's line comes a look of the driver later."""
    noted = parse_iso(attempt.started_t)
    if not attempt.queue_s or not attempt.intended_t:
        return noted
    return min(parse_iso(attempt.intended_t) + attempt.queue_s, noted)


@dataclass(frozen=True)
class _Span:
    """When an attempt was submitted, started, left by its job and given back, as far as known."""

    intended: float
    start: float
    left: float
    end: float


def _spans(trial: TrialState, now: float | None) -> Iterator[_Span]:
    for attempt in trial.attempts:
        held = held_seconds(attempt, now)
        if attempt.started_t and held > 0:
            start = _start(attempt)
            intended = parse_iso(attempt.intended_t) if attempt.intended_t else start
            yield _Span(min(intended, start), start, start + _ran(attempt, held), start + held)


def _ran(attempt: AttemptState, held: float) -> float:
    """Return for how long a job surely ran: its successor in the slot may be there already."""
    if attempt.outcome is None:
        return held
    return attempt.seconds or max((attempt.held_s or 0.0) - _WHOLE_S, 0.0)


def _peak(spans: list[_Span]) -> int:
    """Return how many jobs ran at once, as far as it is certain; one at least."""
    marks = [(span.start, 1) for span in spans] + [(span.left, -1) for span in spans]
    return max(1, *accumulate(step for _, step in sorted(marks)))
