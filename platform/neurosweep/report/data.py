"""Everything a report says, gathered from a study's ledger and schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neurosweep.core.config import flatten
from neurosweep.core.errors import ConfigError, DataError, StudyError
from neurosweep.core.files import read_json
from neurosweep.core.layout import StudyDir
from neurosweep.core.schema import FieldSpec, Schema, Value
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.metric_names import variant_label, variant_of
from neurosweep.records.mlflow_names import clean_text, short_names, show_value
from neurosweep.records.mlflow_points import better, subject_values
from neurosweep.records.state import Phase, RoundState, StudyState, TrialState
from neurosweep.records.trial import Purpose
from neurosweep.report.scales import to_unit
from neurosweep.report.stats import Importance, expected_luck, importance, mean_sd
from neurosweep.report.theme import round_colours

_METRIC_LABELS = {
    "val_cer": "validation CER",
    "val_wer": "validation WER",
    "val_acc": "validation accuracy",
    "val_window_err": "validation error per window",
    "test_cer": "test CER",
    "test_wer": "test WER",
    "test_acc": "test accuracy",
    "test_window_err": "test error per window",
}
_MAX_CHANGES = 2


def metric_label(metric: str) -> str:
    """Return a metric's name as an axis shows it."""
    variant = variant_of(metric)
    if variant is not None:
        return f"{metric_label(variant[0])}, {variant_label(variant[1])}"
    return _METRIC_LABELS.get(metric, metric.replace("_", " "))


@dataclass(frozen=True)
class Improvement:
    """Hold a strict improvement of the running best.

    Attributes
    ----------
    number
        Its place among the improvements, from 1.
    position
        Place of the trial among all search trials, from 1.
    changes
        What differs from the best before, as text, the most telling first.
    idea
        What the agent said it tried; empty where it says the same of many trials.
    """

    number: int
    trial: TrialState
    value: float
    position: int
    changes: tuple[str, ...]
    idea: str = ""

    @property
    def short(self) -> str:
        """What changed, in a few words."""
        if self.idea:
            return clean_text(self.idea, 40)
        more = len(self.changes) - _MAX_CHANGES
        text = ", ".join(self.changes[:_MAX_CHANGES]) or "same settings"
        return f"{text} +{more}" if more > 0 else text


