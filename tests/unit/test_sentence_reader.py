from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from _neuromag_maker import make_raw, save
from _sentence_maker import (
    PARTS,
    TEXTS,
    Typed,
    make_opm,
    seconds_of,
    trial_events,
    typed,
    write_study,
)

from neurodecode.datasets import meg_sentences
from neurodecode.datasets._sentences.options import SentenceReadOptions
from neurodecode.datasets._sentences.plan import plan_reading
from neurodecode.datasets._sentences.trials import Findings, clean_reference, find_trials
from neurodecode.events import read_events, select, write_events
from neurosweep.core.errors import DataError

OPTIONS = SentenceReadOptions()


def read(table, **options):
    config = meg_sentences.Config(events=str(table), **options)
    recordings = meg_sentences.read(config)
    return recordings, meg_sentences.sentences(config, recordings)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    table = write_study(tmp_path_factory.mktemp("study"))
    return table, *read(table)


def test_sentences_are_read_with_their_keys_and_parts(study):
    _, (recording,), sentences = study
    assert recording.name == "S01/r1"
    assert recording.data_CT.shape[0] == len(recording.channels) == 306
    assert set(recording.units) == {"T", "T/m"}
    assert [item.reference for item in sentences.items] == list(TEXTS)
    assert Counter(item.part for item in sentences.items) == PARTS
    for item in sentences.items:
        assert item.typed == item.reference
        assert len(item.onsets_s) == len(item.typed)
        assert np.allclose(np.diff(item.onsets_s), 0.15)
        assert item.start_s == pytest.approx(item.onsets_s[0] - 0.4)
        assert item.stop_s == pytest.approx(item.onsets_s[-1] + 0.45)
    assert "hash of the sentence" in sentences.split


def test_every_sensor_has_a_place_on_the_map(study):
    _, (recording,), _ = study
    layout = np.array([recording.meta["layout"][name] for name in recording.channels])
    assert layout.min() == 0.0
    assert layout.max() == 1.0
    assert set(recording.positions) == set(recording.channels)


def test_typed_text_is_rebuilt_from_the_keys(tmp_path):
    slips = [Typed(text, text) for text in TEXTS[:-1]] + [Typed("her cup fell", "her cip fel")]
    _, sentences = read(write_study(tmp_path, {"r1": ("S01", slips)}, with_typed=False))
    assert [item.typed for item in sentences.items] == [slip.typed for slip in slips]
    assert sentences.items[-1].reference == "her cup fell"


@pytest.mark.parametrize("button", ["space", "&", " ", "SPACE"])
def test_the_space_bar_has_many_names(button):
    rows = [
        replace(e, button=button) if e.button == "space" else e
        for e in trial_events(typed(), with_typed=False)
    ]
    findings = Findings()
    trials = find_trials(rows, OPTIONS, findings)
    assert [trial.typed for trial in trials] == list(TEXTS)
    assert (findings.problems, findings.warnings) == ([], [])


def test_keys_without_a_character_are_no_key_presses():
    rows = trial_events(typed(TEXTS[:1]), with_typed=False)
    extra = [replace(rows[-1], start=rows[-1].start + 0.3, button=b) for b in ("return",)]
    (trial,) = find_trials([*rows, *extra], OPTIONS, Findings())
    assert trial.typed == "the cat sat"
    assert len(trial.keys) == 11


def test_keys_without_trial_ids_belong_to_the_sentence_around_them():
    rows = [replace(e, trial_id="") if e.type == "Keystroke" else e for e in trial_events(typed())]
    trials = find_trials(rows, OPTIONS, Findings())
    assert [trial.typed for trial in trials] == list(TEXTS)
    nameless = [replace(e, trial_id="") for e in rows]
    trials = find_trials(nameless, OPTIONS, Findings())
    assert [trial.trial_id for trial in trials][:2] == ["0000", "0001"]


def test_sentences_with_few_keys_are_left_out_with_a_warning():
    rows = trial_events(typed(TEXTS[:3]))
    keys = [e for e in rows if e.type == "Keystroke" and e.trial_id == "t01"]
    findings = Findings()
    trials = find_trials([e for e in rows if e not in keys[3:]], OPTIONS, findings)
    assert [trial.trial_id for trial in trials] == ["t00", "t02"]
    assert "1 of 3 sentences have fewer key presses than half" in findings.warnings[0]
    assert "t01" in findings.warnings[0]
    assert len(find_trials([e for e in rows if e not in keys[5:]], OPTIONS, Findings())) == 3


def test_sentences_with_long_pauses_are_left_out_with_a_warning():
    rows = trial_events(typed(TEXTS[:3]))
    rows = [replace(e, start=e.start + 70.0) if e.start > 2.0 else e for e in rows]
    findings = Findings()
    trials = find_trials(rows, OPTIONS, findings)
    assert [trial.trial_id for trial in trials] == ["t01", "t02"]
    assert findings.warnings == [
        "1 of 3 sentences took more than 60 s to type and are left out: t00"
    ]
    assert len(find_trials(rows, SentenceReadOptions(longest_s=90.0), Findings())) == 3


