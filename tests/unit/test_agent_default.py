"""The unchanged recipe is proposed unchanged, or the study is told why it cannot be."""

import numpy as np
import pytest

from neuroagents.default import create
from neurosweep.core.errors import ConfigError
from neurosweep.core.schema import FieldSpec, Schema

SCHEMA = Schema(
    [
        FieldSpec("x", "float", 0.0, 1.0, default=0.5),
        FieldSpec("k", "str", choices=("a", "b"), default="b"),
    ]
)


def test_proposes_the_defaults() -> None:
    agent = create({}, 0)
    proposals = agent.propose([], 5, SCHEMA, np.random.default_rng(0))
    assert [p.config for p in proposals] == [{"x": 0.5, "k": "b"}] * 5
    assert agent.repeats


def test_a_default_outside_the_exposed_range_is_named() -> None:
    narrowed = Schema([FieldSpec("x", "float", 0.6, 1.0, default=0.5), FieldSpec("y", "int", 1, 3)])
    with pytest.raises(ConfigError) as caught:
        create({}, 0).propose([], 5, narrowed, np.random.default_rng(0))
    assert "x: is 0.5, not in [0.6, 1]" in str(caught.value)
    assert "y: has no default" in str(caught.value)


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match="seeds: unknown option"):
        create({"seeds": 3}, 0)
