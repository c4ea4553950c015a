"""What samplers share: draws stay inside, are uniform where they should be, and do not repeat."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroagents._space import check_options, draw, draw_new, key_of
from neurosweep.core.errors import ConfigError
from neurosweep.core.schema import FieldSpec, Schema


@st.composite
def fields(draw_value: st.DrawFn, path: str) -> FieldSpec:
    kind = draw_value(st.sampled_from(["float", "int", "choices", "bool"]))
    if kind == "bool":
        return FieldSpec(path, "bool", choices=(False, True), default=False)
    if kind == "choices":
        return FieldSpec(path, "str", choices=("a", "b", "c"), default="a")
    log = draw_value(st.booleans())
    if kind == "int":
        low = draw_value(st.integers(1 if log else -50, 50))
        return FieldSpec(path, "int", low, low + draw_value(st.integers(0, 50)), log, default=low)
    low_float = draw_value(st.floats(1e-8 if log else -1e3, 1e3))
    high = low_float + abs(draw_value(st.floats(0.0, 1e3)))
    return FieldSpec(path, "float", low_float, high, log, default=low_float)


schemas = st.lists(st.integers(), min_size=1, max_size=4).flatmap(
    lambda items: st.tuples(*(fields(f"a.f{i}") for i in range(len(items)))).map(Schema)
)


@settings(deadline=None)
@given(schemas, st.integers(0, 2**32 - 1))
def test_draws_are_allowed_plain_values(schema: Schema, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        config = draw(schema, rng)
        assert schema.check_proposal(config) == []
        assert {type(value) for value in config.values()} <= {float, int, str, bool}


@pytest.mark.parametrize("log", [False, True])
def test_every_integer_is_drawn_also_at_the_ends(log: bool) -> None:
    schema = Schema([FieldSpec("n", "int", 1, 4, log)])
    rng = np.random.default_rng(0)
    counts = Counter(draw(schema, rng)["n"] for _ in range(4000))
    edges = np.log([0.5, 1.5, 2.5, 3.5, 4.5]) if log else np.arange(5.0)
    expected = np.diff(edges) / (edges[-1] - edges[0])
    assert [counts[n] / 4000 for n in (1, 2, 3, 4)] == pytest.approx(expected.tolist(), abs=0.03)


def test_logarithmic_draws_spread_over_decades() -> None:
    schema = Schema([FieldSpec("x", "float", 1e-6, 1e-2, True)])
    rng = np.random.default_rng(0)
    decades = Counter(int(np.floor(np.log10(float(draw(schema, rng)["x"])))) for _ in range(4000))
    assert [decades[d] / 4000 for d in (-6, -5, -4, -3)] == pytest.approx([0.25] * 4, abs=0.03)


def test_small_space_is_used_up_before_anything_repeats() -> None:
    schema = Schema([FieldSpec("k", "str", choices=("a", "b", "c")), FieldSpec("n", "int", 1, 3)])
    rng = np.random.default_rng(0)
    used = {key_of({"k": "a", "n": 1}, schema)}
    drawn = [key_of(draw_new(schema, rng, used), schema) for _ in range(8)]
    assert len(set(drawn)) == 8
    assert len(used) == 9
    assert key_of(draw_new(schema, rng, used), schema) in drawn or len(used) == 9


def test_keys_tell_configurations_apart() -> None:
    schema = Schema([FieldSpec("x", "float", 0, 1), FieldSpec("k", "str", choices=("a",))])
    assert key_of({"x": 1, "k": "a"}, schema) == key_of({"k": "a", "x": 1.0}, schema)
    assert key_of({"x": 0.1 + 0.2, "k": "a"}, schema) != key_of({"x": 0.3, "k": "a"}, schema)
    assert key_of({"x": 1.0}, schema) != key_of({"x": 1.0, "k": "a"}, schema)
    assert key_of({"x": 1.0, "other": 3}, schema) == key_of({"x": 1.0}, schema)


def test_a_field_without_range_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="x: has neither a range nor choices"):
        draw(Schema([FieldSpec("x", "float")]), np.random.default_rng(0))


def test_unknown_options_are_named_with_near_misses() -> None:
    with pytest.raises(ConfigError, match="levls: unknown option; did you mean 'levels'"):
        check_options("grid", {"levls": 3, "values": {}}, ("levels", "values"))
