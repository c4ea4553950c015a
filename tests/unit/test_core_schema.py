"""The schema narrows ranges, and says all that is wrong with a proposal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import ConfigError
from neurosweep.core.schema import FieldSpec, Schema

SCHEMA = Schema(
    [
        FieldSpec("lr", "float", 1e-6, 1e-2, log=True, default=1e-4, doc="step size"),
        FieldSpec("rank", "int", 1, 64, default=8),
        FieldSpec("batch", "int", choices=(8, 16), default=8),
        FieldSpec("name", "str", default="x"),
    ]
)


def test_exposed_keeps_order_and_narrows() -> None:
    exposed = SCHEMA.exposed(["rank", "lr"], {"rank": {"high": 16}})
    assert list(exposed) == ["rank", "lr"]
    assert (exposed["rank"].low, exposed["rank"].high) == (1, 16)


def test_a_field_that_is_unknown_is_one_problem_also_with_an_override() -> None:
    with pytest.raises(ConfigError, match="rnk: unknown field") as found:
        SCHEMA.exposed(["rnk"], {"rnk": {"high": 16}})
    assert "not exposed" not in str(found.value)


@pytest.mark.parametrize(
    ("paths", "overrides", "text"),
    [
        (["rnk"], {}, "did you mean 'rank'"),
        (["name"], {}, "has no declared range"),
        (["rank"], {"rank": {"high": 128}}, "leaves the declared range"),
        (["rank"], {"rank": {"hihg": 2}}, "unknown override"),
        (["rank"], {"lr": {"high": 1e-3}}, "is not exposed"),
        (["lr"], {"lr": {"low": 1e-3, "high": 1e-4}}, "are not a range"),
        (["batch"], {"batch": {"choices": [8, 12]}}, "not one of 8, 16"),
        (["batch"], {"batch": {"choices": []}}, "at least one value"),
        (["batch"], {"batch": {"choices": 5}}, "are not a list"),
        (["batch"], {"batch": {"choices": [8, 8]}}, "name a value twice"),
        (["batch"], {"batch": {"low": 1, "high": 99}}, "cannot replace the declared choices"),
        (["name"], {"name": {"low": 1, "high": 2}}, "has choices, not a range"),
        (["lr"], {"lr": {"low": "0.1"}}, "are not a range of float"),
        (["lr"], {"lr": {"log": "no"}}, "expected true or false"),
        (["rank"], {"rank": {"low": 2.2, "high": 2.8}}, "are not a range of int"),
        (["rank", "rank"], {"rank": {"high": 2}}, "is exposed twice"),
    ],
)
def test_wrong_exposure_is_one_clear_error(paths, overrides, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=text):
        SCHEMA.exposed(paths, overrides)


def test_proposal_problems_are_all_reported() -> None:
    exposed = SCHEMA.exposed(["lr", "rank", "batch"])
    problems = exposed.check_proposal({"lr": 1.0, "rnk": 3, "batch": 8.0})
    assert len(problems) == 4
    assert any("rnk: unknown field; did you mean 'rank'" in p for p in problems)
    assert any("rank: is missing" in p for p in problems)
    assert any(p.startswith("lr: is 1") for p in problems)
    assert any("batch: expected int" in p for p in problems)


def test_bool_is_not_an_int() -> None:
    assert SCHEMA["rank"].check(True) is not None


@given(st.floats() | st.integers() | st.text() | st.booleans() | st.none())
def test_check_never_raises_and_accepts_only_the_range(value: object) -> None:
    if SCHEMA["lr"].check(value) is None:
        assert isinstance(value, int | float)
        assert 1e-6 <= value <= 1e-2


ABSURD = [10**400, -(10**6000), "x" * 10_000, [[]], {"a": 1}]


@pytest.mark.parametrize("value", ABSURD, ids=["long", "longer", "text", "list", "dict"])
def test_absurd_values_are_refused_in_a_short_text(value: object) -> None:
    problem = SCHEMA["rank"].check(value)
    assert problem is not None
    assert len(problem) < 200


def test_a_value_just_outside_is_shown_exactly() -> None:
    assert "0.010000001" in str(SCHEMA["lr"].check(0.010000001))


def test_json_round_trip() -> None:
    assert Schema.from_json(SCHEMA.to_json()).to_json() == SCHEMA.to_json()
    with pytest.raises(ConfigError, match="type must be one of"):
        FieldSpec.from_dict({"path": "a", "type": "list"})


def test_table_shows_every_field() -> None:
    table = SCHEMA.table()
    assert "in [1e-06, 0.01] (log scale)" in table
    assert len(table.splitlines()) == 5