def test_keys_and_typed_characters_that_differ_in_number_are_told():
    rows = [e for e in trial_events(typed(TEXTS[:2])) if e.start != 1.0]
    findings = Findings()
    assert len(find_trials(rows, OPTIONS, findings)) == 2
    assert "1 of 2 sentences have other numbers of key presses than typed" in findings.warnings[0]


def test_keys_of_no_sentence_are_told():
    rows = trial_events(typed(TEXTS[:2]))
    stray = replace(rows[-1], start=99.0, trial_id="gone")
    findings = Findings()
    find_trials([*rows, stray], OPTIONS, findings)
    assert findings.warnings == ["1 of 21 key presses belong to no sentence"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The cat, sat!", "the cat sat"),
        ("  two\t words ", "two words"),
        ("don't", None),
        ("3 cats", None),
        ("caf\u00e9", None),
    ],
)
def test_references_are_written_in_small_letters_or_refused(text, cleaned):
    assert clean_reference(text) == cleaned


def test_all_problems_of_a_table_come_in_one_error(tmp_path):
    rows = trial_events(typed(TEXTS[:6]))
    sentences = {row.trial_id: row for row in select(rows, "Sentence")}
    changed = {
        "t00": replace(sentences["t00"], text="don't panic"),
        "t01": replace(sentences["t01"], text=" "),
        "t02": replace(sentences["t02"], trial_id="t03"),
        "t04": replace(sentences["t04"], extra={"typed": "h1s car"}),
        "t05": replace(sentences["t05"], trial_id="a/b"),
    }
    rows = [changed.get(e.trial_id, e) if e.type == "Sentence" else e for e in rows]
    write_events(tmp_path / "events.tsv", rows)
    with pytest.raises(DataError) as caught:
        plan_reading(tmp_path / "events.tsv", OPTIONS)
    message = str(caught.value)
    for part in (
        "events.tsv: 5 problems; correct the table",
        "text 'don't panic' cannot be written in a-z",
        "trial 't01' of timeline 'r1': text, the sentence asked for, is empty",
        "trial_id 't03' names 2 sentences",
        "typed 'h1s car' holds other characters",
        "trial_id 'a/b' must not hold '/'",
    ):
        assert part in message


def test_sentences_that_overlap_are_refused():
    rows = trial_events(typed(TEXTS[:2]))
    last = [e for e in rows if e.type == "Keystroke" and e.trial_id == "t00"][-1]
    rows = [replace(e, start=e.start + 2.0) if e is last else e for e in rows]
    findings = Findings()
    find_trials(rows, OPTIONS, findings)
    assert "trials 't00' and 't01' of timeline 'r1' overlap" in findings.problems[0]


def test_typed_of_nobody_knows_what_is_a_problem():
    rows = [replace(e, button="") for e in trial_events(typed(TEXTS[:1]), with_typed=False)]
    findings = Findings()
    find_trials(rows, OPTIONS, findings)
    assert "neither 'typed' nor the button of every key" in findings.problems[0]


def test_practice_sentences_are_left_out_of_every_session(tmp_path):
    rows = trial_events(typed(TEXTS[:3])) + trial_events(
        typed(TEXTS[3:6]), "r2", filepath="r2_raw.fif"
    )
    table = tmp_path / "events.tsv"
    write_events(table, rows)
    plan = plan_reading(table, SentenceReadOptions(practice=2))
    assert [len(t.trials) for t in plan] == [1, 1]
    write_events(table, [replace(row, session="1") for row in rows])
    plan = plan_reading(table, SentenceReadOptions(practice=4))
    assert [(t.row.timeline, len(t.trials)) for t in plan] == [("r2", 2)]
    with pytest.raises(DataError, match=r"no sentence is left.*practice \(9\)"):
        plan_reading(table, SentenceReadOptions(practice=9))


def test_recordings_without_sentences_are_not_read(tmp_path):
    rest = replace(trial_events([])[0], timeline="rest", filepath="nowhere_raw.fif")
    table = write_study(tmp_path, raws={"r1": make_opm(seconds_of(typed()), 8)})
    write_events(table, [*read_events(table), rest])
    config = meg_sentences.Config(events=str(table))
    assert [path.name for path in meg_sentences.sources(config)] == ["events.tsv", "r1_raw.fif"]
    assert [recording.name for recording in meg_sentences.read_each(config)] == ["S01/r1"]


def test_blocks_come_in_the_order_of_their_numbers(tmp_path):
    rows = [
        row
        for number in (10, 2, 1)
        for row in trial_events(typed(TEXTS[:2]), f"block{number}", filepath=f"{number}.fif")
    ]
    write_events(tmp_path / "events.tsv", rows)
    plan = plan_reading(tmp_path / "events.tsv", OPTIONS)
    assert [timeline.row.timeline for timeline in plan] == ["block1", "block2", "block10"]


