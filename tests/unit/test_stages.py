"""Stages of a pipeline, each with what the one before has made, without an executor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from _sentence_stores import make_sentence_facts, write_sentence_store
from _tiny_lm import write_tiny_lm
from _window_stores import Recorder
from safetensors.torch import load_file

from neurodecode import entry
from neurodecode.config import LlmRecipe, read_config
from neurodecode.llm.feature_store import read_feature_store
from neurodecode.llm.prepare import prepare_features
from neurodecode.llm.reading_parts import folds_of
from neurodecode.stages import decode, encoder, encoder_without, features, lora, soup
from neurodecode.stages._facts import STAGES
from neurodecode.training.sentences import read_sentences
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.files import atomic_write_text
from neurosweep.core.layout import Home
from neurosweep.core.plugins import find_plugins, load_plugin
from neurosweep.pipeline.graph import expand
from neurosweep.pipeline.plan import used
from neurosweep.pipeline.spec import bundled_pipelines, load_pipeline

COUNTS = {"train": 24, "dev": 6, "val": 4}
FACTS = make_sentence_facts(channels=6, subjects=2)
SECTIONS: dict[str, Any] = {
    "data": {"dataset": "simulated_typing"},
    "model": {
        "family": "conv_conformer",
        "merger_channels": 8,
        "fourier_grid": 4,
        "mixed_channels": 8,
        "conv_width": 16,
        "num_convs": 2,
        "width": 16,
        "num_layers": 1,
        "num_heads": 2,
        "ffn_width": 16,
    },
    "training": {"epochs": 2, "batch_size": 8, "warmup_steps": 2, "device": "cpu"},
    "projector": {"hidden": 12, "epochs": 2, "batch_size": 8},
    "llm": {"backend": "folder", "lora_rank": 2, "epochs": 1, "device": "cpu"},
    "decoding": {"beam": 2, "max_new_tokens": 8},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with sentences of two subjects and a small language model."""
    home = Home(tmp_path_factory.mktemp("home"))
    texts = write_sentence_store(home.store("data"), FACTS, COUNTS, seed=1)
    home.secret("data").mkdir(parents=True)
    lines = [
        json.dumps({"item": item, "subject": item[:3], "reference": text, "typed": text})
        for item, text in texts.items()
    ]
    atomic_write_text(home.secret("data") / "val_refs.jsonl", "\n".join(lines))
    write_tiny_lm(home.root / "lm", layers=1)
    return home


def recipe(home: Home, **changes: Any) -> LlmRecipe:
    sections = json.loads(json.dumps(SECTIONS))
    sections["llm"]["folder"] = str(home.root / "lm")
    for path, value in changes.items():
        section, _, name = path.partition("__")
        sections.setdefault(section, {})[name] = value
    found = read_config(sections)
    assert isinstance(found, LlmRecipe)
    return found


def run(
    home: Home,
    stage: Any,
    out: Path,
    inputs: dict[str, Path] | None = None,
    element: str = "",
    **changes: Any,
) -> tuple[Path, list[dict[str, Any]]]:
    """Run a stage on what it uses of the recipe; return what it made and predicted."""
    name = stage.__name__.rpartition(".")[2]
    config = used(recipe(home, **changes).model_dump(mode="json"), list(STAGES[name].uses), name)
    config["pipeline"] = {"stage": name, "element": element}
    context = Recorder().context(config, [home.store("data")])
    out.mkdir(parents=True, exist_ok=True)
    lines = list(stage.run(replace(context, attempt_dir=out, inputs=inputs or {})))
    return out / "out", lines


