from __future__ import annotations

import pytest
from _study_builder import COMMIT, StudyBuilder

from neurosweep.core.layout import Home
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.mlflow_points import metric_key
from neurosweep.records.mlflow_view import (
    round_view,
    study_view,
    trial_view,
)
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import POLICY


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> StudyBuilder:
    made = StudyBuilder(Home(tmp_path_factory.mktemp("home")), per_round=12, floor=2)
    made.fail_share = 0.3
    made.create()
    for number in range(3):
        made.run_round(number)
    return made


@pytest.fixture
def state(builder: StudyBuilder) -> StudyState:
    return fold(read_ledger(builder.dir.ledger))


def test_a_scored_trial_shows_its_scores_configuration_and_origin(state: StudyState) -> None:
    trial = next(t for t in state.trials.values() if t.phase is Phase.SCORED and t.plan.round == 2)
    view = trial_view(state, trial, "round-02")
    metrics = {name: value for name, value, _, _ in view.metrics}
    assert view.status == "FINISHED"
    assert view.end_ms is not None
    assert view.end_ms > view.start_ms
    assert metrics["val_cer"] == trial.metrics["val_cer"]
    assert metrics["val_cer/ci_low"] < metrics["val_cer"] < metrics["val_cer/ci_high"]
    assert metrics["val_cer/S01"] == trial.per_subject["S01"]["val_cer"]
    assert view.params["data.dataset"] == "noisetag_speller"
    assert float(view.params["training.learning_rate"]) == pytest.approx(
        trial.plan.overrides["training.learning_rate"]
    )
    wanted = {
        "ns.trial": trial.plan.trial,
        "ns.round": "2",
        "ns.attempt": "1",
        "ns.agent": "optuna_tpe",
        "ns.state": "scored",
        "ns.kind": "none",
        "ns.commit": COMMIT,
        "mlflow.source.git.commit": COMMIT,
        "ns.recipe": "speller_small",
        "ns.seed": str(trial.plan.seed),
        "ns.purpose": "search",
    }
    assert wanted.items() <= view.tags.items()
    assert {"ns.job_id", "ns.subject", "ns.idea"} <= view.tags.keys()


def test_a_failed_trial_says_why_and_has_no_score(state: StudyState) -> None:
    trial = next(t for t in state.trials.values() if t.phase is Phase.FAILED)
    view = trial_view(state, trial, "round-01")
    assert view.status == "FAILED"
    assert view.tags["ns.kind"] == trial.kind.value
    assert "RuntimeError" in view.tags["ns.error"]
    assert view.tags["ns.meaning"].startswith(POLICY[trial.kind].meaning)
    assert "val_cer" not in {name for name, *_ in view.metrics}


def test_a_refilled_trial_shows_its_last_attempt_and_the_cost_of_both(state: StudyState) -> None:
    trial = state.trials["r01t002"]
    view = trial_view(state, trial, "round-01")
    metrics = {name: value for name, value, _, _ in view.metrics}
    assert view.attempt == 2
    assert view.tags["ns.attempt"] == "2"
    assert metrics["cost.core_hours"] * 3600 == pytest.approx(metrics["seconds"] + 3.0)


def test_a_round_carries_its_best_and_its_counts(state: StudyState) -> None:
    view = round_view(state, state.rounds[1])
    metrics = {name: value for name, value, _, _ in view.metrics}
    values = [
        t.metrics["val_cer"] for t in state.trials.values() if t.plan.round == 1 and t.metrics
    ]
    assert view.key == "round-01"
    assert metrics["best/val_cer"] == min(values)
    assert metrics["trials_done"] == len(values)
    assert metrics["trials_done"] + metrics["trials_failed"] == 12


def test_the_study_carries_its_running_best_which_only_improves(state: StudyState) -> None:
    view = study_view(state)
    values = [value for name, value, _, _ in view.metrics if name == "running_best/val_cer"]
    assert view.status == "RUNNING"
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert values[-1] == min(
        t.metrics["val_cer"] for t in state.trials.values() if t.metrics and t.plan.round
    )


def test_the_cost_of_a_study_is_the_sum_of_its_rounds(state: StudyState) -> None:
    last = {name: value for name, value, *_ in study_view(state).metrics}
    for name in ("cost.core_hours", "cost.queue_s"):
        views = [round_view(state, found) for found in state.rounds.values() if found.closed]
        assert last[name] == pytest.approx(
            sum(value for view in views for key, value, *_ in view.metrics if key == name)
        )


def test_what_a_study_showed_once_stays_the_beginning_of_what_it_shows(state: StudyState) -> None:
    whole = study_view(state).metrics
    for number in sorted(state.rounds, reverse=True):
        state.rounds[number].closed_t = ""
        assert study_view(state).metrics == whole[: len(study_view(state).metrics)]


def test_names_of_metrics_hold_only_what_mlflow_allows() -> None:
    assert metric_key("S 1/ä<b>") == "S 1/__b_"


def test_a_trial_that_its_driver_ended_says_why(state: StudyState) -> None:
    trial = next(t for t in state.trials.values() if t.phase is Phase.FAILED)
    assert trial_view(state, trial, "r").tags["ns.error"].startswith("RuntimeError: ")
    data = {"trial": trial.plan.trial, "attempt": trial.attempts[-1].number}
    state.controls.append({"action": "end_attempt", "reason": "no progress for 26 s", **data})
    assert trial_view(state, trial, "r").tags["ns.error"] == "no progress for 26 s"
    state.controls.pop()
