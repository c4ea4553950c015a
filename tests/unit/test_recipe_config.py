"""Recipes: the bundled ones are whole, changes are checked, errors help."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurodecode.config import dataset_options, prepared_paths, read_config
from neurodecode.recipe import bundled_recipes, load_recipe
from neurosweep.core.errors import ConfigError

RECIPES = sorted(bundled_recipes())
PATH = {"data.path": "somewhere"}


def _path_of(name: str) -> dict[str, str]:
    if name == "neuromag" or name.startswith("brain2qwerty"):
        return {"data.events": "somewhere/events.tsv"}
    return {} if name == "speller" or name.startswith("sentences") else PATH


def _write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_recipes_of_the_recordings_are_bundled() -> None:
    assert {"buttons", "feis_null", "speller", "typing"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_bundled_recipe_is_whole(name: str) -> None:
    recipe = load_recipe(name, _path_of(name))
    schema = recipe.schema()
    assert recipe.name == name
    assert recipe.head.about
    assert recipe.head.exposed
    assert all(schema[path].searchable for path in recipe.head.exposed)
    assert all(f.check(f.default) is None for f in schema.values() if f.default is not None)
    assert [path for path, field in schema.items() if not field.doc] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_configuration_survives_the_way_to_a_job(name: str) -> None:
    config = load_recipe(name, _path_of(name)).config
    again = read_config(config.model_dump(mode="json"))
    assert (again, type(again)) == (config, type(config))


def test_the_language_model_stage_fixes_its_encoder_once() -> None:
    fixed = prepared_paths(load_recipe("sentences_llm").config)
    assert {"data", "model", "training", "encoder", "llm.backend"} <= set(fixed)
    assert not set(load_recipe("sentences_llm").head.exposed) & set(fixed)
    assert prepared_paths(load_recipe("sentences").config) == ["data", "preprocessing"]


def test_models_and_data_of_different_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'sync_conv' reads windows.*families.*conv_conformer"):
        load_recipe("sentences", {"model.family": "sync_conv"})
    with pytest.raises(ConfigError, match=r"'conv_conformer' reads sentences.*linear, sync_conv"):
        load_recipe("speller", {"model.family": "conv_conformer"})


def test_a_language_model_needs_sentences(tmp_path: Path) -> None:
    text = bundled_recipes()["speller"].read_text()
    with pytest.raises(ConfigError, match="needs a dataset of sentences, 'noisetag_speller'"):
        load_recipe(_write(tmp_path, text.replace('stage = "encoder"', 'stage = "llm"')))
    with pytest.raises(ConfigError, match="set stage = 'llm' or drop it"):
        load_recipe(_write(tmp_path, text + "[llm]\n"))


def test_values_are_changed_by_dotted_paths() -> None:
    config = load_recipe("speller", {"training.learning_rate": 1e-4, "model.norm": "layer"}).config
    assert config.training.learning_rate == 1e-4
    assert config.model.norm == "layer"


def test_another_family_starts_its_section_afresh() -> None:
    recipe = load_recipe("speller", {"model.family": "linear", "model.dropout": 0.1})
    assert recipe.config.model.dropout == 0.1
    assert "model.pooling_heads" not in recipe.schema()
    assert "training.learning_rate" in recipe.head.exposed
    assert not any(path.startswith("model.pool") for path in recipe.head.exposed)


def test_another_dataset_starts_its_section_afresh() -> None:
    config = load_recipe("speller", {"data.dataset": "finger_typing", **PATH}).config
    assert config.data.folds == 10
    assert dataset_options(config) == {"path": "somewhere", "source": "rebuilt"}


def test_a_dataset_needs_what_has_no_default() -> None:
    with pytest.raises(ConfigError, match=r"typing: 1 problem\n  data.path: is missing"):
        load_recipe("typing")


def test_an_unknown_recipe_names_a_near_one() -> None:
    with pytest.raises(ConfigError, match=r"'speler' is unknown; did you mean 'speller'.*typing"):
        load_recipe("speler")


def test_an_absent_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_recipe("absent.toml")


def test_an_unknown_family_names_a_near_one() -> None:
    with pytest.raises(ConfigError, match=r"model.family: is 'sync_cnv'; did you mean 'sync_conv'"):
        load_recipe("speller", {"model.family": "sync_cnv"})


def test_an_unknown_language_model_names_a_near_one() -> None:
    with pytest.raises(
        ConfigError, match=r"llm.backend: is 'shiped'; did you mean 'shipped'.*fold"
    ):
        load_recipe("sentences_llm", {"llm.backend": "shiped"})
    for wrong in (3, None):
        with pytest.raises(ConfigError, match=r"llm\.backend: is"):
            load_recipe("sentences_llm", {"llm.backend": wrong})
    sections = load_recipe("sentences_llm").config.model_dump(mode="json")
    with pytest.raises(ConfigError, match="llm"):
        read_config(sections | {"llm": 3})


def test_an_unknown_section_names_a_near_one() -> None:
    with pytest.raises(ConfigError, match=r"trainin.epochs: unknown.*mean 'training'"):
        load_recipe("speller", {"trainin.epochs": 3})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("speller", {"training.learning_rat": 1.0, "model.dropout": "much"})
    assert "did you mean 'learning_rate'" in str(caught.value)
    assert "model.dropout" in str(caught.value)
    with pytest.raises(ConfigError, match=r"learning_rate: is 7.0, not in \[1e-05, 0.1\]"):
        load_recipe("speller", {"training.learning_rate": 7.0})


def test_a_file_of_ones_own_is_a_recipe(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        'stage = "encoder"\n[data]\ndataset = "noisetag_speller"\n[model]\nfamily = "linear"\n',
    )
    recipe = load_recipe(path, {"model.samples_per_feature": 4})
    assert recipe.name == "mine"
    assert recipe.head.objective.metric == "val_cer"
    assert recipe.config.model.samples_per_feature == 4


def test_an_exposed_field_must_exist(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        'exposed = ["model.widht"]\n[data]\ndataset = "noisetag_speller"\n'
        '[model]\nfamily = "sync_conv"\n',
    )
    with pytest.raises(ConfigError, match=r"model.widht: unknown.*mean 'model.width'"):
        load_recipe(path)


def test_an_unknown_key_beside_the_sections_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, 'stge = "encoder"\n[data]\ndataset = "noisetag_speller"\n')
    with pytest.raises(ConfigError, match=r"stge: unknown key; did you mean 'stage'"):
        load_recipe(path)