@pytest.fixture(scope="module")
def chain(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """All stages, one after the other."""
    root = tmp_path_factory.mktemp("chain")
    made = {"encoder": run(home, encoder, root / "encoder")}
    made["features"] = run(home, features, root / "features", {"encoder": made["encoder"][0]})
    read = {"features": made["features"][0]}
    for subject in FACTS.subjects:
        name = f"lora.{subject}"
        made[name] = run(home, lora, root / name, read, subject)
    adapters = {name: made[name][0] for name in made if name.startswith("lora.")}
    made["soup"] = run(home, soup, root / "soup", adapters)
    made["decode"] = run(home, decode, root / "decode", read | {"soup": made["soup"][0]})
    return made


def test_stages_make_the_same_features_as_a_studys_preparation(
    home: Home, chain: dict[str, tuple[Path, Any]]
) -> None:
    told = {
        "data_fp": "data",
        "stores": ["store/data"],
        "secret": "secret/data",
        "final": None,
        "parts": {part: {"items": n} for part, n in COUNTS.items()},
        "chance": {},
        "split": "by text",
        "subjects": list(FACTS.subjects),
        "warnings": [],
    }
    result = prepare_features(recipe(home), told, home, lambda _: None)
    prepared = home.root / result["stores"][0]
    staged = chain["features"][0] / "features"
    for part in COUNTS:
        for name in ("words.npy", "items.json"):
            assert (staged / part / name).read_bytes() == (prepared / part / name).read_bytes()
    for name in ("confusions.json", "residuals.npy", "projector.safetensors"):
        assert (staged / name).read_bytes() == (prepared / name).read_bytes()
    weights = "encoder.safetensors"
    own = chain["encoder"][0] / "encoder" / weights
    assert own.read_bytes() == (prepared / "encoder" / weights).read_bytes()


def test_nothing_of_val_but_inputs_is_in_what_stages_make(
    home: Home, chain: dict[str, tuple[Path, Any]]
) -> None:
    items = json.loads((chain["features"][0] / "features" / "val" / "items.json").read_text())
    assert all("typed" not in item and "text" not in item for item in items)
    expected = {json.loads(line)["item"] for line in _refs(home)}
    assert {item["item"] for item in items} == expected


def _refs(home: Home) -> list[str]:
    return (home.secret("data") / "val_refs.jsonl").read_text(encoding="utf-8").splitlines()


def test_the_encoder_reads_every_item_alone(home: Home, chain: dict[str, tuple[Path, Any]]) -> None:
    lines = chain["encoder"][1]
    store = read_feature_store(chain["features"][0] / "features", ("val",))
    greedy = {item.item: item.greedy for item in store.parts["val"]}
    assert {line["item"]: line["hypothesis"] for line in lines} == greedy
    assert len(greedy) == len(_refs(home))


def test_an_adapter_is_tuned_and_judged_on_its_subject(
    chain: dict[str, tuple[Path, Any]],
) -> None:
    for subject in FACTS.subjects:
        out, lines = chain[f"lora.{subject}"]
        assert lines
        assert {line["item"].split("/")[0] for line in lines} == {subject}
        assert (out / "adapter" / "adapter_config.json").is_file()


def test_the_soup_is_the_average_of_all_adapters(chain: dict[str, tuple[Path, Any]]) -> None:
    file = "adapter/adapter_model.safetensors"
    average = load_file(chain["soup"][0] / file)
    each = [load_file(chain[f"lora.{subject}"][0] / file) for subject in FACTS.subjects]
    assert set(average) == set(each[0])
    differs = False
    for name, value in average.items():
        assert torch.allclose(value, (each[0][name] + each[1][name]) / 2, atol=1e-7)
        differs |= not torch.equal(each[0][name], each[1][name])
    assert differs


def test_the_soup_reads_all_subjects(home: Home, chain: dict[str, tuple[Path, Any]]) -> None:
    lines = chain["decode"][1]
    assert {line["item"] for line in lines} == {json.loads(line)["item"] for line in _refs(home)}
    assert all(set(line["variants"]) == {"greedy", "no_meg"} for line in lines)


def test_without_an_element_one_adapter_is_tuned_for_all(
    home: Home, chain: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    read = {"features": chain["features"][0]}
    _, lines = run(home, lora, tmp_path, read)
    assert {line["item"].split("/")[0] for line in lines} == set(FACTS.subjects)


def test_training_sentences_are_read_by_encoders_that_never_saw_them(
    home: Home, chain: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    inputs = {"encoder": chain["encoder"][0]}
    for element in ("1", "2"):
        name = f"fold.{element}"
        made = run(home, encoder_without, tmp_path / name, {}, element, encoder__cross_fit=2)
        inputs[name] = made[0]
    out, _ = run(home, features, tmp_path / "features", inputs, encoder__cross_fit=2)
    store = read_feature_store(out / "features", ("train", "val"))
    plain = read_feature_store(chain["features"][0] / "features", ("train", "val"))
    assert store.meta["cross_fit"] == 2
    for part, same in (("train", False), ("val", True)):
        pairs = zip(store.parts[part], plain.parts[part], strict=True)
        assert all((a.greedy == b.greedy) for a, b in pairs) == same
    train = read_sentences(home.store("data"), "train", FACTS.subjects)
    assert set(folds_of(train, 2).tolist()) == {0, 1}


@pytest.mark.parametrize("element", ["0", "3", "x", ""])
def test_a_fold_that_is_none_is_refused(home: Home, tmp_path: Path, element: str) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.cross_fit is 2; set foreach to the numbers"):
        run(home, encoder_without, tmp_path, {}, element, encoder__cross_fit=2)


def test_what_is_not_given_is_said(
    home: Home, chain: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    read = {"features": chain["features"][0]}
    with pytest.raises(DataError, match="1 is missing; name the stages that train them"):
        run(home, features, tmp_path, {"encoder": chain["encoder"][0]}, encoder__cross_fit=2)
    with pytest.raises(DataError, match="expected one input with an adapter"):
        run(home, decode, tmp_path, read)
    with pytest.raises(DataError, match=r"expected one input with features .* among nothing"):
        run(home, lora, tmp_path)
    with pytest.raises(DataError, match="subject 'S99' has no sentences in train and val"):
        run(home, lora, tmp_path, read, "S99")
    with pytest.raises(ConfigError, match="at least one adapter"):
        run(home, soup, tmp_path, read)


def test_a_damaged_adapter_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"no")
    context = Recorder().context({}, [tmp_path])
    with pytest.raises(DataError, match="holds no adapter that can be read"):
        soup.run(replace(context, attempt_dir=tmp_path, inputs={"x": tmp_path / "made"}))


def test_every_stage_has_its_facts() -> None:
    found = find_plugins("neurodecode.stages")
    assert set(found) == set(STAGES)
    for name in found:
        load_plugin("neurodecode.stages", name, needs=("run",))


def ask(recipe: str = "sentences_llm", **stages: Any) -> dict[str, Any]:
    asked = {name: {"job": name, "set": {}} | stage for name, stage in stages.items()}
    return entry.stages({"recipe": recipe, "set": {"data.subjects": 2}, "stages": asked})


def test_stages_are_described_as_data() -> None:
    answer = json.loads(json.dumps(ask(encoder={}, lora={"set": {"llm.lora_rank": 4}})))
    assert answer["config"]["data"]["subjects"] == 2
    one = answer["stages"]["lora"]
    assert one["entry"] == "neurodecode.stages.lora:run"
    assert one["config"]["llm"]["lora_rank"] == 4
    assert one["uses"] == ["llm", "decoding"]
    assert one["code"] != answer["stages"]["encoder"]["code"]


def test_a_job_of_any_module_can_be_a_stage() -> None:
    answer = ask(mine={"job": "json:dumps"})["stages"]["mine"]
    assert answer["entry"] == "json:dumps"
    assert "uses" not in answer


@pytest.mark.parametrize(
    ("recipe_name", "job", "said"),
    [
        ("sentences_llm", "lroa", "no stage 'lroa'; did you mean 'lora'"),
        ("sentences", "lora", "needs a recipe of stage 'llm'"),
        ("sentences_llm", "nowhere.at_all:run", "there is no module 'nowhere.at_all'"),
        ("sentencs", "lora", "recipe 'sentencs' is unknown"),
    ],
)
def test_a_wrong_stage_is_refused(recipe_name: str, job: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(recipe_name, one={"job": job})


@pytest.mark.parametrize("name", sorted(bundled_pipelines("neurodecode")))
def test_bundled_pipelines_can_be_expanded(name: str) -> None:
    spec = load_pipeline(bundled_pipelines("neurodecode")[name])
    tasks = expand(spec, [f"S{number:02d}" for number in range(1, 10)])
    assert len([task for task in tasks.values() if task.stage == "lora"]) == 9
    assert list(tasks)[-1] == "decode"
    assert {stage.job for stage in spec.stages.values()} <= {*STAGES, "evaluate"}
