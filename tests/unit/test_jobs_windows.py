"""A whole training job on small stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _window_stores import Recorder, make_facts, single_window_store, speller_store

from neurodecode.jobs.folds import fold_seed
from neurodecode.jobs.windows import run
from neurodecode.recipe import load_recipe
from neurosweep.core.errors import ConfigError
from neurosweep.exec.job_api import JobContext

FAST = {
    "model.width": 8,
    "model.num_blocks": 1,
    "model.stride": 1,
    "model.pooling": "flatten",
    "training.batch_size": 32,
    "training.learning_rate": 1e-2,
    "training.epochs": 8,
    "training.device": "cpu",
}


def _config(**changes: Any) -> dict[str, Any]:
    recipe = load_recipe("speller", FAST | changes)
    return recipe.config.model_dump(mode="json")


def _accuracy(lines: list[Any], references: dict[str, str]) -> float:
    assert sorted(line["item"] for line in lines) == sorted(references)
    return float(np.mean([references[line["item"]] == line["hypothesis"] for line in lines]))


def _run(context: JobContext) -> list[Any]:
    return list(run(context))


def test_classes_of_single_windows_are_read(tmp_path: Path) -> None:
    references = single_window_store(tmp_path, make_facts(classes=3, subjects=2))
    recorder = Recorder()
    lines = _run(recorder.context(_config(), [tmp_path]))
    assert _accuracy(lines, references) > 0.9
    assert all(len(line["windows"]) == 1 for line in lines)
    assert recorder.phases == ["load fold 0", "predict fold 0"]
    assert {"loss", "dev_loss", "dev_error", "learning_rate", "fold"} <= set(recorder.lines[0][2])


def test_symbols_are_read_from_weak_flashes(tmp_path: Path) -> None:
    references = speller_store(tmp_path, make_facts(), signal=0.5)
    lines = _run(Recorder().context(_config(), [tmp_path]))
    assert _accuracy(lines, references) == 1.0
    assert all(len(line["windows"]) == 40 and len(line["nbest"]) == 5 for line in lines)


def test_permuted_labels_read_nothing(tmp_path: Path) -> None:
    """Chance is 1/3, its standard error over 2 x 120 items 0.03."""
    found = []
    for seed in (0, 1):
        store = tmp_path / str(seed)
        references = single_window_store(store, make_facts(classes=3), permute=True, seed=seed)
        found.append(_accuracy(_run(Recorder().context(_config(), [store])), references))
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.1)


def test_equal_seeds_give_equal_predictions(tmp_path: Path) -> None:
    single_window_store(tmp_path, make_facts(), signal=0.3)
    config = _config(**{"training.epochs": 2})
    first, again, other = (
        _run(Recorder().context(config, [tmp_path], seed=seed)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_every_fold_is_trained_and_numbered_through(tmp_path: Path) -> None:
    facts = make_facts()
    references = {}
    for number in range(2):
        references |= single_window_store(tmp_path / f"fold{number:02d}", facts, seed=number)
    recorder = Recorder()
    folds = [tmp_path / "fold00", tmp_path / "fold01"]
    lines = _run(recorder.context(_config(**{"training.epochs": 2}), folds))
    assert len(lines) == 240
    assert [metrics["fold"] for *_, metrics in recorder.lines] == [0, 0, 1, 1]
    assert [epoch for _, epoch, _ in recorder.lines] == [1, 2, 3, 4]
    steps = [step for step, *_ in recorder.lines]
    assert steps == sorted(set(steps))


def test_a_confirmation_predicts_the_test_part(tmp_path: Path) -> None:
    references = single_window_store(tmp_path, make_facts())
    (tmp_path / "val").rename(tmp_path / "test")
    lines = _run(Recorder().context(_config(), [tmp_path], part="test"))
    assert _accuracy(lines, references) > 0.9


def test_the_linear_family_runs_by_its_name(tmp_path: Path) -> None:
    references = single_window_store(tmp_path, make_facts(classes=3))
    config = load_recipe("speller", {"model.family": "linear", "training.epochs": 1}).config
    lines = _run(Recorder().context(config.model_dump(mode="json"), [tmp_path]))
    assert _accuracy(lines, references) > 0.9


def test_a_wrong_configuration_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = _config()
    config["training"]["learning_rat"] = 1.0
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        _run(Recorder().context(config, [tmp_path / "absent"]))


def test_folds_have_seeds_of_their_own() -> None:
    seeds = [fold_seed(seed, number) for seed in range(4) for number in range(10)]
    assert len(set(seeds)) == 40
    assert fold_seed(1, 2) == fold_seed(1, 2)
