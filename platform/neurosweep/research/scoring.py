"""Score what a job predicted against references that only the driver holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosweep.core.errors import PredictionsError
from neurosweep.core.files import atomic_write_text, canonical_json, sha256_file
from neurosweep.core.layout import AttemptDir
from neurosweep.records.trial import TrialPlan

if TYPE_CHECKING:
    from neurosweep.evaluation.references import Reference
    from neurosweep.evaluation.score import Scores

_PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class Scored:
    """Hold what the ledger says of a trial's scores; the detail is in scores.json.

    Attributes
    ----------
    metrics
        Name to value.
    interval
        ``low``, ``high`` and ``metric`` of the objective's 95 % interval.
    per_subject
        Subject to its metrics.
    scores_sha, predictions_sha
        SHA-256 of scores.json and of the predictions scored.
    """

    metrics: Mapping[str, float]
    interval: Mapping[str, Any] = field(default_factory=dict)
    per_subject: Mapping[str, Any] = field(default_factory=dict)
    scores_sha: str = ""
    predictions_sha: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as data of a ledger event."""
        return {
            "metrics": dict(self.metrics),
            "interval": dict(self.interval),
            "per_subject": dict(self.per_subject),
            "scores_sha": self.scores_sha,
            "predictions_sha": self.predictions_sha,
        }


class Scorer:
    """Score attempts of one study.

    Parameters
    ----------
    references
        File of the references: ``val_refs.jsonl``, or the test's.
    metric
        The objective, whose interval goes to the ledger.
    part
        ``val`` or ``test``: prefix of the metrics' names.
    """

    def __init__(self, references: Path, metric: str, part: str = "val") -> None:
        self._path = references
        self._metric = metric
        self._part = part

    @cached_property
    def references(self) -> dict[str, Reference]:
        """References by item.

        Raises
        ------
        DataError
            When the file is absent or damaged.
        """
        from neurosweep.evaluation.references import read_references

        return read_references(self._path)

    def score(
        self,
        plan: TrialPlan,
        attempt: int,
        files: AttemptDir,
        target: Path,
        listed: Mapping[str, str],
    ) -> Scored:
        """Score an attempt and write its scores.json.

        What lies there is never believed: a job could have written it. Scoring the same
        predictions again gives the same scores.

        Parameters
        ----------
        plan
            The trial.
        attempt
            Number of the attempt.
        files
            Its folder.
        target
            The trial's scores.json.
        listed
            File name to SHA-256 as the job's status lists them; may be empty.

        Raises
        ------
        PredictionsError
            When the predictions cannot be scored, are not those that the status lists, or do not
            give the objective.
        """
        from neurosweep.evaluation.predictions import load_predictions
        from neurosweep.evaluation.score import score

        loaded = load_predictions(files.predictions, self.references.keys())
        expected = listed.get(_PREDICTIONS)
        if expected is not None and expected != loaded.sha256:
            msg = f"{files.predictions}: was changed after the job had ended"
            raise PredictionsError(msg)
        scores = score(loaded.predictions, self.references, seed=plan.seed)
        if self._metric not in scores.metrics:
            known = ", ".join(scores.metrics)
            msg = f"{files.predictions}: give no {self._metric}, the objective, only {known}"
            raise PredictionsError(msg)
        per_subject = {name: self._named(means) for name, means in scores.per_subject.items()}
        detail = scores.to_dict()
        if self._part != "val":
            detail.pop("items")  # of a sealed part only aggregates are let out
        body = {
            **detail,
            "trial": plan.trial,
            "attempt": attempt,
            "part": self._part,
            "predictions_sha": loaded.sha256,
            "summary": {
                "metrics": self._named(scores.metrics),
                "interval": self._interval(scores),
                "per_subject": per_subject,
            },
        }
        atomic_write_text(target, canonical_json(body) + "\n")
        return _scored(target, body)

    def _interval(self, scores: Scores) -> dict[str, Any]:
        """Return the objective's interval; of a sealed part, those of the other metrics too."""
        data = scores.interval(self._metric) | {"metric": self._name(self._metric)}
        if self._part != "val":
            data["others"] = {
                self._name(name): [found.low, found.high]
                for name, found in scores.intervals.items()
            }
        return data

    def _name(self, metric: str) -> str:
        return metric if self._part == "val" else metric.replace("val_", f"{self._part}_", 1)

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self._name(name): value for name, value in metrics.items()}


def _scored(target: Path, body: Mapping[str, Any]) -> Scored:
    summary = body["summary"]
    return Scored(
        summary["metrics"],
        summary["interval"],
        summary["per_subject"],
        sha256_file(target),
        body["predictions_sha"],
    )
