"""The state of a study: what folding its ledger gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from neurosweep.core.clock import parse_iso
from neurosweep.records.trial import Kind, Outcome, Purpose, TrialPlan


class Phase(StrEnum):
    """Where a trial stands."""

    PLANNED = "planned"
    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDED = "ended"
    SCORED = "scored"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in (Phase.SCORED, Phase.FAILED)


@dataclass
class AttemptState:
    """Hold one attempt of a trial.

    Attributes
    ----------
    seconds
        Duration of its job, all restarts together.
    cores, gpus
        What it held.
    restarts
        How often its scheduler started it again.
    queue_s
        Seconds from its submission to its first start.
    progressed
        Whether it saved what its successor goes on from.
    held_s
        Seconds for which the scheduler counts its cores and GPUs; at least `seconds`. Of an open
        attempt what its job said last, where somebody asked for it. None when nobody said it.
    """

    number: int
    token: str = ""
    job: str = ""
    host: str = ""
    pid: int = 0
    started_t: str = ""
    ended_t: str = ""
    outcome: Outcome | None = None
    kind: Kind = Kind.NONE
    error: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mb: float = 0.0
    cores: int = 1
    gpus: int = 0
    restarts: int = 0
    queue_s: float = 0.0
    held_s: float | None = None
    progressed: bool = False
    intended_t: str = ""
    predictions_sha: str = ""


@dataclass
class TrialState:
    """Hold one trial with its attempts and, at the end, its scores or its failure."""

    plan: TrialPlan
    phase: Phase = Phase.PLANNED
    attempts: list[AttemptState] = field(default_factory=list)
    metrics: Mapping[str, float] = field(default_factory=dict)
    interval: Mapping[str, Any] = field(default_factory=dict)
    per_subject: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.NONE
    scored_t: str = ""
    scores_sha: str = ""

    @property
    def open_attempt(self) -> AttemptState | None:
        """The last attempt while it has no outcome."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.outcome is None else None


@dataclass
class RoundState:
    """Hold one round; round 0 is the floor."""

    number: int
    trials: list[str] = field(default_factory=list)
    turns: list[Mapping[str, Any]] = field(default_factory=list)
    intents: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    closed: bool = False
    best: Mapping[str, Any] | None = None
    planned_t: str = ""
    closed_t: str = ""


@dataclass
class StudyState:
    """Hold everything that a ledger says about a study."""

    study: str = ""
    created_t: str = ""
    created: Mapping[str, Any] = field(default_factory=dict)
    rounds: dict[int, RoundState] = field(default_factory=dict)
    trials: dict[str, TrialState] = field(default_factory=dict)
    controls: list[Mapping[str, Any]] = field(default_factory=list)
    champions: list[Mapping[str, Any]] = field(default_factory=list)
    vault_openings: list[Mapping[str, Any]] = field(default_factory=list)
    closed: Mapping[str, Any] | None = None
    closed_t: str = ""
    num_events: int = 0

    @property
    def spec(self) -> Mapping[str, Any]:
        """The specification, as data."""
        spec: Mapping[str, Any] = self.created.get("spec", {})
        return spec

    @property
    def config(self) -> Mapping[str, Any]:
        """The unchanged configuration, nested."""
        config: Mapping[str, Any] = self.created.get("config", {})
        return config

    @property
    def references(self) -> str:
        """Path of the validation references, relative to the home; only the driver reads them."""
        place = self.created.get("data_info", {}).get("secret")
        return f"{place or 'secret/' + str(self.created.get('data_fp', ''))}/val_refs.jsonl"

    @property
    def metric(self) -> str:
        """Name of the objective."""
        return str(self.spec.get("objective", {}).get("metric"))

    @property
    def minimize(self) -> bool:
        """Whether lower is better."""
        return bool(self.spec.get("objective", {}).get("direction") != "maximize")

    @property
    def asynchronous(self) -> bool:
        """Whether a freed slot is refilled at once, instead of when its whole round is over."""
        return bool(self.spec.get("execution", {}).get("mode") == "async")

    def of(self, purpose: Purpose) -> Iterator[TrialState]:
        """Yield the trials of a purpose in planned order."""
        return (trial for trial in self.trials.values() if trial.plan.purpose is purpose)

    def value(self, trial: TrialState) -> float | None:
        """Return the objective of a trial, or None while or when it has none."""
        value = trial.metrics.get(self.metric)
        return None if value is None else float(value)

    @property
    def wall_seconds(self) -> float:
        """Seconds from creation to the end, or to the last closed round."""
        ends = [self.closed_t, *(r.closed_t for r in self.rounds.values())]
        last = max((parse_iso(t) for t in ends if t), default=None)
        return 0.0 if last is None or not self.created_t else last - parse_iso(self.created_t)
