"""Conditions that fail a job although its study ran."""

from typing import Any

import pytest

from neurosweep.cli.gates import NAMES, Condition, figures, parse_condition, violations
from neurosweep.core.errors import ConfigError


def summary(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "state": "complete",
        "trials": {"planned": 4, "done": 3, "failed": 1, "fallback": 0},
        "floor": {"planned": 2, "done": 1, "failed": 1},
        "default": {"mean": {"val_cer": 0.4}},
        "best": {"value": 0.3},
        "chance": {"val_cer": 0.96},
        "objective": {"metric": "val_cer"},
    }
    return data | changes


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("failed>0", Condition("failed", ">", 0.0)),
        (" best >= default ", Condition("best", ">=", "default")),
        ("best>0.25", Condition("best", ">", 0.25)),
        ("best<1e-3", Condition("best", "<", 1e-3)),
        ("best<=-1", Condition("best", "<=", -1.0)),
    ],
)
def test_a_condition_is_understood(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition
    assert parse_condition(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("failed", "expected FIGURE OPERATOR"),
        ("failed=0", "operators: <= >= == != < >"),
        ("0<failed", "expected FIGURE"),
        ("faild>0", "did you mean 'failed'? figures: failed, done"),
        ("best>=defalt", "did you mean 'default'?"),
        ("failed>0; import os", "expected FIGURE"),
        ("", "expected FIGURE"),
    ],
)
def test_a_wrong_condition_says_what_is_allowed(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_condition(text)
    assert part in str(caught.value)
    assert repr(text) in str(caught.value)


def test_every_figure_is_known_of_a_whole_study() -> None:
    known = figures(summary())
    assert set(known) == set(NAMES)
    assert known["failed"] == 2
    assert None not in known.values()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("failed>0", True),
        ("failed>2", False),
        ("best>=default", False),
        ("best<default", True),
        ("best==0.3", True),
        ("done!=planned", True),
        ("best>=chance", False),
    ],
)
def test_what_holds_is_a_violation(text: str, holds: bool) -> None:
    found = violations(summary(), [parse_condition(text)])
    assert bool(found) is holds
    assert all(text in line for line in found)


def test_an_unknown_figure_fails_rather_than_passes() -> None:
    without = summary(default={"mean": {}})
    (line,) = violations(without, [parse_condition("best>=default")])
    assert "default is not known" in line


@pytest.mark.parametrize("state", ["incomplete", "paused", "resumable"])
def test_a_study_that_did_not_end_never_passes(state: str) -> None:
    assert any(state in line for line in violations(summary(state=state), []))


def test_a_study_without_any_score_never_passes() -> None:
    none = summary(trials={"planned": 4, "done": 0, "failed": 4, "fallback": 0}, best=None)
    assert violations(none, []) == ["no search trial was scored"]
    assert violations(summary(), []) == []
