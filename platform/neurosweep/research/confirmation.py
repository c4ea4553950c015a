"""What a confirmation came to: the sealed metrics over fresh seeds, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neurosweep.records.state import Phase, StudyState, TrialState
from neurosweep.research.rounds import trials_of

_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class TestMetric:
    """Hold one metric of the test part over the seeds of a confirmation.

    Attributes
    ----------
    mean, sd
        Over seeds; the sd is 0 with one seed.
    low, high
        95 % interval that holds both the draw of items, which all seeds share, and the seeds.
    values
        One a seed.
    """

    __test__ = False

    mean: float
    sd: float
    low: float
    high: float
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Confirmation:
    """Say what the champion reaches on the test part.

    Attributes
    ----------
    champion
        The search trial whose configuration was confirmed.
    opening
        How often the vault had been opened for this study, this time included.
    seeds, failed
        Confirmation trials scored and failed.
    metrics
        ``test_...`` to its figures.
    """

    champion: str
    opening: int
    seeds: int
    failed: int
    metrics: Mapping[str, TestMetric]

    def to_dict(self) -> dict[str, Any]:
        """Return the confirmation as JSON data."""
        return {"v": 1, **asdict(self)}


def confirmation_of(state: StudyState) -> Confirmation | None:
    """Return the last finished confirmation of a study, or None."""
    for champion in reversed(state.champions):
        number = int(champion["round"])
        found = state.rounds.get(number)
        if found is not None and found.closed:
            return result_of(state, champion, trials_of(state, number))
    return None


def result_of(
    state: StudyState, champion: Mapping[str, Any], trials: list[TrialState]
) -> Confirmation:
    """Return what the confirmation trials of a frozen champion came to."""
    scored = [trial for trial in trials if trial.phase is Phase.SCORED]
    names = sorted({name for trial in scored for name in trial.metrics})
    opening = next(
        (o["opening"] for o in state.vault_openings if o["round"] == champion["round"]), 0
    )
    return Confirmation(
        champion=champion["trial"],
        opening=int(opening),
        seeds=len(scored),
        failed=len(trials) - len(scored),
        metrics={name: _metric(name, scored) for name in names},
    )


def _metric(name: str, trials: list[TrialState]) -> TestMetric:
    values = [trial.metrics[name] for trial in trials if name in trial.metrics]
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    ends = [trial.interval["others"][name] for trial in trials if name in trial.metrics]
    widths = [(high - low) / (2.0 * _Z) for low, high in ends]
    # Seeds share the items: averaging over them does not make the draw of items any wider.
    items = sum(width**2 for width in widths) / len(widths)
    half = _Z * (items + spread / len(values)) ** 0.5
    return TestMetric(mean, spread**0.5, mean - half, mean + half, values)
