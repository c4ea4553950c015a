"""Simulated studies on disk: files, tables, determinism, and what is refused."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from neurodecode.datasets import simulated_typing
from neurodecode.datasets._typing_sim import study
from neurodecode.datasets._typing_sim.bundle import make_room, read_room
from neurodecode.datasets.simulated_typing import Config
from neurodecode.events import read_events, select
from neurosweep.core.config import fields_of, validate
from neurosweep.core.errors import DataError
from neurosweep.core.files import sha256_file
from neurosweep.evaluation.splits import part_of_text

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "meg_neuromag306"


def small(folder: Path, **options: Any) -> Config:
    values = {
        "folder": str(folder),
        "recordings": 1,
        "train_sentences": 2,
        "val_sentences": 1,
        "test_sentences": 0,
        "max_words": 4,
        "max_chars": 16,
        "sfreq_hz": 200.0,
        **options,
    }
    return validate(Config, values, "data")


def silent(text: str) -> None:
    del text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small(tmp_path_factory.mktemp("sim") / "neuromag", typo_rate=0.3)
    simulated_typing.make(config, silent)
    return config


def test_make_writes_whole_fif_files_and_one_table(made: Config) -> None:
    names = sorted(path.name for path in Path(made.folder).iterdir())
    assert names == ["S01_R01_meg.fif", "events.tsv", "simulation.json"]
    raw = mne.io.read_raw_fif(Path(made.folder) / names[0], verbose="ERROR")
    assert (raw.info["sfreq"], len(raw.ch_names)) == (200.0, 306)
    assert (raw.info["line_freq"], raw.orig_format) == (50.0, "short")
    assert raw.info["dev_head_t"] is not None


def test_values_are_of_real_size_and_finer_than_the_noise(made: Config) -> None:
    (recording,) = simulated_typing.read_each(made)
    for unit, low, high in (("T", 2e-13, 3e-12), ("T/m", 2e-12, 4e-11)):
        rows = [row for row, u in enumerate(recording.units) if u == unit]
        assert low < np.median(recording.data_CT[rows].std(axis=1)) < high
        step = [np.diff(np.unique(recording.data_CT[row])).min() for row in rows[:5]]
        fast = np.diff(recording.data_CT[rows[:5]], axis=1).std(axis=1)
        assert (np.array(step) < 0.02 * fast).all()


def test_the_table_says_what_was_typed(made: Config) -> None:
    events = read_events(Path(made.folder) / "events.tsv")
    (row,) = select(events, "Meg")
    assert (row.filepath, row.frequency, row.timeline) == ("S01_R01_meg.fif", 200.0, "R01")
    sentences = select(events, "Sentence")
    assert len(sentences) == 3
    assert any(event.text != event.value("typed") for event in sentences)
    for sentence in sentences:
        keys = [key for key in select(events, "Keystroke") if key.trial_id == sentence.trial_id]
        assert "".join(key.text for key in keys) == sentence.value("typed")
        assert [key.button for key in keys if key.text == " "] == ["space"] * sentence.value(
            "typed"
        ).count(" ")
        assert keys[0].start == sentence.start
        assert keys[-1].start <= sentence.start + sentence.duration
        assert sentence.start + sentence.duration < row.duration


def test_items_carry_parts_and_windows(made: Config) -> None:
    recordings = simulated_typing.read(made)
    found = simulated_typing.sentences(made, recordings)
    assert [item.item for item in found.items] == ["S01/R01/0000", "S01/R01/0001", "S01/R01/0002"]
    assert sorted(item.part == "val" for item in found.items) == [False, False, True]
    for item in found.items:
        assert item.part == part_of_text(item.reference)
        assert item.start_s == pytest.approx(item.onsets_s[0] - 0.4)
        assert len(item.onsets_s) == len(item.typed)
    assert len(simulated_typing.sources(made)) == 2


def test_files_are_equal_byte_by_byte_and_change_with_the_seed(
    made: Config, tmp_path: Path
) -> None:
    again = small(tmp_path / "again", typo_rate=0.3)
    other = small(tmp_path / "other", typo_rate=0.3, seed=1, brain_noise=False)
    for config in (again, other):
        simulated_typing.make(config, silent)
    name = "S01_R01_meg.fif"
    shas = [sha256_file(Path(c.folder) / name) for c in (made, again, other)]
    assert shas[0] == shas[1] != shas[2]
    tables = [(Path(c.folder) / "events.tsv").read_text() for c in (made, again, other)]
    assert tables[0] == tables[1] != tables[2]


def test_switching_a_part_off_changes_no_other(tmp_path: Path) -> None:
    quiet = {"sensor_noise": False, "brain_noise": False, "artefacts": False}
    nothing = {**quiet, "rhythms": False}
    data = {}
    for name, options in (
        ("keys", nothing),
        ("rhythms", {**quiet, "moment_nam": 0.0}),
        ("both", quiet),
    ):
        config = small(tmp_path / name, **options)
        simulated_typing.make(config, silent)
        path = Path(config.folder) / "S01_R01_meg.fif"
        data[name] = mne.io.read_raw_fif(path, verbose="ERROR").get_data()
    largest = np.abs(data["both"]).max()
    assert np.abs(data["keys"] + data["rhythms"] - data["both"]).max() < 1e-3 * largest
    first = read_events(tmp_path / "keys" / "events.tsv")
    press = select(first, "Keystroke")[0].start
    before = round((press - 0.9) * 200.0)
    assert np.abs(data["keys"][:, :before]).max() < 1e-3 * np.abs(data["keys"]).max()


def test_making_twice_is_quick_and_other_options_are_refused(made: Config) -> None:
    told: list[str] = []
    assert simulated_typing.make(made, told.append)[0].endswith("events.tsv")
    assert told == [f"recordings are there: {made.folder}"]
    other = made.model_copy(update={"seed": 5})
    with pytest.raises(DataError, match="is there and is not this simulation"):
        simulated_typing.make(other, silent)


def test_an_unmade_study_says_how_to_make_it(tmp_path: Path) -> None:
    for folder in ("", str(tmp_path / "nowhere")):
        config = Config(folder=folder)
        for use in (simulated_typing.sources, simulated_typing.read):
            with pytest.raises(DataError, match="neurosweep data make"):
                use(config)
    with pytest.raises(DataError, match=r"data\.folder: is empty"):
        simulated_typing.make(Config(), silent)


def test_a_failed_simulation_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(study, "simulate", lambda *_: (None, None))
    monkeypatch.setattr(study, "write_fif", full)
    with pytest.raises(DataError, match="No space left on device"):
        simulated_typing.make(small(tmp_path / "study"), silent)
    assert list(tmp_path.iterdir()) == []


def test_two_who_make_the_same_study_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of two machines may have one number."""
    write, folders = study._write_study, []

    def meanwhile(config: Config, folder: Path, say: Any) -> None:
        folders.append(folder)
        if len(folders) == 1:
            simulated_typing.make(config, silent)
        write(config, folder, say)

    monkeypatch.setattr(study, "simulate", lambda *_: (None, None))
    monkeypatch.setattr(study, "write_fif", lambda path, *_: path.touch())
    monkeypatch.setattr(study, "_write_study", meanwhile)
    files = simulated_typing.make(small(tmp_path / "study"), silent)
    assert len(set(folders)) == 2
    assert all(Path(file).is_file() for file in files)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_the_folder_is_named_after_options_but_not_after_itself(tmp_path: Path) -> None:
    config = small(tmp_path / "a")
    folder = simulated_typing.default_folder(config, tmp_path)
    assert folder.parent == tmp_path / "recordings"
    moved = small(tmp_path / "b")
    assert simulated_typing.default_folder(moved, tmp_path) == folder
    for change in ({"moment_nam": 41.0}, {"seed": 1}, {"layout": "opm64"}):
        assert simulated_typing.default_folder(small(tmp_path, **change), tmp_path) != folder


