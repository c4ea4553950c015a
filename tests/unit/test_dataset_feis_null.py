from __future__ import annotations

import re
import zipfile
from collections import Counter

import pytest
from _dataset_maker import SHARED, write_feis

from neurodecode.checks import check_recording
from neurodecode.datasets import feis_null
from neurodecode.datasets.feis_null import Config
from neurosweep.core.errors import DataError

REAL = SHARED / "feis_phoneme_eeg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("feis")
    write_feis(made, "03")
    return write_feis(made, "01")


def rewrite(folder, target, change):
    with zipfile.ZipFile(folder / "01_articulators.zip") as archive:
        text = archive.read("articulators.csv").decode()
    with zipfile.ZipFile(target / "01_articulators.zip", "w") as archive:
        archive.writestr("articulators.csv", change(text))
    return Config(path=str(target))


def test_one_recording_a_participant_and_one_item_an_epoch(folder):
    config = Config(path=str(folder))
    recordings = feis_null.read(config)
    windows = feis_null.windows(config, recordings)
    assert [r.name for r in recordings] == ["p01/fixation", "p03/fixation"]
    assert recordings[0].data_CT.shape == (14, 32 * 256)
    assert Counter(item.labels[0] for item in windows.items) == dict.fromkeys(range(16), 4)
    assert {item.part for item in windows.items} == {"pool"}
    assert windows.items[2].reference == "c"
    assert windows.classes[2] == "goose"


def test_participants_are_chosen_by_number(folder):
    assert [p.name[:2] for p in feis_null.sources(Config(path=str(folder), participants="03"))] == [
        "03"
    ]
    with pytest.raises(DataError, match=r"participants: 01 named twice in '01,01'"):
        feis_null.sources(Config(path=str(folder), participants="01,01"))
    with pytest.raises(DataError, match=r"participants: 09 not in .*; it has 01, 03"):
        feis_null.sources(Config(path=str(folder), participants="03,09"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("Label", "Name", 1), "begins with"),
        (lambda text: text.rsplit("\n", 20)[0], "whole epochs of 256"),
        (lambda text: text.replace(",goose,", ",gooze,"), "label 'gooze' is unknown"),
        (lambda text: text.replace(",goose,", ",k,", 1), "line 514: an epoch changes"),
        (lambda text: text.replace("4200.", "x", 1), "no numbers"),
        (lambda text: text.replace(",k,articulators,", ",k,thinking,"), "stage 'thinking' is not"),
        (
            lambda text: re.sub(r"(0\.00390625,0,)[\d.]+,", r"\1nan,", text),
            "line 3: a sample is NaN",
        ),
        (lambda text: text.splitlines()[0] + "\n", "has 0 rows"),
        (lambda _: "", "is empty"),
    ],
)
def test_damaged_tables_are_errors(folder, tmp_path, change, message):
    config = rewrite(folder, tmp_path, change)
    with pytest.raises(DataError, match=message):
        feis_null.read(config)


def test_missing_and_cut_archives_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match=r"has no NN_articulators\.zip"):
        feis_null.sources(Config(path=str(tmp_path)))
    whole = (folder / "01_articulators.zip").read_bytes()
    (tmp_path / "01_articulators.zip").write_bytes(whole[:9000])
    with pytest.raises(DataError, match="cannot be read"):
        feis_null.read(Config(path=str(tmp_path)))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the recording is not in {REAL}")
def test_real_recording():
    config = Config(path=str(REAL), participants="02")
    (recording,) = feis_null.read(config)
    check_recording(recording)
    windows = feis_null.windows(config, (recording,))
    assert Counter(item.labels[0] for item in windows.items) == dict.fromkeys(range(16), 10)
