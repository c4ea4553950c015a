from __future__ import annotations

import gc
import json
import os
import shutil
import stat
import weakref
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from _dataset_maker import make_recording
from _neuromag_maker import make_raw
from _sentence_maker import PARTS, TEXTS, Typed, make_opm, seconds_of, typed, write_study

from neurodecode import sentence_store, stores
from neurodecode.contracts import SentenceItem, Sentences
from neurodecode.decoding.alphabet import SYMBOLS
from neurodecode.inspection import check_recordings, describe_data, typing_facts
from neurodecode.preprocessing.config import PreprocessingConfig
from neurodecode.preprocessing.pipeline import preprocess
from neurodecode.sentence_chance import chance
from neurodecode.sentence_summary import (
    check_sentences,
    near_duplicate_warning,
    permute_texts,
    sentence_meta,
    without_samples,
)
from neurosweep.core.errors import DataError, PluginError
from neurosweep.core.layout import Home
from neurosweep.evaluation.references import read_references

PAPER = PreprocessingConfig(lowpass_hz=45.0)


def study(folder, **changes):
    two = {"r1": ("S01", typed(TEXTS[:7])), "r2": ("S02", typed(TEXTS[7:]))}
    raws = {
        name: make_opm(seconds_of(sentences), 20, 250.0, seed=k)
        for k, (name, (_, sentences)) in enumerate(two.items())
    }
    return {"events": str(write_study(folder, two, raws=raws)), **changes}


def prepare(home, options, preprocessing=PAPER, **how):
    how = {"folds": None, "permute_labels": 0, **how}
    return stores.prepare_store("meg_sentences", options, preprocessing, home=Home(home), **how)