def test_clock_of_the_table_need_not_start_with_the_recording(tmp_path, study):
    path = save(make_raw(seconds_of(typed()), 100.0), tmp_path / "r1_raw.fif")
    assert path.is_file()
    write_events(tmp_path / "events.tsv", trial_events(typed(), zero=500.0))
    _, sentences = read(tmp_path / "events.tsv")
    wanted = [item.onsets_s for item in study[2].items]
    assert np.allclose(
        np.concatenate([i.onsets_s for i in sentences.items]), np.concatenate(wanted), atol=1e-6
    )


def test_table_of_another_recording_is_refused(tmp_path):
    write_events(tmp_path / "events.tsv", trial_events(typed()))
    save(make_raw(12.0, 100.0), tmp_path / "r1_raw.fif")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "events.tsv")
    assert "keys of 10 of 13 sentences lie outside the recording (0 to 12 s)" in str(caught.value)
    assert "Is this the recording of timeline 'r1'" in str(caught.value)
    rows = trial_events(typed())
    write_events(tmp_path / "events.tsv", [replace(rows[0], duration=300.0), *rows[1:]])
    with pytest.raises(DataError, match=r"lasts 12\.0 s, the events table says 300\.0 s"):
        read(tmp_path / "events.tsv")
    write_events(tmp_path / "events.tsv", [replace(rows[0], frequency=1000.0), *rows[1:]])
    with pytest.raises(DataError, match="sampled at 100 Hz, 1000 Hz"):
        read(tmp_path / "events.tsv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filepath": ""}, "row of type Meg has no filepath"),
        ({"filepath": "gone_raw.fif"}, r"gone_raw\.fif.*cannot be read"),
        ({"type": "Eeg"}, "is of type Eeg, expected Meg"),
        ({"type": "Word"}, "timeline 'r1' has sentences but no row of type Meg"),
    ],
)
def test_rows_of_recordings_must_name_meg_files(tmp_path, change, message):
    rows = trial_events(typed())
    write_events(tmp_path / "events.tsv", [replace(rows[0], **change), *rows[1:]])
    with pytest.raises(DataError, match=message):
        read(tmp_path / "events.tsv")


def test_table_without_sentences_says_what_it_has(tmp_path):
    rows = [e for e in trial_events(typed()) if e.type != "Sentence"]
    write_events(tmp_path / "events.tsv", rows)
    with pytest.raises(DataError, match=r"no event of type 'Sentence' \(it has Keystroke, Meg\)"):
        read(tmp_path / "events.tsv")


def test_cut_file_is_refused(tmp_path):
    table = write_study(tmp_path)
    path = tmp_path / "r1_raw.fif"
    path.write_bytes(path.read_bytes()[:-5000])
    for function in (meg_sentences.sources, meg_sentences.read):
        with pytest.raises(DataError, match="was cut"):
            function(meg_sentences.Config(events=str(table)))


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    for number, raw in enumerate((make_raw(30.0), make_opm(30.0))):
        raw._data[7, 500] = np.nan
        folder = tmp_path / str(number)
        folder.mkdir()
        table = write_study(folder, {"r1": ("S01", typed(TEXTS[:3]))}, raws={"r1": raw})
        with pytest.raises(DataError, match=r"is NaN or infinite at\s+5\.000 s"):
            read(table)


def test_femtotesla_stored_as_tesla_are_refused(tmp_path):
    for number, raw in enumerate((make_raw(12.0), make_opm(12.0))):
        raw._data *= 1e15
        folder = tmp_path / str(number)
        folder.mkdir()
        table = write_study(folder, {"r1": ("S01", typed(TEXTS[:3]))}, raws={"r1": raw})
        with pytest.raises(DataError, match=r"median standard deviation.*in another unit"):
            read(table)


def test_one_recording_under_two_names_is_refused(tmp_path):
    raw = make_raw(seconds_of(typed()))
    table = write_study(
        tmp_path, {"r1": ("S01", typed()), "r2": ("S02", typed())}, raws={"r1": raw, "r2": raw}
    )
    (tmp_path / "r2_raw.fif").write_bytes((tmp_path / "r1_raw.fif").read_bytes())
    with pytest.raises(DataError, match="has the content of a file of S01/r1"):
        read(table)


def test_windows_of_close_neighbours_never_share_samples(tmp_path):
    rows = []
    for event in trial_events(typed(TEXTS[:4])):
        number = int(event.trial_id[1:] or 0) if event.trial_id else 0
        rows.append(replace(event, start=event.start - 1.2 * number))
    write_events(tmp_path / "events.tsv", rows)
    save(make_raw(seconds_of(typed()), 100.0), tmp_path / "r1_raw.fif")
    _, sentences = read(tmp_path / "events.tsv")
    for a, b in zip(sentences.items[:-1], sentences.items[1:], strict=True):
        assert a.stop_s <= b.start_s
        assert a.onsets_s[-1] < a.stop_s
        assert b.start_s < b.onsets_s[0]
    assert sentences.items[-1].stop_s == pytest.approx(sentences.items[-1].onsets_s[-1] + 0.45)
