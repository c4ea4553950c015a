"""One declaration gives validation, schema and errors that name every problem."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from neurosweep.core.config import (
    Searchable,
    StrictModel,
    fields_of,
    flatten,
    get_dotted,
    load_toml,
    parse_assignment,
    unflatten,
    validate,
)
from neurosweep.core.errors import ConfigError


class Training(StrictModel):
    learning_rate: Annotated[float, Searchable(1e-6, 1e-2, log=True)] = Field(
        1e-4, description="step size of AdamW"
    )
    batch_size: Annotated[int, Searchable(choices=(8, 16, 32))] = 16
    schedule: Literal["cosine", "flat"] = "cosine"


class Recipe(StrictModel):
    training: Training = Training()
    name: str = "demo"


def test_declared_fields_become_schema() -> None:
    fields = {field.path: field for field in fields_of(Recipe)}
    rate = fields["training.learning_rate"]
    assert (rate.low, rate.high, rate.log, rate.default) == (1e-6, 1e-2, True, 1e-4)
    assert rate.doc == "step size of AdamW"
    assert fields["training.batch_size"].choices == (8, 16, 32)
    assert not fields["name"].searchable


class Team(StrictModel):
    members: list[Training] = Field(default_factory=list)
    mode: Annotated[Literal["sync", "async"], Searchable()] = "sync"


def test_an_unknown_key_inside_a_list_has_its_near_miss() -> None:
    with pytest.raises(ConfigError) as found:
        validate(Team, {"members": [{}, {"batch_sise": 8}]}, "here")
    assert "members.1.batch_sise: unknown key; did you mean 'batch_size'" in str(found.value)


def test_one_wrong_value_is_one_problem() -> None:
    with pytest.raises(ConfigError, match="here: 1 problem\n"):
        validate(Recipe, {"training": {"schedule": "steps"}}, "here")
    with pytest.raises(ConfigError, match="here: 1 problem\n"):
        validate(Team, {"mode": "asink"}, "here")
    with pytest.raises(ConfigError, match="here: 2 problems\n"):
        validate(Recipe, {"training": {"schedule": "steps", "learning_rate": 9.0}}, "here")


def test_instance_values_become_defaults() -> None:
    recipe = validate(Recipe, {"training": {"learning_rate": 1e-3}}, "here")
    fields = {field.path: field for field in fields_of(recipe)}
    assert fields["training.learning_rate"].default == 1e-3


def test_every_problem_is_named_at_once() -> None:
    data = {"training": {"learning_rat": 1e-3, "batch_size": "16x"}, "nam": "x"}
    with pytest.raises(ConfigError) as caught:
        validate(Recipe, data, "round03/trial17.toml")
    text = str(caught.value)
    assert "round03/trial17.toml: 3 problems" in text
    assert "training.learning_rat: unknown key; did you mean 'learning_rate'?" in text
    assert "training.batch_size" in text
    assert "'16x' (str)" in text
    assert "nam: unknown key; did you mean 'name'?" in text


@pytest.mark.parametrize("rate", [1e-7, 0.5])
def test_value_outside_declared_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate: is .* not in \[1e-06, 0\.01\]"):
        validate(Recipe, {"training": {"learning_rate": rate}}, "x.toml")


def test_range_problems_are_told_beside_others() -> None:
    data = {"training": {"learning_rate": 0.5, "batch_sze": 3}}
    with pytest.raises(ConfigError, match="2 problems"):
        validate(Recipe, data, "x.toml")


def test_literal_values_become_choices() -> None:
    fields = {field.path: field for field in fields_of(Recipe)}
    assert fields["training.schedule"].choices == ("cosine", "flat")


def test_nan_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        validate(Recipe, {"training": {"learning_rate": float("nan")}}, "x.toml")


names = st.text("abcde", min_size=1, max_size=4)
leaves = st.integers() | st.text("xyz") | st.booleans()
trees = st.recursive(
    st.dictionaries(names, leaves, min_size=1),
    lambda inner: st.dictionaries(names, leaves | inner, min_size=1),
    max_leaves=8,
)


@given(trees)
def test_flatten_and_unflatten_are_inverse(tree: dict[str, object]) -> None:
    flat = flatten(tree)
    assert unflatten(flat) == tree
    for path, value in flat.items():
        assert get_dotted(tree, path) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1,2,3", ("a.b", [1, 2, 3])),
        ("a=1e-3", ("a", [1e-3])),
        ("a=true,false", ("a", [True, False])),
        ("a=adam, sgd", ("a", ["adam", "sgd"])),
        ('a="x,y",z', ("a", ["x,y", "z"])),
    ],
)
def test_assignment_is_parsed(text: str, expected: tuple[str, list[object]]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["a.b", "=1", "a=", "a=1,,2", ""])
def test_malformed_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected PATH=VALUE"):
        parse_assignment(text)


def test_get_dotted_names_a_near_miss() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'training\.learning_rate'"):
        get_dotted({"training": {"learning_rate": 1}}, "training.learnin_rate")


def test_toml_errors_name_the_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_toml(tmp_path / "absent.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = [1,", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad\.toml: is not valid TOML"):
        load_toml(bad)
