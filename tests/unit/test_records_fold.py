"""Folding gives the state of a study, and refuses steps that cannot have happened."""

from pathlib import Path
from typing import Any

import pytest

from neurosweep.core.errors import LedgerError, StudyError
from neurosweep.core.layout import StudyDir
from neurosweep.records.cost import trial_cost
from neurosweep.records.fold import fold, load_state
from neurosweep.records.ids import parse_trial_id, reserve_trial_id, search_trial_id
from neurosweep.records.state import Phase
from neurosweep.records.trial import POLICY, Kind, Purpose, TrialPlan

T = "2026-01-02T03:04:05.678Z"


def event(seq: int, name: str, **data: Any) -> dict[str, Any]:
    return {"v": 1, "seq": seq, "t": T, "event": name, "data": data, "prev": ""}


def plan(trial: str = "r01t000") -> dict[str, Any]:
    purpose, number, index = parse_trial_id(trial)
    return TrialPlan(trial, purpose, number, index, {"lr": 0.1}, seed=1).to_dict()


def story(*steps: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    spec = {"objective": {"metric": "val_cer"}, "budget": {"max_attempts": 2}}
    first = [
        ("study_created", {"study": "s", "spec": spec}),
        ("round_planned", {"round": 1, "trials": [plan()]}),
    ]
    return [event(i, name, **data) for i, (name, data) in enumerate([*first, *steps], start=1)]


def intend(attempt: int = 1) -> tuple[str, dict[str, Any]]:
    data = {"token": f"k{attempt}", "round": 1, "trials": [["r01t000", attempt]]}
    return "submit_intended", data


def end(kind: str, attempt: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    outcome = "done" if kind == "none" else "failed"
    data = {"trial": "r01t000", "attempt": attempt, "outcome": outcome, "kind": kind, **more}
    return "attempt_ended", data


SCORED = ("trial_scored", {"trial": "r01t000", "attempt": 1, "metrics": {"val_cer": 0.25}})


def test_a_whole_trial() -> None:
    state = fold(
        story(
            intend(),
            ("submitted", {"token": "k1", "jobs": {"r01t000": "42"}}),
            ("attempt_started", {"trial": "r01t000", "attempt": 1, "host": "n1", "pid": 7}),
            end("none", seconds=7200, cores=2),
            SCORED,
            ("round_closed", {"round": 1, "best": {"trial": "r01t000", "value": 0.25}}),
        )
    )
    trial = state.trials["r01t000"]
    assert trial.phase is Phase.SCORED
    assert state.value(trial) == 0.25
    assert trial_cost(trial).core_hours == 4.0
    assert trial.attempts[0].job == "42"
    assert state.rounds[1].closed


@pytest.mark.parametrize("kind", [k for k in Kind if k is not Kind.NONE])
def test_infrastructure_failures_refill_and_others_spend(kind: Kind) -> None:
    trial = fold(story(intend(), end(kind.value))).trials["r01t000"]
    assert trial.phase is (Phase.PLANNED if POLICY[kind].refill else Phase.FAILED)


def test_a_good_end_whose_predictions_vanished_becomes_a_failure() -> None:
    revised = end("broken_predictions", revised=True)
    assert fold(story(intend(), end("none"), revised)).trials["r01t000"].phase is Phase.FAILED


def test_attempts_are_limited() -> None:
    steps = [intend(), end("lost"), intend(2), end("lost", 2)]
    assert fold(story(*steps)).trials["r01t000"].phase is Phase.FAILED


@pytest.mark.parametrize(
    "steps",
    [
        [SCORED],
        [intend(), SCORED],
        [intend(), intend(2)],
        [intend(2)],
        [intend(), end("none", 2)],
        [intend(), end("none"), end("none")],
        [intend(), end("none"), end("none", revised=True)],
        [intend(), end("none"), end("user_error")],
        [intend(), end("none"), SCORED, end("user_error", revised=True)],
        [intend(), end("none"), SCORED, SCORED],
        [intend(), end("none"), SCORED, intend(2)],
        [("round_closed", {"round": 1})],
        [("round_planned", {"round": 1, "trials": [plan()]})],
        [("submitted", {"token": "unknown", "jobs": {}})],
        [("study_created", {"study": "again", "spec": {}})],
        [("nonsense", {})],
        [("study_closed", {}), ("round_planned", {"round": 2, "trials": [plan("r02t000")]})],
        [("attempt_ended", {"trial": "r09t000"})],
    ],
)
def test_impossible_stories_are_refused(steps: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(LedgerError, match=f"line {2 + len(steps)}"):
        fold(story(*steps))


def test_ids_round_trip() -> None:
    assert parse_trial_id(search_trial_id(10, 49)) == (Purpose.SEARCH, 10, 49)
    assert parse_trial_id(reserve_trial_id(Purpose.FLOOR, 3)) == (Purpose.FLOOR, 0, 3)
    with pytest.raises(StudyError, match="is not a trial id"):
        parse_trial_id("../../etc")


def test_an_emptied_ledger_is_damage(tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    study.ledger.write_bytes(b'{"v": 1, "se')
    with pytest.raises(LedgerError, match="holds no study_created"):
        load_state(study)


def test_an_attempt_that_got_further_is_not_held_against_its_trial() -> None:
    steps = [intend(), end("preempted", progressed=True), intend(2), end("lost", 2)]
    state = fold(story(*steps))
    assert state.trials["r01t000"].phase is Phase.PLANNED
    state = fold(story(*steps, intend(3), end("preempted", 3)))
    assert state.trials["r01t000"].phase is Phase.FAILED
