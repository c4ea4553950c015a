"""A grid has exactly the points that were asked for, each once, over any number of rounds."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroagents.grid import _factors, create
from neurosweep.core.errors import ConfigError
from neurosweep.core.schema import FieldSpec, Schema
from neurosweep.records.agent_api import Proposal, TrialRecord

SCHEMA = Schema(
    [
        FieldSpec("training.learning_rate", "float", 1e-4, 1e-1, True, default=1e-3),
        FieldSpec("model.width", "int", 8, 64, default=16),
        FieldSpec("model.kind", "str", choices=("conv", "linear"), default="conv"),
    ]
)


def _propose(
    options: dict[str, Any], n: int, history: Sequence[TrialRecord] = (), schema: Schema = SCHEMA
) -> list[Proposal]:
    return create(options, 0).propose(history, n, schema, np.random.default_rng(0))


def _history(proposals: Sequence[Proposal]) -> list[TrialRecord]:
    return [TrialRecord(f"r01t{i:03d}", 1, p.config, 0.5) for i, p in enumerate(proposals)]


def test_levels_and_values_by_hand() -> None:
    options = {
        "levels": {"training.learning_rate": 4},
        "values": {"model.kind": ["linear", "conv"]},
    }
    configs = [proposal.config for proposal in _propose(options, 8)]
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    expected = list(itertools.product(rates, ["linear", "conv"]))
    assert [config["model.kind"] for config in configs] == [kind for _, kind in expected]
    assert [config["training.learning_rate"] for config in configs] == pytest.approx(
        [rate for rate, _ in expected]
    )
    assert {config["model.width"] for config in configs} == {16}


def test_nested_tables_as_toml_reads_unquoted_keys() -> None:
    nested = {"values": {"model": {"width": [8, 12]}}, "levels": {"training": {"learning_rate": 2}}}
    quoted = {"values": {"model.width": [8, 12]}, "levels": {"training.learning_rate": 2}}
    assert _propose(nested, 4) == _propose(quoted, 4)


def test_whole_numbers_of_a_float_field_become_floats() -> None:
    schema = Schema([FieldSpec("x", "float", 0.0, 2.0, default=1.0)])
    configs = [p.config for p in _propose({"values": {"x": [0, 1, 2]}}, 3, schema=schema)]
    assert [repr(config["x"]) for config in configs] == ["0.0", "1.0", "2.0"]


def test_a_grid_spans_rounds_and_ends() -> None:
    options = {"levels": {"training.learning_rate": 5, "model.width": 4}}
    first = _propose(options, 10)
    second = _propose(options, 10, _history(first))
    keys = [tuple(p.config.values()) for p in (*first, *second)]
    assert len(set(keys)) == 20
    with pytest.raises(ConfigError, match=r"5 x 4 x 1 = 20 points .* 0 of them are left"):
        _propose(options, 10, _history([*first, *second]))


@pytest.mark.parametrize(
    ("options", "n", "text"),
    [
        (
            {"levels": {"training.learning_rate": 4, "model.width": 3}},
            50,
            r"4 x 3 x 1 = 12 points .*training.learning_rate: 4, .* no multiple of the 50 trials",
        ),
        ({"levels": {"model.widht": 3}}, 3, "model.widht: is not exposed; did you mean 'model.wi"),
        ({"levels": {"model.kind": 3}}, 3, "model.kind: 3 levels are not all different"),
        ({"levels": {"model.width": 100}}, 100, "model.width: 100 levels are not all different"),
        ({"values": {"model.width": [8, 8]}}, 2, "model.width: 2 levels are not all different"),
        ({"values": {"model.width": [8, 99]}}, 2, "model.width: is 99, not in"),
        ({"values": {"model.kind": ["conv", "rnn"]}}, 2, "model.kind: is 'rnn', not one of"),
        ({"values": {"model.width": [8], "model.kind": [3]}}, 1, "model.kind: expected str"),
        (
            {"levels": {"model.width": 2}, "values": {"model.width": [8]}},
            2,
            "model.width: has both levels and values",
        ),
    ],
)
def test_what_does_not_fit_is_named(options: dict[str, Any], n: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        _propose(options, n)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"level": {}}, "level: unknown option; did you mean 'levels'"),
        ({"levels": 3}, "levels: expected a table"),
        ({"levels": {"a": 0}}, "levels.a: is 0, expected a whole number from 1"),
        ({"levels": {"a": True}}, "levels.a: is True"),
        ({"levels": {"a": 2.5}}, "levels.a: is 2.5"),
        ({"values": {"a": 3}}, "values.a: is 3, expected a list"),
        ({"values": {"a": []}}, r"values.a: is \[\], expected a list"),
    ],
)
def test_malformed_options_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        create(options, 0)


def test_a_field_without_default_needs_levels() -> None:
    schema = Schema([FieldSpec("x", "int", 1, 9), FieldSpec("y", "int", 1, 9)])
    with pytest.raises(ConfigError, match="y: has no default and no levels"):
        _propose({"levels": {"x": 3}}, 3, schema=schema)


@pytest.mark.parametrize("n", [1, 2, 12, 50, 54])
def test_without_options_the_product_is_the_round(n: int) -> None:
    configs = [proposal.config for proposal in _propose({}, n)]
    assert len({tuple(config.values()) for config in configs}) == n
    assert [problem for config in configs for problem in SCHEMA.check_proposal(config)] == []


def test_one_automatic_level_is_the_default() -> None:
    assert _propose({}, 1)[0].config == SCHEMA.defaults()


def test_without_options_a_number_that_cannot_be_factored_is_refused() -> None:
    schema = Schema([FieldSpec("k", "str", choices=("a", "b")), FieldSpec("n", "int", 1, 3)])
    with pytest.raises(ConfigError, match="no grid of these fields has 7 points"):
        _propose({}, 7, schema=schema)


@given(st.integers(1, 120), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_factors_are_the_most_balanced(n: int, capacity: list[int]) -> None:
    found = _factors(n, tuple(capacity))
    possible = [
        counts
        for counts in itertools.product(*(range(1, most + 1) for most in capacity))
        if math.prod(counts) == n
    ]
    if found is None:
        assert possible == []
    else:
        assert found in possible
        assert sum(found) == min(map(sum, possible))
