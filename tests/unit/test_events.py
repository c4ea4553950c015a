"""Events tables: what is read, what is refused, and that writing loses nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurodecode.events import (
    COLUMNS,
    Event,
    read_events,
    require_values,
    select,
    write_events,
)
from neurosweep.core.errors import DataError

HEADER = "type\tstart\tduration\ttimeline\tsubject\tbutton"
GOOD = [
    "Meg\t0\t60\trun1\tS01\t",
    "Keystroke\t2.5\t0.1\trun1\tS01\tb",
    "Keystroke\t1.25\t\trun1\tS01\ta",
]


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def refusal(path: Path, columns: dict[str, str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_events(path, columns)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_rows_come_in_order_of_time_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    events = read_events(write(tmp_path / "e.tsv", *GOOD))
    assert [(e.type, e.start, e.duration, e.button) for e in events] == [
        ("Meg", 0.0, 60.0, ""),
        ("Keystroke", 1.25, 0.0, "a"),
        ("Keystroke", 2.5, 0.1, "b"),
    ]
    assert [e.button for e in select(events, "Keystroke")] == ["a", "b"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_separator_is_recognised_whatever_the_suffix(
    tmp_path: Path, separator: str, suffix: str
) -> None:
    rows = [row.replace("\t", separator) for row in GOOD]
    path = write(tmp_path / f"e{suffix}", *rows, header=HEADER.replace("\t", separator))
    assert read_events(path) == read_events(write(tmp_path / "plain.tsv", *GOOD))


def test_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "e.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *GOOD]).encode())
    assert read_events(path) == read_events(write(tmp_path / "plain.tsv", *GOOD))


def test_table_that_pandas_wrote_is_read_with_its_index_column(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "type": ["Keystroke"] * 2,
            "start": [1.0, 2.0],
            "duration": [0.1, None],
            "timeline": "run1",
            "subject": "S01",
            "button": [" ", "NA"],
            "is_percep": [False, True],
        }
    )
    frame.to_csv(tmp_path / "e.csv")
    events = read_events(tmp_path / "e.csv")
    assert [e.button for e in events] == [" ", "NA"]
    assert [dict(e.extra) for e in events] == [{"is_percep": "False"}, {"is_percep": "True"}]


CELL = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12)
NAME = st.text(st.sampled_from("abcXYZ09-_. é"), min_size=1, max_size=8).map(
    lambda text: "n" + text.strip()
)


@st.composite
def tables(draw: st.DrawFn) -> list[Event]:
    starts = draw(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6, unique=True).map(sorted))
    timeline, subject = draw(NAME), draw(NAME)
    return [
        Event(
            type=draw(st.sampled_from(["Keystroke", "Word"])),
            start=start,
            duration=draw(st.floats(0, 1e3)),
            timeline=timeline,
            subject=subject,
            text=draw(CELL),
            button=draw(CELL),
            extra={"note": draw(CELL)},
        )
        for start in starts
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(events=tables(), suffix=st.sampled_from([".tsv", ".csv"]))
def test_what_is_written_is_read_back(tmp_path: Path, events: list[Event], suffix: str) -> None:
    path = tmp_path / f"e{suffix}"
    write_events(path, events)
    assert list(read_events(path)) == events


def test_written_tables_start_with_neuralset_columns(tmp_path: Path) -> None:
    event = Event("Keystroke", 1.5, 0.1, "run1", "S01", button="a", extra={"zeal": "1"})
    write_events(tmp_path / "e.csv", [event])
    assert list(pd.read_csv(tmp_path / "e.csv").columns) == [*COLUMNS, "zeal"]


def test_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"suffix '.xlsx' is unknown; use .tsv or .csv"):
        write_events(tmp_path / "e.xlsx", [])
    assert list(tmp_path.iterdir()) == []


def test_missing_and_misspelt_columns_are_all_named(tmp_path: Path) -> None:
    header = "type\tonset\tduratoin\ttimeline\tsubject\tButton"
    text = refusal(write(tmp_path / "e.tsv", *GOOD, header=header))
    assert "column 'start' is missing; if 'onset' holds it, set columns.start = 'onset'" in text
    assert "column 'duration' is missing; did you mean 'duratoin'?" in text
    assert "column 'Button' is unknown; did you mean 'button'?" in text
    assert "columns found: type, onset, duratoin" in text


def test_columns_of_another_convention_are_mapped(tmp_path: Path) -> None:
    header = "trial_type\tonset\tduration\trun\tsub\tkey"
    path = write(tmp_path / "e.tsv", *GOOD, header=header)
    columns = {
        "type": "trial_type",
        "start": "onset",
        "timeline": "run",
        "subject": "sub",
        "button": "key",
    }
    assert read_events(path, columns) == read_events(write(tmp_path / "plain.tsv", *GOOD))


def test_mapping_of_unknown_columns_is_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "e.tsv", *GOOD), {"butto": "button", "start": "strat"})
    assert "columns.butto: maps no known column; did you mean 'button'?" in text
    assert "columns.start: the file has no column 'strat'; did you mean 'start'?" in text


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("Keystrok\t1\t0\trun1\tS01\ta", "line 2: type 'Keystrok' is unknown; did you mean"),
        ("keystroke\t1\t0\trun1\tS01\ta", "did you mean 'Keystroke'?"),
        ("Keystroke\t1,5\t0\trun1\tS01\ta", "start is '1,5', expected a number of seconds"),
        ("Keystroke\tnan\t0\trun1\tS01\ta", "start is nan, must be finite seconds"),
        ("Keystroke\tinf\t0\trun1\tS01\ta", "start is inf, must be finite seconds"),
        ("Keystroke\t\t0\trun1\tS01\ta", "start is '', expected a number"),
        ("Keystroke\t1\t-0.1\trun1\tS01\ta", "duration is -0.1, must be at least 0 seconds"),
        ("Keystroke\t1\t0\t\tS01\ta", "'timeline' is empty"),
        ("Keystroke\t1\t0\trun1\t\ta", "'subject' is empty"),
        ("Keystroke\t1\t0\trun1\tS01", "line 2: has 5 cells, the header has 6"),
        ('Keystroke\t1\t0\trun1\tS01\t"a', "line 2: unexpected end of data"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path: Path, row: str, problem: str) -> None:
    assert problem in refusal(write(tmp_path / "e.tsv", row))


def test_all_problems_come_at_once_and_long_lists_are_cut(tmp_path: Path) -> None:
    rows = [f"Keystroke\tx{i}\t0\trun1\tS01\ta" for i in range(20)]
    text = refusal(write(tmp_path / "e.tsv", *rows))
    assert "20 problems" in text
    assert text.count("\n") == 9
    assert text.endswith("and 12 more")


def test_frequency_must_be_a_positive_number(tmp_path: Path) -> None:
    header = f"{HEADER}\tfrequency"
    row = "Meg\t0\t60\trun1\tS01\t\t0"
    assert "frequency is 0, must be at least 0.001 hertz" in refusal(
        write(tmp_path / "e.tsv", row, header=header)
    )


def test_two_events_of_one_type_at_one_moment_are_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "e.tsv", *GOOD, "Keystroke\t1.25\t0\trun1\tS01\tz"))
    assert "line 5: second Keystroke of timeline 'run1' at 1.25 s, first on line 4" in text


def test_overlapping_key_presses_are_accepted(tmp_path: Path) -> None:
    rows = ["Keystroke\t1.0\t0.5\tr\tS\ta", "Keystroke\t1.1\t0.5\tr\tS\tb"]
    assert len(read_events(write(tmp_path / "e.tsv", *rows))) == 2


def test_second_recording_of_a_timeline_is_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "e.tsv", *GOOD, "Meg\t9\t60\trun1\tS01\t"))
    assert "line 5: second Meg of timeline 'run1', first on line 2" in text


def test_timeline_with_two_subjects_is_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "e.tsv", *GOOD, "Keystroke\t9\t0\trun1\tS02\ta"))
    assert "line 5: subject 'S02' in timeline 'run1', which has subject 'S01' on line 2" in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; write one row an event"),
        (b"\n \n", "is empty"),
        (HEADER.encode() + b"\n", "has a header but no event"),
        (b"PK\x03\x04\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_tables_without_content_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "e.tsv"
    path.write_bytes(content)
    assert problem in refusal(path)


def test_absent_tables_and_folders_are_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(tmp_path / "none.tsv")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)


def test_events_without_their_label_are_named(tmp_path: Path) -> None:
    events = select(read_events(write(tmp_path / "e.tsv", *GOOD)), "Keystroke")
    require_values(events, "button", "here")
    with pytest.raises(DataError, match=r"no Keystroke event has a value in column 'buton'; did"):
        require_values(events, "buton", "here")
    missing = [*events, Event("Keystroke", 9.0, 0.0, "run1", "S01")]
    with pytest.raises(DataError, match=r"1 of 3 Keystroke events have no 'button', first at 9 s"):
        require_values(missing, "button", "here")
