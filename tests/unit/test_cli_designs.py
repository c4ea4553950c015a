"""The small studies behind run and sweep."""

from pathlib import Path

import pytest
from _loop_kit import call_here

from neurosweep.cli.designs import fixed_design, grid_design
from neurosweep.core.config import validate
from neurosweep.core.errors import ConfigError
from neurosweep.records.spec import StudySpec

TESTING = "neurosweep.testing"


def test_a_run_trains_one_configuration_over_seeds() -> None:
    data = fixed_design("speller", "pkg", ["training.epochs=5", "data.folds=2"], 3, None)
    spec = validate(StudySpec, data, "run")
    assert spec.name == "run-speller"
    assert spec.entry == "pkg"
    assert spec.agent.name == "default"
    assert (spec.budget.rounds, spec.budget.trials_per_round, spec.reserve.floor) == (1, 3, 0)
    assert spec.set == {"training.epochs": 5, "data.folds": 2}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurosweep.research.describe.call_entry", call_here)


def test_a_sweep_trains_every_combination_once() -> None:
    texts = ["training.epochs=5,10", "model.rank=4,8,16", "data.items=3"]
    spec = validate(StudySpec, grid_design("instant", TESTING, texts, "mine"), "sweep")
    assert spec.name == "mine"
    assert spec.budget.trials_per_round == 6
    assert spec.agent.options == {"values": {"training.epochs": [5, 10], "model.rank": [4, 8, 16]}}
    assert spec.search.exposed == ["training.epochs", "model.rank"]
    assert spec.search.override["training.epochs"] == {"choices": [5, 10]}
    assert spec.set == {"data.items": 3}


def test_what_has_one_value_is_no_axis_unless_there_is_none() -> None:
    texts = ["training.epochs=5,10", "model.rank=16"]
    data = grid_design("instant", TESTING, texts, None)
    assert data["search"]["exposed"] == ["training.epochs"]
    assert data["set"] == {"model.rank": 16}
    data = grid_design("instant", TESTING, texts[1:], None)
    assert (data["search"]["exposed"], data["budget"]["trials_per_round"]) == (["model.rank"], 1)


def test_what_is_prepared_once_is_said_by_the_recipe() -> None:
    texts = ["training.epochs=5,10", "model.rank=16"]
    assert "model.rank" not in grid_design("instant", TESTING, texts, None)["search"]["exposed"]
    data = grid_design("staged", TESTING, texts, None)
    assert data["search"]["exposed"] == ["training.epochs"]
    assert data["set"] == {"model.rank": 16}
    with pytest.raises(ConfigError, match=r"model.rank: data, model are prepared once"):
        grid_design("staged", TESTING, ["model.rank=4,8"], None)
    with pytest.raises(ConfigError) as caught:
        grid_design("staged", TESTING, [], None)
    assert "training.batch_size" in str(caught.value)
    assert "model.rank" not in str(caught.value)


def test_a_recipe_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = fixed_design("mine.toml", "pkg", [], 1, None)
    assert data["recipe"] == str(tmp_path / "mine.toml")
    assert data["name"] == "run-mine"


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        (["training.epochs"], "expected PATH=VALUE"),
        (["training.epochs="], "expected PATH=VALUE"),
        (["=3"], "expected PATH=VALUE"),
        (["training.epochs=1,,2"], "expected PATH=VALUE"),
        (["training.epochs=5,5"], "more than once"),
        (["training.epochs=5", "training.epochs=6"], "given twice"),
        (["data.items=2,3"], "prepared once"),
        (["data.items=2"], "neurosweep run"),
    ],
)
def test_a_wrong_sweep_says_what_is_wrong(texts: list[str], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_design("instant", TESTING, texts, None)
    assert part in str(caught.value)


def test_a_sweep_of_nothing_lists_what_can_be_swept() -> None:
    with pytest.raises(ConfigError, match="nothing to sweep") as caught:
        grid_design("instant", TESTING, [], None)
    table = str(caught.value).splitlines()
    assert any(line.startswith("training.learning_rate  in [1e-05, 0.1]") for line in table)
    assert not any(line.startswith("data.") for line in table)


def test_a_run_takes_one_value() -> None:
    with pytest.raises(ConfigError, match=r"training.epochs: .*neurosweep sweep"):
        fixed_design("speller", "pkg", ["training.epochs=1,2"], 1, None)


def test_a_field_that_the_recipe_lacks_is_named_with_what_was_meant() -> None:
    texts = ["lr=1,2", "training.epoch=5,10"]
    with pytest.raises(ConfigError) as found:
        grid_design("instant", TESTING, texts, None)
    first, second = str(found.value).split("\n")
    assert first == "--set lr: instant has no such field; did you mean 'training.learning_rate'?"
    assert second.startswith("--set training.epoch: instant has no such field")
    assert "[search]" not in str(found.value)
