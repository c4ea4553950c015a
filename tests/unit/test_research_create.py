"""Making a study: everything it needs is frozen, or it does not exist."""

from __future__ import annotations

import shutil
import tomllib

import pytest
from _loop_kit import STUDY_ID, call_here, new_study, small_spec, state_of

from neurosweep.core.errors import ConfigError, DataError, PluginError, StudyError
from neurosweep.core.files import atomic_write_json, canonical_json, read_json, sha256_bytes
from neurosweep.core.layout import Home
from neurosweep.core.schema import Schema
from neurosweep.records.prepared import Prepared
from neurosweep.records.spec import load_spec
from neurosweep.research import create
from neurosweep.research.create import create_study, create_study_from_file, ensure_data
from neurosweep.research.toml_text import to_toml


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    override = {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}
    return new_study(
        tmp_path_factory.mktemp("create"),
        search={"exposed": ["training.learning_rate", "model.rank"], "override": override},
    )


def test_the_ledger_freezes_everything_that_decides_a_result(study):
    created = state_of(study).created
    assert created["study"] == STUDY_ID
    assert created["spec"]["objective"] == {"metric": "val_cer", "direction": "minimize"}
    assert created["config"]["data"]["items"] == 3
    assert created["data_fp"] == created["data_info"]["data_fp"]
    assert created["data_info"]["chance"]["val_cer"] > 0.9
    assert created["entry"] == "neurosweep.testing.jobs:instant"
    assert created["code"]["how"] == "installed"
    assert "python" in created["env"]
    schema = read_json(study.schema_json)
    assert created["schema_sha"] == sha256_bytes(canonical_json(schema).encode())


@pytest.mark.parametrize("given", [None, "llm"])
def test_the_recipe_says_the_stage_and_what_is_prepared(tmp_path, given):
    created = state_of(new_study(tmp_path, recipe="staged", stage=given)).created
    assert created["spec"]["stage"] == "llm"
    assert created["prepared"] == ["data", "model"]
    assert "model.rank" not in created["spec"]["search"]["exposed"]


@pytest.mark.parametrize("listed", ["data", [3], [""], None])
def test_a_wrong_list_of_what_is_prepared_is_refused(listed):
    with pytest.raises(ConfigError, match="expected a list of dotted paths"):
        Prepared.of({"prepared": listed})


def test_a_prefix_is_a_whole_section_or_field():
    prepared = Prepared.of({"prepared": ["data", "llm.backend"]})
    assert prepared.among(["data", "data.a.b", "datas.a", "llm.backend", "llm.rank"]) == [
        "data",
        "data.a.b",
        "llm.backend",
    ]
    assert Prepared.of({}).among(["preprocessing.notch", "model.width"]) == ["preprocessing.notch"]


def test_only_the_exposed_fields_with_their_narrowed_ranges_are_searched(study):
    schema = Schema.from_json(read_json(study.schema_json))
    assert list(schema) == ["training.learning_rate", "model.rank"]
    assert (schema["training.learning_rate"].low, schema["training.learning_rate"].high) == (
        1e-4,
        1e-2,
    )


def test_the_study_toml_can_be_read_again(study):
    assert load_spec(study.study_toml).name == "small"
    assert load_spec(study.study_toml).search.override["training.learning_rate"]["low"] == 1e-4


def test_odd_values_survive_toml():
    data = {"a": {"b.c": [1, 'x"y\\z\n'], "d": {"e f": True, "g": 1.5e-7}}, "h": "ä", "none": None}
    assert tomllib.loads(to_toml(data)) == {
        "a": {"b.c": [1, 'x"y\\z\n'], "d": {"e f": True, "g": 1.5e-7}},
        "h": "ä",
    }


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr("neurosweep.research.create.call_entry", call_here)
    monkeypatch.setattr("neurosweep.research.describe.call_entry", call_here)


