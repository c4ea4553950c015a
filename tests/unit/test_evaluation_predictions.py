from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosweep.core.errors import PredictionsError
from neurosweep.evaluation.prediction_lines import Limits, Prediction
from neurosweep.evaluation.predictions import (
    load_predictions,
    parse_predictions,
    read_predictions,
)

ITEMS = {"s1/r1/0", "s1/r1/1", "s2/r1/0"}
GOOD = '{"item": "s1/r1/0", "hypothesis": "a"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "predictions.jsonl"


def _with_variants(variants: object) -> str:
    return json.dumps({"item": "s1/r1/0", "hypothesis": "a", "variants": variants})


def _refused(path: Path, items: set[str] = ITEMS, limits: Limits | None = None) -> str:
    with pytest.raises(PredictionsError) as caught:
        read_predictions(path, items, limits)
    return str(caught.value)


def test_full_line_and_missing_items(path: Path) -> None:
    line = {
        "v": 1,
        "item": "s1/r1/1",
        "hypothesis": "héllo wörld",
        "nbest": [["hello", -1.5], ["jello", -2]],
        "logp": -3,
        "windows": "01a",
        "variants": {"greedy": "helo", "no_meg": ""},
    }
    content = (GOOD + "\n" + json.dumps(line, ensure_ascii=False) + "\n").encode()
    path.write_bytes(content)
    loaded = load_predictions(path, ITEMS)
    assert loaded.predictions == {
        "s1/r1/0": Prediction("s1/r1/0", "a"),
        "s1/r1/1": Prediction(
            "s1/r1/1",
            "héllo wörld",
            (("hello", -1.5), ("jello", -2.0)),
            -3.0,
            "01a",
            variants={"greedy": "helo", "no_meg": ""},
        ),
        "s2/r1/0": Prediction("s2/r1/0", missing=True),
    }
    assert loaded.num_missing == 1
    assert loaded.sha256 == hashlib.sha256(content).hexdigest()


def test_empty_file_means_all_missing_and_last_line_end_is_optional(path: Path) -> None:
    path.write_bytes(b"")
    assert load_predictions(path, ITEMS).num_missing == 3
    path.write_text(GOOD)
    assert load_predictions(path, ITEMS).num_missing == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is list, expected an object"),
        ("3", "is int, expected an object"),
        ("NaN", "the constant NaN is not JSON"),
        ('{"item": "s1/r1/0"}', "'hypothesis' is missing"),
        ('{"hypothesis": "a"}', "'item' is missing"),
        ('{"item": 3, "hypothesis": "a"}', "'item' is int, expected text"),
        ('{"item": "s1/r1/0", "hypothesis": null}', "'hypothesis' is NoneType, expected text"),
        ('{"item": "s1/r1/0", "hypotesis": "a"}', "did you mean 'hypothesis'?"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "reference": "a"}', "unknown key 'reference'"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "hypothesis": "b"}', "gives one key twice"),
        ('{"v": 2, "item": "s1/r1/0", "hypothesis": "a"}', "is of version 2, expected 1"),
        ('{"item": "s9/r1/0", "hypothesis": "a"}', "unknown item 's9/r1/0'"),
        ('{"item": "s1/r1/0", "hypothesis": "\\ud800"}', "lone surrogate"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": NaN}', "the constant NaN is not JSON"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": 1e999}', "not a finite number"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": true}', "is bool, expected a number"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": "1"}', "is str, expected a number"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": 1' + "0" * 400 + "}", "not a finite"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "logp": 1' + "0" * 5000 + "}", "is not JSON"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "nbest": {}}', "is not a list"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "nbest": [["b"]]}', "else than pairs"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "nbest": ["ab"]}', "else than pairs"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "nbest": [["b", null]]}', "expected a number"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "windows": "0 1"}', "other characters"),
        ('{"item": "s1/r1/0", "hypothesis": "a", "windows": [0, 1]}', "is list, expected text"),
        (_with_variants([]), "'variants' is not an object of at most 8 texts"),
        (_with_variants(dict.fromkeys("abcdefghi", "")), "not an object of at most 8 texts"),
        (_with_variants({"": ""}), "variant '': a name has 1 to 24"),
        (_with_variants({"Greedy": ""}), "variant 'Greedy': a name has 1 to 24"),
        (_with_variants({"greedy\n": ""}), "a name has 1 to 24"),
        (_with_variants({"a" * 25: ""}), "a name has 1 to 24"),
        (_with_variants({"greedy": None}), "'variant greedy' is NoneType, expected text"),
        (_with_variants({"greedy": "x" * 4097}), "'variant greedy' has 4097 characters"),
        (GOOD[:-1] + ', "variants": {"a": "", "a": ""}}', "gives one key twice"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"v": ' + "[" * 300 + "]" * 300 + "}", "is of version list, expected 1"),
    ],
)
def test_line_is_refused_with_its_reason(path: Path, line: str, reason: str) -> None:
    path.write_text(GOOD.replace("r1/0", "r1/1") + "\n" + line + "\n")
    text = _refused(path)
    assert "line 2: " in text
    assert reason in text
    assert len(text) < 1000