def items_of(folder):
    return json.loads((folder / "items.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    options = study(tmp_path_factory.mktemp("study"))
    home = tmp_path_factory.mktemp("home")
    return home, options, prepare(home, options)


def test_parts_hold_whole_sentences_one_after_the_other(made):
    home, _, result = made
    (store,) = (home / place for place in result["stores"])
    for part in ("train", "dev", "val"):
        x_TC = np.load(store / part / "x.npy", mmap_mode="r")
        items = items_of(store / part)
        assert x_TC.dtype == np.float16
        assert x_TC.flags.c_contiguous
        assert x_TC.shape[1] == 20
        assert len(items) == PARTS[part] == result["parts"][part]["items"]
        assert [entry["start"] for entry in items] == [0, *(e["stop"] for e in items[:-1])]
        assert items[-1]["stop"] == len(x_TC)
        seconds = sum(entry["stop"] - entry["start"] for entry in items) / 100.0
        assert result["parts"][part]["seconds"] == pytest.approx(seconds, abs=0.1)
        assert np.abs(x_TC).max() <= 5.0
        assert 0.3 < np.asarray(x_TC, dtype=np.float32).std() < 2.0


def test_samples_are_those_of_the_preprocessed_recording(made):
    home, options, result = made
    module = stores.load_dataset("meg_sentences")
    recordings = module.read(module.Config(**options))
    prepared = {r.name: preprocess(r, PAPER) for r in recordings}
    items = {i.item: i for i in module.sentences(module.Config(**options), recordings).items}
    x_TC = np.load(home / result["stores"][0] / "train" / "x.npy")
    for entry in items_of(home / result["stores"][0] / "train"):
        item = items[entry["item"]]
        first = round(item.start_s * 100)
        whole_CT = prepared[f"{item.subject}/{item.recording}"].data_CT
        wanted_TC = whole_CT[:, first : first + entry["stop"] - entry["start"]].T
        assert np.array_equal(x_TC[entry["start"] : entry["stop"]], wanted_TC.astype(np.float16))
        assert entry["onsets_s"][0] == pytest.approx(0.4, abs=0.006)
        assert len(entry["onsets_s"]) == len(item.typed)
        last = (entry["stop"] - entry["start"]) / 100.0 - entry["onsets_s"][-1]
        assert last == pytest.approx(0.45, abs=0.011)


def test_meta_tells_what_a_model_must_know(made):
    home, _, result = made
    meta = json.loads((home / result["stores"][0] / "meta.json").read_text())
    assert (meta["kind"], meta["sfreq_hz"], meta["symbols"]) == ("sentences", 100.0, SYMBOLS)
    assert meta["subjects"] == ["S01", "S02"]
    assert list(meta["layout"]) == meta["channels"]
    assert all(len(place) == 2 for place in meta["layout"].values())
    assert meta["chance"] == result["chance"]
    assert 0.5 < meta["chance"]["val_cer"] <= 1.0
    assert 0.5 < meta["chance"]["val_wer"] <= 1.0


def test_no_open_file_tells_a_text_of_val_or_test(made):
    home, _, result = made
    store, secret = home / result["stores"][0], home / result["secret"]
    sealed = [
        reference.text
        for name in ("val_refs.jsonl", "test_refs.jsonl")
        for reference in read_references(secret / name).values()
    ]
    assert len(sealed) == PARTS["val"] + PARTS["test"]
    for path in [p for p in store.rglob("*") if p.is_file()] + list((secret / "test").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert not [text for text in sealed if text.encode() in content], path
    for folder in (store / "val", secret / "test" / "test"):
        for entry in items_of(folder):
            assert set(entry) == {"item", "subject", "recording", "start", "stop"}
    for entry in items_of(store / "train") + items_of(store / "dev"):
        assert entry["text"] in TEXTS
        assert {"typed", "onsets_s"} < set(entry)


def test_sealed_test_lies_beside_links_to_what_is_trained_on(made):
    home, _, result = made
    final = home / result["final"]
    for part in ("train", "dev"):
        assert (final / part).is_symlink()
        assert not (final / part).readlink().is_absolute()
        assert items_of(final / part) == items_of(home / result["stores"][0] / part)
    assert len(items_of(final / "test")) == PARTS["test"]
    assert (final / "meta.json").is_file()
    for path in [home / result["secret"], *(home / result["secret"]).rglob("*")]:
        if not path.is_symlink():
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    for path in (home / result["stores"][0] / "train").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644, "a link was followed"


def test_confirmation_gets_its_inputs_as_hard_links(made, tmp_path):
    home, _, result = made
    copy = tmp_path / "store"
    shutil.copytree(home / result["final"], copy, copy_function=os.link)
    assert not [path for path in copy.rglob("*") if path.is_symlink()]
    for part, size in (("train", PARTS["train"]), ("dev", PARTS["dev"]), ("test", PARTS["test"])):
        assert len(items_of(copy / part)) == size
        assert np.load(copy / part / "x.npy", mmap_mode="r").shape[1] == 20


def test_no_copy_of_whole_recordings_is_kept(made):
    home, *_ = made
    assert not (home / "secret" / "preprocessed").exists()
    size = sum(p.stat().st_size for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    assert size < 20 * 2 * 100 * (seconds_of(typed()) + 10)


def test_second_call_reads_nothing_again(made, monkeypatch):
    home, options, result = made
    monkeypatch.setattr("neurodecode.datasets.meg_sentences.read", None)
    assert prepare(home, options) == result


def test_permuted_texts_are_those_of_other_training_sentences(made):
    home, options, result = made
    null = prepare(home, options, permute_labels=3)
    assert null["data_fp"] != result["data_fp"]
    assert "texts are permuted (seed 3)" in null["warnings"][-1]
    for part in ("train", "dev"):
        true, permuted = (items_of(home / r["stores"][0] / part) for r in (result, null))
        assert [e["item"] for e in true] == [e["item"] for e in permuted]
        assert sorted(e["text"] for e in true) == sorted(e["text"] for e in permuted)
    texts = [[e["text"] for e in items_of(home / r["stores"][0] / "train")] for r in (result, null)]
    assert texts[0] != texts[1]
    for name in ("val_refs.jsonl", "test_refs.jsonl"):
        kept = [(home / r["secret"] / name).read_text() for r in (result, null)]
        assert kept[0] == kept[1]


def test_only_one_recording_is_in_memory(made, tmp_path, monkeypatch):
    _, options, result = made
    seen, most = [], []

    def watch(recording, config):
        gc.collect()
        seen.append(weakref.ref(recording.data_CT))
        most.append(sum(one() is not None for one in seen))
        return preprocess(recording, config)

    monkeypatch.setattr(sentence_store, "preprocess", watch)
    assert prepare(tmp_path, options) == result
    assert most == [1, 1]


def test_recordings_of_different_rates_are_refused(tmp_path):
    two = {"r1": ("S01", typed(TEXTS[:7])), "r2": ("S02", typed(TEXTS[7:]))}
    raws = {
        name: make_opm(seconds_of(s), 8, sfreq)
        for (name, (_, s)), sfreq in zip(two.items(), (100.0, 120.0), strict=True)
    }
    table = write_study(tmp_path, two, raws=raws)
    slow = PreprocessingConfig(lowpass_hz=40.0, resample_hz=0.0)
    with pytest.raises(DataError, match=r"S01/r1 100 Hz, S02/r2 120 Hz.*resample_hz"):
        prepare(tmp_path / "home", {"events": str(table)}, slow)


def test_folds_are_refused(made, tmp_path):
    _, options, _ = made
    with pytest.raises(DataError, match=r"data\.folds: is 4, must be 1 .* decides its part"):
        prepare(tmp_path, options, folds=4)
    with pytest.raises(DataError, match=r"data\.folds: is 4"):
        describe_data("meg_sentences", options, 4)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_half_precision_cannot_hold_are_refused(made, tmp_path):
    _, options, _ = made
    raw = PreprocessingConfig(lowpass_hz=45.0, scale="none")
    with pytest.raises(DataError, match=r"preprocessing\.scale.*use 'robust'"):
        prepare(tmp_path, options, raw)
    assert list(tmp_path.iterdir()) == []


def test_no_sentence_to_validate_on_is_an_error(tmp_path):
    few = {"r1": ("S01", typed(TEXTS[:3]))}
    table = write_study(tmp_path, few, raws={"r1": make_opm(12.0)})
    with pytest.raises(DataError, match=r"of 3 sentences none is in val .*train 2, dev 1, val 0"):
        prepare(tmp_path / "home", {"events": str(table)})
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "home" / "store").iterdir()) == []


def test_failure_half_way_leaves_nothing(made, tmp_path, monkeypatch):
    _, options, _ = made
    done = []

    def fail(recording, config):
        if done:
            raise OSError(28, os.strerror(28))
        done.append(recording.name)
        return preprocess(recording, config)

    with monkeypatch.context() as patch:
        patch.setattr(sentence_store, "preprocess", fail)
        with pytest.raises(DataError, match="the disk is full"):
            prepare(tmp_path, options)
    assert done == ["S01/r1"]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert list((tmp_path / "store").iterdir()) == []


def test_306_sensors_and_a_bad_one_in_one_of_two_recordings(tmp_path):
    two = {"r1": ("S01", typed(TEXTS[:7])), "r2": ("S01", typed(TEXTS[7:]))}
    raws = {
        name: make_raw(seconds_of(s), 100.0, seed=k) for k, (name, (_, s)) in enumerate(two.items())
    }
    raws["r1"].info["bads"] = ["MEG0113", "MEG0112"]
    raws["r2"].info["bads"] = ["MEG0112"]
    table = write_study(tmp_path, two, raws=raws)
    module = stores.load_dataset("meg_sentences")
    config = module.Config(events=str(table))
    recordings = module.read(config)
    result = {"data_fp": "x", "split": "", "chance": {}, "subjects": ["S01"]}
    told = [without_samples(r, preprocess(r, PreprocessingConfig())) for r in recordings]
    meta = sentence_meta(told, module.sentences(config, recordings), result)
    assert meta["layout"]["MEG0112"] == [-0.1, -0.1]
    assert min(meta["layout"]["MEG0113"]) >= 0.0
    assert sum(place == [-0.1, -0.1] for place in meta["layout"].values()) == 1


def item(name="S01/r1/t0", **changes):
    values = {"part": "train", "start_s": 0.6, "stop_s": 2.0, "onsets_s": (1.0, 1.5)}
    values |= {"item": name, "reference": "ab", "typed": "ab"}
    return SentenceItem(**{**values, **changes})


def test_windows_end_where_the_recording_does():
    prepared = preprocess(make_recording(sfreq=200.0), PreprocessingConfig())
    last = sentence_store.cut_sentence(prepared, item(start_s=19.0, stop_s=20.0))
    assert last.shape == (100, 4)
    rounded = sentence_store.cut_sentence(prepared, item(start_s=19.0, stop_s=20.0051))
    assert rounded.shape == (101, 4)
    assert np.array_equal(rounded[-1], rounded[-2])
    with pytest.raises(DataError, match=r"from 19 to 20\.5 s reaches beyond"):
        sentence_store.cut_sentence(prepared, item(start_s=19.0, stop_s=20.5))


def test_windows_after_a_gap_are_cut_at_their_time():
    data = np.tile(np.arange(4000.0), (2, 1))
    off = PreprocessingConfig(notch_hz=0, highpass_hz=0, lowpass_hz=0, resample_hz=0, clamp=0)
    segments = ((0, 1000), (2000, 4000))
    prepared = preprocess(make_recording(data, segments=segments), off)
    cut = sentence_store.cut_sentence(prepared, item(start_s=10.0, stop_s=11.0))
    assert cut.shape == (200, 2)
    whole = prepared.data_CT[0]
    assert np.array_equal(cut[:, 0], whole[1000:1200].astype(np.float16))
    with pytest.raises(DataError, match="over a gap"):
        sentence_store.cut_sentence(prepared, item(start_s=4.0, stop_s=6.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": ""}, "reference is ''"),
        ({"typed": "A1"}, "typed is 'A1'"),
        ({"onsets_s": ()}, "keys do not lie in order"),
        ({"onsets_s": (1.5, 1.0)}, "keys do not lie in order"),
        ({"stop_s": 1.2}, "keys do not lie in order"),
        ({"item": "S01/t0"}, "must be subject/recording/trial"),
    ],
)
def test_wrong_sentences_are_refused(changes, message):
    wrong = replace(item(), **changes)
    with pytest.raises(DataError, match=message):
        check_sentences(Sentences((wrong,), SYMBOLS, ""))


def test_doubled_names_and_empty_datasets_are_refused():
    with pytest.raises(DataError, match="is the name of 2 sentences"):
        check_sentences(Sentences((item(), item()), SYMBOLS, ""))
    with pytest.raises(DataError, match="of 0 sentences none is in train and dev and val"):
        check_sentences(Sentences((), SYMBOLS, ""))


def test_chance_is_the_best_constant_guess():
    levels = chance(["the cat", "the dog", "the car", "a bird sings"])
    assert levels["val_wer"] == pytest.approx((0 + 0.5 + 0.5 + 1.0) / 4)
    assert levels["val_cer"] == pytest.approx((1 / 7 + 3 / 7 + 0 + 9 / 12) / 4, abs=0.05)
    assert chance(["a"] * 3) == {"val_wer": 0.0, "val_cer": 0.0}
    assert chance([chr(97 + k) * 3 for k in range(26)])["val_cer"] <= 1.0


def test_near_repeats_of_sealed_sentences_are_told():
    train = [item(f"S01/r1/t{k}", reference=text, typed=text) for k, text in enumerate(TEXTS[:4])]
    val = [item("S01/r1/v", reference="the cats sat", typed="the cats sat")]
    (line,) = near_duplicate_warning({"train": train, "dev": [], "val": val, "test": []})
    assert line.startswith("1 of 4 training sentences nearly repeat")
    assert near_duplicate_warning({"train": train[1:], "dev": [], "val": val, "test": []}) == []


def test_permutation_keeps_typed_text_with_its_reference():
    items = tuple(
        item(f"S01/r1/t{k}", reference=f"{chr(97 + k)}", typed=f"{chr(97 + k)}x", part=part)
        for k, part in enumerate(("train",) * 6 + ("val",) * 3)
    )
    permuted = permute_texts(Sentences(items, SYMBOLS, ""), 1).items
    assert all(i.typed == i.reference + "x" for i in permuted)
    assert permuted[6:] == items[6:]
    assert {i.reference for i in permuted[:6]} == set("abcdef")
    assert [i.reference for i in permuted[:6]] != list("abcdef")
    assert permute_texts(Sentences(items, SYMBOLS, ""), 0).items == items


def test_check_and_info_tell_how_sentences_were_typed(tmp_path):
    slips = [Typed(TEXTS[0], "teh cat sat"), *typed(TEXTS[1:])]
    raw = make_opm(seconds_of(slips), 20)
    table = write_study(tmp_path, {"r1": ("S01", slips)}, raws={"r1": raw})
    checked = check_recordings("meg_sentences", {"events": str(table)})
    assert checked["recordings"] == ["S01/r1"]
    text = "\n".join(checked["lines"])
    assert "S01/r1: 20 channels, 100 Hz" in text
    assert "13 sentences (13 different) by 1 subjects (S01)" in text
    assert "6.67 a second" in text
    assert "92% of sentences are typed without a slip; character error rate of typing" in text
    info = describe_data("meg_sentences", {"events": str(table)}, 1)
    assert info["parts"]["val"]["items"] == PARTS["val"]
    assert info["typing"]["typo_cer"] == pytest.approx(2 / sum(map(len, TEXTS)))
    assert any(line.startswith("train: 6 sentences") for line in info["lines"])
    assert info["symbols"] == SYMBOLS


def test_typing_facts_of_single_keys():
    facts = typing_facts([item(onsets_s=(1.0,))])
    assert facts["keys_per_s"] == 0.0
    assert facts["keys"] == 1


def test_dataset_with_neither_windows_nor_sentences_is_refused(monkeypatch):
    monkeypatch.setattr(stores, "load_plugin", lambda *_: ModuleType("empty"))
    with pytest.raises(PluginError, match="neither windows nor sentences"):
        stores.load_dataset("empty")


def test_place_of_the_files_does_not_count(made, tmp_path):
    home, options, result = made
    copied = shutil.copytree(Path(options["events"]).parent, tmp_path / "copy")
    assert prepare(home, {"events": str(copied / "events.tsv")}) == result