def nothing_left(home):
    return not home.studies_dir.exists() or list(home.studies_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"recipe": "instnat"}, ConfigError, "did you mean 'instant'"),
        ({"data": {"itmes": 3}}, ConfigError, "data.itmes"),
        ({"data": {"items": -3}}, ConfigError, "data.items"),
        ({"search": {"exposed": ["training.learning_rat"]}}, ConfigError, "training.learning_rate"),
        (
            {"recipe": "staged", "search": {"exposed": ["model.rank"]}},
            ConfigError,
            "data, model are",
        ),
        ({"search": {"exposed": ["data.items"]}}, ConfigError, "data are prepared once"),
        ({"stage": "llm"}, ConfigError, "'llm', recipe instant trains the stage 'encoder'"),
        ({"recipe": "staged", "stage": "encoder"}, ConfigError, "trains the stage 'llm'"),
        ({"objective": {"metric": "val_wer_greedy"}}, ConfigError, "unknown 'val_wer_greedy'"),
        ({"objective": {"metric": "val_crr"}}, ConfigError, "did you mean 'val_cer'"),
        ({"agent": {"name": "random_serch"}}, PluginError, "did you mean 'random_search'"),
        ({"agent": {"name": "random_search", "options": {"x": 1}}}, ConfigError, "x"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_a_wrong_specification_leaves_nothing_behind(tmp_path, changes, error, text):
    home = Home(tmp_path / "home")
    with pytest.raises(error, match=text):
        create_study(small_spec(**changes), home)
    assert nothing_left(home)


@pytest.mark.usefixtures("in_this_process")
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    home = Home(tmp_path / "home")

    def full(_descriptor, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neurosweep.records.ledger.os.write", full)
    with pytest.raises(StudyError, match="the disk is full"):
        create_study(small_spec(), home)
    assert nothing_left(home)


def test_a_file_with_several_problems_names_them_all(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('name = "x"\nrecipe = "instant"\nsede = 1\n[budget]\nrounds = -1\n')
    with pytest.raises(ConfigError) as caught:
        create_study_from_file(path, Home(tmp_path / "home"))
    assert "sede: unknown key; did you mean 'seed'?" in str(caught.value)
    assert "budget.rounds" in str(caught.value)
    assert nothing_left(Home(tmp_path / "home"))


def test_progress_of_preparing_is_said_and_it_may_use_all_cores(tmp_path, monkeypatch):
    calls, said = [], []
    genuine = create.call_entry

    def record(entry, payload, **options):
        calls.append(options["threads"])
        return genuine(entry, payload, **options)

    monkeypatch.setattr(create, "call_entry", record)
    monkeypatch.setattr(create, "allocated_cores", lambda: 3)
    create_study(small_spec(), Home(tmp_path / "home"), say=said.append)
    assert said[-2:] == ["preparing the data", "  drawing 3 sentences"]
    create_study(small_spec(execution={"workers": 2}), Home(tmp_path / "other"))
    assert calls == [3, 2]


def test_an_error_of_another_process_comes_back_as_the_same_error(tmp_path):
    home = Home(tmp_path / "home")
    with pytest.raises(ConfigError, match="did you mean 'instant'"):
        create_study(small_spec(recipe="instnat"), home)
    assert nothing_left(home)


def test_a_direction_against_the_metric_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="maximize would search for the worst val_cer"):
        new_study(tmp_path, objective={"direction": "maximize"})


def test_data_read_by_another_encoder_are_refused(tmp_path, monkeypatch):
    """Trained again, an encoder has the same name and may still be another."""
    home = Home(tmp_path)
    sha = "a" * 16

    def prepare(*_):
        for place in ("store/f", "secret/f"):
            (home.root / place).mkdir(parents=True)
        atomic_write_json(home.root / "store/f/meta.json", {"encoder_sha": sha})
        return {"data_fp": "f"}

    monkeypatch.setattr(create, "_prepare", prepare)
    info = {"stores": ["store/f"], "secret": "secret/f", "encoder": {"sha": sha}}
    spec = {"recipe": "r", "entry": "e", "execution": {"workers": 1}}
    created = {"data_info": info, "data_fp": "f", "spec": spec, "config": {}}
    ensure_data(created, home)
    ensure_data(created, home)
    created["data_info"] = info | {"encoder": {"sha": "b" * 16}}
    with pytest.raises(DataError, match=r"store/f: was read by another encoder \(a+\) .* \(b+\)"):
        ensure_data(created, home)
    for place in ("store/f", "secret/f"):
        shutil.rmtree(home.root / place)
    with pytest.raises(DataError, match="put back a copy of store/f"):
        ensure_data(created, home)
    created["data_info"] = {"stores": ["store/f"], "secret": "secret/f"}
    ensure_data(created, home)
