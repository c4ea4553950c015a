"""Fitting the model of typing: figures of known data come back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurodecode.datasets._typing_sim import fit_timing
from neurodecode.datasets._typing_sim.bundle import read_typing
from neurodecode.datasets._typing_sim.fit_slips import read_pairs, slip_figures, slip_of
from neurodecode.datasets._typing_sim.fit_timing import Intervals, figures, fit, read_intervals
from neurosweep.core.errors import DataError

USER_SD, BIGRAM_SD, RESIDUAL_SD = 0.34, 0.2, 0.48


@pytest.fixture(scope="module")
def known() -> tuple[Intervals, np.ndarray]:
    rng = np.random.default_rng(0)
    num = 200_000
    user, bigram = rng.integers(0, 300, num), rng.integers(0, 729, num)
    bigrams = rng.normal(0.0, BIGRAM_SD, 729)
    users = rng.normal(0.0, USER_SD, 300)
    logs = 5.0 + users[user] + bigrams[bigram] + rng.normal(0.0, RESIDUAL_SD, num)
    return Intervals(logs, user, bigram), bigrams


def test_fit_finds_the_offsets(known: tuple[Intervals, np.ndarray]) -> None:
    intervals, bigrams = known
    grand, users, found = fit(intervals)
    assert grand == pytest.approx(5.0, abs=0.05)
    assert users.std() == pytest.approx(USER_SD, rel=0.1)
    assert np.corrcoef(found, bigrams)[0, 1] > 0.97


def test_figures_tell_the_shares_of_variance(known: tuple[Intervals, np.ndarray]) -> None:
    result = figures(known[0])
    total = USER_SD**2 + BIGRAM_SD**2 + RESIDUAL_SD**2
    assert result["held_out_r2"]["user"] == pytest.approx(USER_SD**2 / total, abs=0.03)
    assert result["held_out_r2"]["bigram"] == pytest.approx(BIGRAM_SD**2 / total, abs=0.03)
    assert result["residual_sd"] == pytest.approx(RESIDUAL_SD, rel=0.02)
    assert np.array(result["bigram_offsets"]).shape == (27, 27)


def test_shipped_figures_are_those_that_were_published_with_the_fit() -> None:
    timing = read_typing()["timing"]
    assert timing["num_users"] == 2328
    assert timing["held_out_r2"] == pytest.approx(
        {"user": 0.30, "bigram": 0.13, "both": 0.43}, abs=0.01
    )
    assert timing["residual_sd"] == pytest.approx(0.48, abs=0.005)
    assert sum(read_typing()["slips"]["shares"].values()) == pytest.approx(1.0, abs=0.01)


def test_intervals_are_between_letters_of_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "keystrokes.csv"
    path.write_text(
        "user,section,t_ms,key\n7,1,0,SHIFT\n7,1,100,T\n7,1,220,h\n7,1,300, \n7,1,9000,a\n"
        "7,1,9100,.\n7,1,9200,b\n7,2,0,a\n8,2,150,b\n8,2,300,c\n"
    )
    intervals = read_intervals(path)
    assert np.exp(intervals.log_ms) == pytest.approx([120.0, 80.0, 150.0])
    assert intervals.bigram.tolist() == [19 * 27 + 7, 7 * 27 + 26, 1 * 27 + 2]
    assert intervals.user.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("asked", "typed", "expected"),
    [
        ("the cat", "the cst", ("substitution", "a", "s")),
        ("the cat", "te cat", ("omission", "h", "")),
        ("the cat", "thhe cat", ("doubling", "he", "h")),
        ("the cat", "thge cat", ("insertion", "he", "g")),
        ("the cat", "teh cat", ("swap", "he", "eh")),
        ("the cat", "the cat", None),
        ("the cat", "a dog", None),
    ],
)
def test_single_slips_are_recognised(
    asked: str, typed: str, expected: tuple[str, str, str] | None
) -> None:
    assert slip_of(asked, typed) == expected


def test_shares_of_slips_are_counted() -> None:
    pairs = [("the cat", "the cst"), ("the cat", "the cpt"), ("the cat", "te cat"), ("a", "a")]
    result = slip_figures(pairs)
    assert result["num_slips"] == 3
    assert result["shares"]["substitution"] == pytest.approx(2 / 3, abs=1e-3)
    assert result["beside"]["substitution"] == 0.5
    assert result["beside"]["insertion"] == 0.0


def test_command_writes_figures_and_names_missing_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = rng.choice(list("abcdefgh "), 400)
    times = np.cumsum(rng.integers(60, 400, 400))
    lines = [f"{i // 200},1,{t},{k}" for i, (t, k) in enumerate(zip(times, keys, strict=True))]
    table = tmp_path / "keystrokes.csv.gz"
    with pytest.raises(DataError, match="keystrokes"):
        fit_timing.main([str(tmp_path), str(tmp_path / "out.json")])
    import gzip

    with gzip.open(table, "wt") as file:
        file.write("user,section,t_ms,key\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match="sentences"):
        fit_timing.main([str(tmp_path), str(tmp_path / "out.json")])
    with gzip.open(tmp_path / "sentences.csv.gz", "wt") as file:
        file.write("sentence,user_input\nThe cat.,The cst\n")
    assert read_pairs(tmp_path / "sentences.csv.gz") == [("the cat", "the cst")]
    fit_timing.main([str(tmp_path), str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["timing"]["num_users"] == 2
    assert written["slips"]["num_slips"] == 1