def test_all_reasons_are_listed_up_to_a_limit(path: Path) -> None:
    path.write_text("\n".join([GOOD, GOOD, "x", '{"item": "nobody", "hypothesis": ""}']))
    text = _refused(path)
    assert "line 2: item 's1/r1/0' was given before" in text
    assert "line 3: is not JSON" in text
    assert "line 4: unknown item 'nobody'" in text
    path.write_text("x\n" * 1000)
    text = _refused(path, limits=Limits(max_reasons=5))
    assert "line 5:" in text
    assert "line 6:" not in text
    assert text.endswith("reading stopped here")


def test_not_utf8_is_refused(path: Path) -> None:
    path.write_bytes(b'{"item": "s1/r1/0", "hypothesis": "\xff"}\n')
    assert "line 1: is not UTF-8 text" in _refused(path)
    path.write_bytes("\ufeff".encode() + GOOD.encode())
    assert "line 1: is not JSON" in _refused(path)


@pytest.mark.parametrize(
    ("limits", "line", "reason"),
    [
        (Limits(max_hypothesis=3), {"hypothesis": "abcd"}, "has 4 characters, at most 3"),
        (Limits(max_nbest=1), {"nbest": [["a", 0], ["b", 0]]}, "at most 1 pairs"),
        (Limits(max_hypothesis=3), {"nbest": [["abcd", 0]]}, "has 4 characters, at most 3"),
        (Limits(max_windows=2), {"windows": "000"}, "has 3 characters, at most 2"),
        (Limits(max_line_bytes=20), {}, "is longer than 20 bytes"),
    ],
)
def test_limits(path: Path, limits: Limits, line: dict[str, object], reason: str) -> None:
    path.write_text(json.dumps({"item": "s1/r1/0", "hypothesis": "a"} | line))
    assert reason in _refused(path, limits=limits)
    assert read_predictions(path, ITEMS)["s1/r1/0"].missing is False


def test_a_large_file_is_refused_without_being_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)

    def fail(*_args: object, **_options: object) -> None:
        raise AssertionError("the file was read")

    monkeypatch.setattr(os, "fdopen", fail)
    assert "is larger than the 67108864 bytes" in _refused(path)


def test_a_file_that_grows_while_it_is_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"x" * 200)
    small = os.stat_result((0o100644, 1, 1, 1, 0, 0, 10, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _descriptor: small)
    assert "is larger than the 100 bytes" in _refused(path, limits=Limits(max_bytes=100))


def test_a_file_of_line_ends_ends_early(path: Path) -> None:
    path.write_bytes(b"\n" * 5_000_000)
    assert "reading stopped here" in _refused(path)


def _link(path: Path) -> None:
    target = path.with_name("elsewhere.jsonl")
    target.write_text(GOOD)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, "cannot be read (No such file or directory)"),
        (_link, "cannot be read (Too many levels of symbolic links)"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be read"),
    ],
)
def test_only_a_regular_file_is_read(path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(path)
    assert reason in _refused(path)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "predictions.jsonl").write_text(GOOD)
    (tmp_path / "attempt").symlink_to(real)
    assert "attempt: cannot be opened" in _refused(tmp_path / "attempt" / "predictions.jsonl")
    assert "cannot be opened" in _refused(tmp_path / "absent" / "predictions.jsonl")
    assert "cannot be read" in _refused(tmp_path / "a\0b")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
junk_lines = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"item": st.sampled_from(sorted(ITEMS)) | json_values, "hypothesis": json_values},
        optional=dict.fromkeys(("nbest", "logp", "windows", "variants"), json_values),
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(junk_lines, max_size=6))
def test_junk_is_parsed_or_refused_and_nothing_else(lines: list[bytes]) -> None:
    try:
        given_items = parse_predictions(b"\n".join(lines), ITEMS, Limits(), "file")
    except PredictionsError:
        return
    assert set(given_items) <= ITEMS
    for prediction in given_items.values():
        json.dumps([prediction.hypothesis, prediction.nbest, prediction.logp], allow_nan=False)
        assert all(isinstance(text, str) for text in prediction.variants.values())
        prediction.hypothesis.encode()
