"""Stores of features: writing, strict reading, training once, cross-fitting, what stays secret."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _readings import HIDDEN, SCALE, word_target
from _sentence_stores import make_sentence_facts, write_sentence_store
from hypothesis import given
from hypothesis import strategies as st

from neurodecode import entry
from neurodecode.config import LlmRecipe, read_config
from neurodecode.llm import encoders, prepare
from neurodecode.llm.confusion import Confusions
from neurodecode.llm.encoders import given_encoder, training_fingerprint
from neurodecode.llm.feature_store import (
    FeatureItem,
    read_feature_store,
    read_part,
    write_part,
)
from neurodecode.llm.prepare import prepare_features
from neurodecode.llm.projector import Projector, load_projector, save_projector
from neurodecode.llm.reading_parts import fold_of
from neurodecode.training.checkpoint import load_encoder
from neurosweep.core.errors import ConfigError, DataError
from neurosweep.core.files import atomic_write_text
from neurosweep.core.layout import Home
from neurosweep.exec.job_api import Diverged

COUNTS = {"train": 24, "dev": 6, "val": 4}
FACTS = make_sentence_facts(channels=6, subjects=2)


@dataclass(frozen=True)
class FakeBackend:
    """Only what preparation needs of a language model."""

    name: str = "fake"
    sha: str = "0" * 16
    hidden: int = HIDDEN
    scale: float = SCALE

    def word_target(self, text: str) -> torch.Tensor:
        return word_target(text)


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "load_backend", lambda _: FakeBackend())


def recipe(**changes: Any) -> LlmRecipe:
    sections: dict[str, Any] = {
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
        "training": {"epochs": 2, "batch_size": 8, "warmup_steps": 2},
        "projector": {"hidden": 12, "epochs": 2, "batch_size": 8},
        "llm": {},
    }
    for path, value in changes.items():
        section, name = path.split("__")
        sections.setdefault(section, {})[name] = value
    found = read_config(sections)
    assert isinstance(found, LlmRecipe)
    return found


def sentences(home: Home, data_fp: str = "data", test: bool = True) -> dict[str, Any]:
    """Write a store of sentences, and return what preparation tells of it."""
    val = write_sentence_store(home.store(data_fp), FACTS, COUNTS, seed=1)
    secret = home.secret(data_fp)
    secret.mkdir(parents=True)
    lines = [
        json.dumps({"item": item, "subject": item[:3], "reference": text, "typed": text})
        for item, text in val.items()
    ]
    atomic_write_text(secret / "val_refs.jsonl", "\n".join(lines))
    if test:
        write_sentence_store(secret / "test", FACTS, {"test": 3}, seed=2)
        atomic_write_text(secret / "test_refs.jsonl", "sealed\n")
    return {
        "v": 1,
        "data_fp": data_fp,
        "stores": [f"store/{data_fp}"],
        "secret": f"secret/{data_fp}",
        "final": f"secret/{data_fp}/test" if test else None,
        "items_sha": "abc",
        "parts": {part: {"items": n} for part, n in {**COUNTS, "test": 3}.items()},
        "chance": {"val_wer": 1.0, "val_cer": 0.9},
        "split": "by text",
        "subjects": list(FACTS.subjects),
        "warnings": ["from the sentences"],
        "recordings": {},
    }


def prepared(home: Home, config: LlmRecipe | None = None) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    known = home.store("data").is_dir()
    told = json.loads((home.root / "told.json").read_text()) if known else sentences(home)
    (home.root / "told.json").write_text(json.dumps(told))
    return prepare_features(config or recipe(), told, home, said.append), said


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def digest(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "prepared.json"
    }


def test_a_store_holds_what_the_encoder_reads(home: Home) -> None:
    result, said = prepared(home)
    assert result["stores"] == [f"store/{result['data_fp']}"]
    assert result["items_sha"] == "abc"
    assert result["sentences_fp"] == "data"
    assert result["warnings"][0] == "from the sentences"
    assert "6 dev sentences only" in result["warnings"][1]
    fold = home.root / result["stores"][0]
    store = read_feature_store(fold, ("train", "dev", "val"))
    assert store.meta["hidden"] == HIDDEN
    assert store.meta["scale"] == SCALE
    assert store.meta["cross_fit"] == 0
    assert {part: len(items) for part, items in store.parts.items()} == COUNTS
    for part, items in store.parts.items():
        assert result["parts"][part]["words"] == sum(len(i.words_WH) for i in items)
        for one in items:
            assert (one.typed is None) == (one.text is None) == (part == "val")
            assert np.linalg.norm(one.words_WH, axis=1) == pytest.approx(SCALE, rel=1e-3)
    assert len(store.residuals) == sum(len(i.words_WH) for i in store.parts["dev"])
    assert 0.0 <= result["encoder"]["dev_cer"] == pytest.approx(store.confusions.cer, abs=0.3)
    assert result["encoder"]["epochs"] == 2
    assert 0.0 <= result["projector"]["dev_accuracy"] <= 1.0
    assert any("training" in line for line in said)
    model, facts = load_encoder(fold / "encoder")
    assert facts == FACTS
    assert result["encoder"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert load_projector(fold).sizes["num_outputs"] == HIDDEN


def test_labels_of_val_and_test_stay_secret_and_are_the_owners(home: Home) -> None:
    result, _ = prepared(home)
    store, secret = home.root / result["stores"][0], home.root / result["secret"]
    for path in (store / "val" / "items.json", secret / "test" / "test" / "items.json"):
        assert "typed" not in path.read_text()
        assert "text" not in path.read_text()
    for name in ("val_refs.jsonl", "test_refs.jsonl"):
        assert (secret / name).read_bytes() == (home.secret("data") / name).read_bytes()
    for path in [secret, *secret.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((store / "train" / "words.npy").stat().st_mode) & 0o044 == 0o044
    assert result["final"] == f"{result['secret']}/test"
    for part in ("train", "dev"):
        link = home.root / result["final"] / part
        assert link.is_symlink()
        assert not Path(link.readlink()).is_absolute()
        assert link.resolve() == (store / part).resolve()
    final = read_feature_store(home.root / result["final"], ("train", "dev", "test"))
    assert len(final.parts["test"]) == 3
    assert all(one.typed is None for one in final.parts["test"])


def test_nothing_is_trained_twice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = prepared(home)
    monkeypatch.setattr(encoders, "fit_encoder", None)
    again, said = prepared(home)
    assert again == first
    assert said == []
    for changed in ({"llm__learning_rate": 1e-2}, {"decoding__beam": 7}):
        assert prepared(home, recipe(**changed))[0] == first
    other, said = prepared(home, recipe(projector__epochs=1))
    assert other["data_fp"] != first["data_fp"]
    assert any("kept from an earlier preparation" in line for line in said)
    assert other["encoder"]["sha"] == first["encoder"]["sha"]


def test_another_home_gets_the_same_bytes(home: Home, tmp_path: Path) -> None:
    one, _ = prepared(home)
    other = Home(tmp_path / "other")
    two, _ = prepared(other)
    assert one["data_fp"] == two["data_fp"]
    assert digest(home.root / one["stores"][0]) == digest(other.root / two["stores"][0])


def test_what_a_fingerprint_depends_on() -> None:
    base = training_fingerprint(recipe(), "data")
    assert training_fingerprint(recipe(llm__lora_rank=2, projector__hidden=8), "data") == base
    others = [
        training_fingerprint(recipe(), "other"),
        training_fingerprint(recipe(), "data", (0, 2)),
        training_fingerprint(recipe(encoder__seed=1), "data"),
        training_fingerprint(recipe(training__epochs=3), "data"),
        training_fingerprint(recipe(model__width=32), "data"),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_damaged_encoder_in_the_cache_is_trained_again(home: Home) -> None:
    first, _ = prepared(home)
    (weights,) = (home.cache_dir / "encoders").glob("*/encoder.safetensors")
    weights.write_bytes(b"damaged")
    second, said = prepared(home, recipe(projector__epochs=1))
    assert any("training" in line for line in said)
    assert second["encoder"]["sha"] == first["encoder"]["sha"]


def test_cross_fitting_reads_every_sentence_without_having_seen_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    fit = encoders.fit_encoder

    def spy(model: Any, train: Any, *args: Any, **options: Any) -> Any:
        trained.append({span.text for span in train.spans})
        return fit(model, train, *args, **options)

    monkeypatch.setattr(encoders, "fit_encoder", spy)
    result, said = prepared(home, recipe(encoder__cross_fit=2))
    everything, *folds = trained
    assert len(folds) == 2
    for number, seen in enumerate(folds):
        assert seen == {text for text in everything if fold_of(text, 2) != number}
    store = read_feature_store(home.root / result["stores"][0], ("train",))
    assert store.meta["cross_fit"] == 2
    assert any("without fold 2" in line for line in said)
    assert len(list((home.cache_dir / "encoders").iterdir())) == 3
    plain, _ = prepared(home)
    assert len(trained) == 3
    own = read_feature_store(home.root / plain["stores"][0], ("train", "dev"))
    assert [i.item for i in own.parts["train"]] == [i.item for i in store.parts["train"]]
    crossed = np.concatenate([i.words_WH for i in store.parts["train"]])
    same = np.concatenate([i.words_WH for i in own.parts["train"]])
    assert crossed.shape != same.shape or not np.allclose(crossed, same)


@given(st.text("abc ", min_size=1), st.integers(2, 20))
def test_folds_are_within_their_number(text: str, folds: int) -> None:
    assert 0 <= fold_of(text, folds) < folds


def test_an_encoder_that_is_named_is_not_trained(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = prepared(home)
    folder = home.root / first["stores"][0] / "encoder"
    monkeypatch.setattr(encoders, "fit_encoder", None)
    second, _ = prepared(home, recipe(encoder__checkpoint=str(folder)))
    assert second["data_fp"] != first["data_fp"]
    assert second["encoder"]["sha"] == first["encoder"]["sha"]
    assert second["encoder"]["epochs"] is None
    one, two = (
        read_feature_store(home.root / result["stores"][0], ("train", "val"))
        for result in (first, second)
    )
    for part in ("train", "val"):
        for a, b in zip(one.parts[part], two.parts[part], strict=True):
            assert a.greedy == b.greedy
            assert np.array_equal(a.words_WH, b.words_WH)


@pytest.mark.parametrize(
    "file",
    ["layers/conformer.py", "models/conv_conformer/network.py", "training/sentences.py"],
)
@pytest.mark.parametrize("given_one", [True, False])
def test_other_code_of_the_encoder_gives_other_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, given_one: bool
) -> None:
    """An encoder that was trained elsewhere still reads by the code that is here."""
    for name in ("encoder.safetensors", "encoder.json"):
        (tmp_path / name).write_bytes(b"one")
    config = recipe(encoder__checkpoint=str(tmp_path) if given_one else "")
    before = prepare._inputs(config, FakeBackend(), "data")
    assert prepare._inputs(config, FakeBackend(), "data") == before
    genuine = encoders.sha256_file
    monkeypatch.setattr(
        encoders,
        "sha256_file",
        lambda path: "changed" if path.as_posix().endswith(file) else genuine(path),
    )
    assert prepare._inputs(config, FakeBackend(), "data") != before


def test_what_a_recipe_names_is_looked_for_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurodecode.simulation.make_recordings", None)
    nowhere = str(tmp_path / "nowhere")
    for changes, error, text in (
        ({"encoder__checkpoint": nowhere}, ConfigError, r"encoder\.checkpoint: .* has no"),
        ({"llm__backend": "folder"}, ConfigError, r"llm\.folder: is empty"),
        ({"llm__backend": "folder", "llm__folder": nowhere}, DataError, "no folder .*nowhere"),
    ):
        config = recipe(**changes).model_dump(mode="json")
        with pytest.raises(error, match=text):
            entry.prepare({"config": config, "home": str(tmp_path / "home")})


def test_training_on_what_the_encoder_knows_by_heart_is_warned_of(home: Home) -> None:
    for _ in ("made", "found"):
        result, _said = prepared(home, recipe(llm__noise="none"))
        assert any("llm.noise is 'none'" in text for text in result["warnings"])
    result, _ = prepared(home)
    assert not any("llm.noise" in text for text in result["warnings"])


def test_an_encoder_for_other_data_is_refused(home: Home, tmp_path: Path) -> None:
    result, _ = prepared(home)
    folder = home.root / result["stores"][0] / "encoder"
    with pytest.raises(ConfigError, match=r"trained for other data \(num_channels: 6, here 8"):
        given_encoder(folder, make_sentence_facts(channels=8, subjects=2), "cpu")
    with pytest.raises(ConfigError, match=r"has no encoder\.safetensors and no encoder\.json"):
        prepared(home, recipe(encoder__checkpoint=str(tmp_path / "nowhere")))
    (folder / "encoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"encoder\.checkpoint: .*cannot be loaded|no encoder"):
        prepared(home, recipe(encoder__checkpoint=str(folder)))


def test_folds_and_a_home_that_cannot_be_written_are_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"data\.folds: are 2"):
        prepare_features(recipe(), {"stores": ["a", "b"]}, home, print)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare, "write_part", full)
    with pytest.raises(DataError, match="the disk is full"):
        prepared(home)
    assert [path.name for path in (home.root / "store").iterdir()] == ["data"]
    assert [path.name for path in (home.root / "secret").iterdir()] == ["data"]


def test_training_that_leaves_the_numbers_is_a_clear_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise Diverged("the loss is nan at step 3; lower training.learning_rate")

    monkeypatch.setattr(encoders, "fit_encoder", diverge)
    with pytest.raises(ConfigError, match=r"cannot be trained: .* lower training\.learning_rate"):
        prepared(home)
    assert list((home.cache_dir / "encoders").iterdir()) == []


def test_without_a_test_part_there_is_nothing_to_seal(home: Home) -> None:
    told = sentences(home, test=False)
    result = prepare_features(recipe(), told, home, lambda _: None)
    assert result["final"] is None
    assert [p.name for p in (home.root / result["secret"]).iterdir()] == ["val_refs.jsonl"]


# --- reading strictly -------------------------------------------------------------------------


def item(number: int, greedy: str, **labels: str) -> FeatureItem:
    rng = np.random.default_rng(number)
    words_WH = rng.standard_normal((max(1, len(greedy.split())), 4)).astype(np.float32)
    return FeatureItem(f"s/r/{number}", "s", "r", greedy, words_WH, **labels)


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    items = [item(0, "the old tree"), item(1, ""), item(2, "a")]
    write_part(tmp_path / "val", items, labelled=False)
    found = read_part(tmp_path / "val", 4)
    for a, b in zip(items, found, strict=True):
        assert (a.item, a.greedy, b.typed, b.text) == (b.item, b.greedy, None, None)
        assert np.array_equal(b.words_WH, a.words_WH.astype(np.float16).astype(np.float32))
    labelled = [item(0, "the tre", typed="the tree", text="the trees")]
    write_part(tmp_path / "train", labelled, labelled=True)
    assert read_part(tmp_path / "train", 4)[0].text == "the trees"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"typed": "the"}, "must have exactly"),
        ({"greedy": 3}, "wrong type in greedy"),
        ({"start": True}, "wrong type in start"),
        ({"greedy": "The Tree"}, "other than a-z"),
        ({"greedy": "the old tree"}, "expected 0 to 3"),
        ({"stop": 9}, "names rows 0 to 9"),
        ({"start": 1}, "names rows 1 to 2"),
    ],
)
def test_damaged_items_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    folder = tmp_path / "val"
    write_part(folder, [item(0, "the tree")], labelled=False)
    entries = json.loads((folder / "items.json").read_text())
    (folder / "items.json").write_text(json.dumps([entries[0] | change]))
    with pytest.raises(DataError, match=f"item 0 .*{says}.*prepare the features again"):
        read_part(folder, 4)


def test_damaged_vectors_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    write_part(folder, [item(0, "the tree")], labelled=False)
    with pytest.raises(DataError, match=r"expected float16 \(words, 5\)"):
        read_part(folder, 5)
    for array, says in (
        (np.zeros((3, 4), np.float16), "3 vectors, but items of 2"),
        (np.zeros((2, 4), np.float32), "is float32"),
        (np.full((2, 4), np.nan, np.float16), "not finite"),
        (np.zeros((1, 4), np.float16), "of 1, expected 0 to 2"),
    ):
        np.save(folder / "words.npy", array)
        with pytest.raises(DataError, match=says):
            read_part(folder, 4)
    (folder / "words.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read"):
        read_part(folder, 4)
    write_part(tmp_path / "dev", [item(0, "a", typed="a", text="a")] * 2, labelled=True)
    with pytest.raises(DataError, match="two items have one name"):
        read_part(tmp_path / "dev", 4)


def test_what_describes_a_store_is_checked(home: Home) -> None:
    result, _ = prepared(home)
    fold = home.root / result["stores"][0]
    meta = json.loads((fold / "meta.json").read_text())

    def refused(name: str, content: Any, says: str) -> None:
        old = (fold / name).read_bytes()
        (fold / name).write_text(json.dumps(content))
        with pytest.raises(DataError, match=says):
            read_feature_store(fold, ("val",))
        (fold / name).write_bytes(old)

    refused("meta.json", meta | {"kind": "sentences"}, "holds sentences.*stage 'llm'")
    refused("meta.json", meta | {"hidden": "16"}, "lacks hidden")
    refused("meta.json", meta | {"v": 2}, "lacks format 1")
    refused("confusions.json", {}, "must hold exactly")
    refused(
        "residuals.json",
        {"cosine": [], "toward": [], "length": [], "errors": []},
        "residuals are damaged",
    )
    refused("residuals.json", {"cosine": []}, "must hold cosine, toward, length")
    (fold / "confusions.json").unlink()
    with pytest.raises(DataError, match=r"confusions\.json: cannot be read"):
        read_feature_store(fold, ("val",))


def test_a_projector_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    projector = Projector(6, 5, 4, dropout=0.3, noise=0.1)
    projector.standardise(torch.randn(50, 6))
    save_projector(tmp_path, projector)
    found = load_projector(tmp_path)
    assert not found.training
    for name, value in projector.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    (tmp_path / "projector.json").write_text('{"v": 1, "num_features": 7, "width": 5}')
    with pytest.raises(DataError, match="holds no projector that can be loaded"):
        load_projector(tmp_path)
    (tmp_path / "projector.json").write_text('{"v": 9}')
    with pytest.raises(DataError, match="not of format 1"):
        load_projector(tmp_path)


def test_confusions_of_a_store_spoil_text(home: Home) -> None:
    result, _ = prepared(home)
    store = read_feature_store(home.root / result["stores"][0], ("dev",))
    assert isinstance(store.confusions, Confusions)
    spoiled = store.confusions.corrupt("the cat", np.random.default_rng(0))
    assert len(spoiled.source) == max(1, len(spoiled.text.split()))