class ReportData:
    """Answer what a report asks of a study.

    Parameters
    ----------
    study
        Folder of the study.
    up_to
        Last round shown, as if later ones had not been; None for all.

    Raises
    ------
    LedgerError
        When the ledger is absent or damaged.
    StudyError
        When the ledger holds no study.
    """

    def __init__(self, study: StudyDir, up_to: int | None = None) -> None:
        self.study = study
        self._up_to = up_to
        self.state: StudyState = fold(read_ledger(study.ledger))
        if not self.state.study:
            msg = f"{study.ledger}: holds no study; nothing can be reported"
            raise StudyError(msg)

    @property
    def metric(self) -> str:
        """Name of the objective."""
        return self.state.metric

    @property
    def label(self) -> str:
        """The objective as axes show it."""
        return metric_label(self.metric)

    @property
    def name(self) -> str:
        """Name of the study."""
        return clean_text(str(self.state.spec.get("name", self.state.study)), 80)

    @cached_property
    def search(self) -> list[TrialState]:
        """Search trials in planned order."""
        trials = self.state.of(Purpose.SEARCH)
        return [t for t in trials if self._up_to is None or t.plan.round <= self._up_to]

    @cached_property
    def floor(self) -> list[float]:
        """Values of the unchanged recipe, one a seed."""
        values = (self.state.value(trial) for trial in self.state.of(Purpose.FLOOR))
        return [value for value in values if value is not None]

    @property
    def floor_stats(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the unchanged recipe, or None before it was run."""
        return mean_sd(self.floor) if self.floor else None

    @property
    def chance(self) -> float | None:
        """Value of the objective that guessing gives, when the data says so."""
        return self.chance_of(self.metric)

    def chance_of(self, metric: str) -> float | None:
        """Return the value of a metric that guessing gives, or None."""
        value = self.state.created.get("data_info", {}).get("chance", {}).get(metric)
        return float(value) if isinstance(value, int | float) else None

    @cached_property
    def scored(self) -> list[TrialState]:
        """Scored search trials, best first; of equals the earlier one comes first."""
        sign = 1.0 if self.state.minimize else -1.0
        trials = [trial for trial in self.search if self.state.value(trial) is not None]
        return sorted(trials, key=lambda trial: sign * self.value(trial))

    def value(self, trial: TrialState) -> float:
        """Return the objective of a scored trial."""
        value = self.state.value(trial)
        assert value is not None
        return value

    @property
    def best(self) -> TrialState | None:
        """The best search trial."""
        return self.scored[0] if self.scored else None

    @property
    def failed(self) -> list[TrialState]:
        """Search trials that ended without scores."""
        return [trial for trial in self.search if trial.phase is Phase.FAILED]

    @cached_property
    def rounds(self) -> list[RoundState]:
        """Rounds that hold search trials, in order."""
        numbers = {trial.plan.round for trial in self.search}
        return [self.state.rounds[number] for number in sorted(numbers)]

    @cached_property
    def round_colours(self) -> dict[int, str]:
        """Colour of every round; they do not change while a study goes on."""
        planned = int(self.state.spec.get("budget", {}).get("rounds", 0))
        last = max([planned, *(r.number for r in self.rounds)], default=1)
        colours = round_colours(max(1, last))
        return {r.number: colours[r.number - 1] for r in self.rounds}

    @cached_property
    def schema(self) -> Mapping[str, FieldSpec]:
        """The frozen schema; empty when its file cannot be read."""
        try:
            return Schema.from_json(read_json(self.study.schema_json))
        except (DataError, ConfigError, TypeError):
            return {}

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The unchanged configuration, dotted."""
        return flatten(self.state.config)

    @cached_property
    def searched(self) -> list[str]:
        """Dotted paths of the searched parameters."""
        found = dict.fromkeys(path for trial in self.search for path in trial.plan.overrides)
        place = {path: number for number, path in enumerate(self.schema)}
        return sorted(found, key=lambda path: place.get(path, len(place)))

    @property
    def by_importance(self) -> list[str]:
        """Dotted paths of the searched parameters, most important first."""
        others = [path for path in self.searched if path not in self.importances]
        return [*self.importances, *others]

    @cached_property
    def names(self) -> dict[str, str]:
        """Short name of every searched parameter."""
        return short_names(self.searched)

    def setting(self, trial: TrialState, path: str) -> Value | None:
        """Return a trial's value of a parameter."""
        value: Value | None = trial.plan.overrides.get(path, self.defaults.get(path))
        return value

    @cached_property
    def importances(self) -> dict[str, Importance]:
        """Importance of every searched parameter, greatest first."""
        found: dict[str, Importance] = {}
        for number, path in enumerate(self.searched):
            pairs = [(self.setting(t, path), self.value(t)) for t in self.scored]
            known = [(setting, value) for setting, value in pairs if setting is not None]
            result = importance([s for s, _ in known], [v for _, v in known], seed=number)
            if result is not None:
                found[path] = result
        return dict(sorted(found.items(), key=lambda item: -item[1].share))

    @cached_property
    def improvements(self) -> list[Improvement]:
        """The strict improvements, in planned order."""
        found: list[Improvement] = []
        for position, trial in enumerate(self.search, start=1):
            value = self.state.value(trial)
            if value is None or (found and not better(self.state, value, found[-1].value)):
                continue
            before = found[-1].trial if found else None
            changes = tuple(self._changes(trial, before))
            idea = "" if trial.plan.idea in self._stock_ideas else clean_text(trial.plan.idea)
            found.append(Improvement(len(found) + 1, trial, value, position, changes, idea))
        return found

    @cached_property
    def _stock_ideas(self) -> frozenset[str]:
        """Ideas that are said of more than a fifth of the trials: they tell nothing of one."""
        counts = Counter(trial.plan.idea for trial in self.search)
        return frozenset(idea for idea, n in counts.items() if n > max(2, len(self.search) / 5))

    def _changes(self, trial: TrialState, before: TrialState | None) -> list[str]:
        """Return the differing parameters; the more they move and matter, the earlier."""
        weighted: list[tuple[float, str]] = []
        for path in self.searched:
            new = self.setting(trial, path)
            old = self.defaults.get(path) if before is None else self.setting(before, path)
            if new == old:
                continue
            share = self.importances[path].share if path in self.importances else 0.0
            weight = (0.05 + share) * self._distance(path, old, new)
            weighted.append((weight, f"{self.names[path]} {show_value(new)}"))
        return [text for _, text in sorted(weighted, key=lambda pair: -pair[0])]

    def _distance(self, path: str, old: object, new: object) -> float:
        field = self.schema.get(path)
        numbers = isinstance(old, int | float) and isinstance(new, int | float)
        if field is None or field.low is None or field.high is None or not numbers:
            return 1.0
        assert isinstance(old, int | float)
        assert isinstance(new, int | float)
        return abs(to_unit(field, new) - to_unit(field, old))

    @property
    def luck(self) -> float | None:
        """How much of the gain the best of so many trials shows by noise alone."""
        if self.floor_stats is None or len(self.floor) < 3 or not self.scored:
            return None
        return expected_luck(self.floor_stats[1], len(self.scored))

    def interval(self, trial: TrialState) -> tuple[float, float] | None:
        """Return the 95 % interval of a trial's objective, when the ledger has it."""
        found = trial.interval
        if found.get("metric", self.metric) != self.metric:
            return None
        low, high = found.get("low"), found.get("high")
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            return None
        return float(low), float(high)

    def interval_of(self, trial: TrialState, metric: str) -> tuple[float, float] | None:
        """Return the 95 % interval of any metric of a trial, when the ledger has it."""
        if metric == self.metric:
            return self.interval(trial)
        ends = trial.interval.get("others", {}).get(metric)
        if not isinstance(ends, list) or len(ends) != 2:
            return None
        return float(ends[0]), float(ends[1])

    def subjects(self, trials: Sequence[TrialState]) -> dict[str, float]:
        """Return the objective of every subject, averaged over trials."""
        gathered: dict[str, list[float]] = {}
        for trial in trials:
            for subject, value in subject_values(trial, self.metric).items():
                gathered.setdefault(subject, []).append(value)
        return {subject: mean_sd(gathered[subject])[0] for subject in sorted(gathered)}