def test_opm_recordings_of_two_subjects_are_read_back(tmp_path: Path) -> None:
    config = small(tmp_path / "opm", layout="opm64", subjects=2)
    simulated_typing.make(config, silent)
    recordings = simulated_typing.read(config)
    assert [recording.name for recording in recordings] == ["S01/R01", "S02/R02"]
    for recording in recordings:
        assert recording.data_CT.shape[0] == 64
        assert set(recording.units) == {"T"}
        layout = np.array([recording.meta["layout"][name] for name in recording.channels])
        assert layout.min() >= 0.0
        assert layout.max() <= 1.0
        assert len(np.unique(layout.round(3), axis=0)) == 64
    items = simulated_typing.sentences(config, recordings).items
    texts = [{item.reference for item in items if item.subject == s} for s in ("S01", "S02")]
    assert texts[0] == texts[1]


def test_every_option_is_described() -> None:
    for name, field in Config.model_fields.items():
        assert field.description, name
    assert "moment_nam" in {field.path for field in fields_of(Config)}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real recordings in {REAL}")
def test_the_bundled_measurements_can_be_made_again(tmp_path: Path) -> None:
    make_room(REAL, tmp_path / "room.npz")
    with np.load(tmp_path / "room.npz") as stored:
        assert stored["device_to_head"] == pytest.approx(read_room().device_to_head, abs=1e-7)
        assert stored["scale"] == pytest.approx(
            np.sqrt(np.diag(read_room().covariance_CC)), rel=1e-5
        )


def test_missing_measurements_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no mne_test_erm-cov\.fif, test-ave\.fif\.gz"):
        make_room(tmp_path, tmp_path / "room.npz")
