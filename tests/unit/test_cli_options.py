"""Shared options: the home, where to run, and what changes a specification."""

import argparse
import os
from pathlib import Path

import pytest

from neurosweep.cli.options import (
    add_budget,
    add_running,
    anywhere,
    execution_changes,
    home_flag,
    open_home,
    parse_on,
    positive,
)
from neurosweep.core.errors import ConfigError, NeurosweepError, StudyError
from neurosweep.core.layout import Home


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", ("local", None)),
        ("inline", ("inline", None)),
        ("slurm:my.toml", ("slurm", "my.toml")),
    ],
)
def test_where_to_run(text: str, expected: tuple[str, str | None]) -> None:
    assert parse_on(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("slrm:x", "did you mean 'slurm'? allowed: local, inline, slurm:PROFILE"),
        ("", "no executor ''"),
        ("slurm", "needs a profile"),
        ("slurm:", "needs a profile"),
        ("local:3", "--workers"),
    ],
)
def test_a_wrong_place_to_run_says_what_is_allowed(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_on(text)
    assert part in str(caught.value)
    assert f"--on {text}" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_number_must_be_whole_and_positive(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive(text)


def test_only_given_options_change_a_specification() -> None:
    parser = argparse.ArgumentParser()
    add_budget(parser)
    add_running(parser)
    assert execution_changes(parser.parse_args([])) == {}
    args = parser.parse_args(["--on", "inline", "--workers", "3", "--rounds", "1", "--trials", "4"])
    assert execution_changes(args) == {
        "execution.on": "inline",
        "execution.workers": 3,
        "budget.rounds": 1,
        "budget.trials_per_round": 4,
    }


def test_a_home_is_made_only_to_be_written(tmp_path: Path) -> None:
    place = tmp_path / "a" / "home"
    with pytest.raises(StudyError, match=r"does not exist.*--home DIR.*neurosweep demo"):
        open_home(place, create=False)
    assert not place.exists()
    assert open_home(place, create=True) == Home(place)
    assert open_home(place, create=False) == Home(place)


@pytest.mark.parametrize("create", [True, False])
def test_a_home_that_is_a_file_is_refused(tmp_path: Path, create: bool) -> None:
    (tmp_path / "home").write_text("", encoding="utf-8")
    with pytest.raises(NeurosweepError, match=r"home .*--home DIR"):
        open_home(tmp_path / "home", create=create)


@pytest.mark.parametrize(
    ("mode", "create", "part"), [(0o300, False, "read"), (0o500, True, "written")]
)
def test_a_home_that_may_not_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, create: bool, part: str
) -> None:
    """An administrator may do everything, so the answer of the system is pretended."""

    def access(path: object, asked: int) -> bool:
        assert path == tmp_path
        return (mode >> 6) & asked == asked

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(ConfigError, match=f"cannot be {part} by you; choose another folder"):
        open_home(tmp_path, create=create)


def test_a_command_names_the_home_unless_it_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home_flag(Home(tmp_path / "my home")) == f" --home '{tmp_path}/my home'"
    monkeypatch.setenv("NEUROSWEEP_HOME", str(tmp_path))
    assert home_flag(Home(tmp_path)) == ""


def test_a_profile_that_is_a_file_is_found_from_every_folder(tmp_path: Path) -> None:
    assert anywhere("local", tmp_path) == "local"
    assert anywhere("slurm:devcluster", tmp_path) == "slurm:devcluster"
    assert anywhere("slurm:my.toml", tmp_path) == f"slurm:{tmp_path / 'my.toml'}"
    assert anywhere("slurm:/etc/my.toml", tmp_path) == "slurm:/etc/my.toml"
    assert anywhere("slurm:~/my.toml", tmp_path) == f"slurm:{Path.home() / 'my.toml'}"
