from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurosweep.core.errors import DataError
from neurosweep.evaluation.references import Reference, read_references

LINE = {"item": "s1/r1/0", "subject": "s1", "reference": "the cat", "typed": "teh cat"}


def _write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_reads_what_preparation_writes(tmp_path: Path) -> None:
    second = {"item": "s1/r1/1", "subject": "s1", "reference": " ", "windows": "01"}
    refs = read_references(_write(tmp_path / "val_refs.jsonl", {"v": 1, **LINE}, second))
    assert refs == {
        "s1/r1/0": Reference("s1/r1/0", "s1", "the cat", "teh cat"),
        "s1/r1/1": Reference("s1/r1/1", "s1", " ", " ", "01"),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item": None}, "'item' is missing or no text"),
        ({"subject": 3}, "'subject' is missing or no text"),
        ({"reference": ""}, "item 's1/r1/1' has an empty reference"),
        ({"item": "s1/r1/0"}, "item 's1/r1/0' was given before"),
        ({"windows": [0, 1]}, "'windows' is no text"),
        ({"windows": "0-"}, "'windows' holds other characters"),
        ({"typed": 1}, "'typed' is no text"),
    ],
)
def test_problems_are_named(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = _write(tmp_path / "val_refs.jsonl", LINE, {**LINE, "item": "s1/r1/1", **change})
    with pytest.raises(DataError, match="1 problem") as caught:
        read_references(path)
    assert "  entry 2: " in str(caught.value)
    assert reason in str(caught.value)


def test_files_without_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no item"):
        read_references(_write(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match="expected an object"):
        read_references(_write(tmp_path / "list.jsonl", [1]))
    with pytest.raises(DataError, match="cannot be read"):
        read_references(tmp_path / "absent.jsonl")


def test_many_problems_are_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)30 problems.*and 10 more"):
        read_references(_write(tmp_path / "bad.jsonl", *range(30)))
