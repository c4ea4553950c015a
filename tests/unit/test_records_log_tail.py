"""The end of an attempt's log: where it is found, and that it is safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.layout import Home
from neurosweep.records.log_tail import log_path, log_tail, plain_lines, scheduler_logs
from neurosweep.records.state import AttemptState
from neurosweep.records.trial import Outcome

TOKEN = "small-20260101-0000.r01.0002"


@pytest.fixture
def study(tmp_path):
    study = Home(tmp_path).study("small-20260101-0000")
    study.trial("r01t000").attempt(1).root.mkdir(parents=True)
    return study


def attempt(**changes):
    values = {"token": TOKEN, "job": "1234_7", "outcome": Outcome.FAILED} | changes
    return AttemptState(1, **values)


def say(study, text):
    study.trial("r01t000").attempt(1).log.write_text(text)


def slurm_says(study, text, *, token=f"{TOKEN}-0", name="1234_7_0_log.out"):
    folder = study.root / "slurm" / token
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_the_log_of_a_job_is_shown_without_the_schedulers_file_when_it_left_a_status(study):
    say(study, "loading\nValueError: no\n\n")
    slurm_says(study, "noise of the batch script")
    study.trial("r01t000").attempt(1).status.write_text("{}")
    assert log_tail(study, "r01t000", attempt()) == "loading\nValueError: no"


def test_the_setup_lines_that_failed_are_shown_whatever_came_of_the_job(study):
    say(study, "no CUDA here")
    kept = slurm_says(study, "noise\nsetup failed with 127: module load cuda\nmore noise\n")
    study.trial("r01t000").attempt(1).status.write_text("{}")
    text = log_tail(study, "r01t000", attempt())
    assert text == f"no CUDA here\n--- {kept.name}\nsetup failed with 127: module load cuda"


def test_a_job_that_was_killed_shows_what_its_scheduler_kept(study):
    say(study, "step 1")
    kept = slurm_says(study, "slurmstepd: error: Detected 1 oom-kill event(s)\n")
    slurm_says(study, "of another task", name="1234_70_0_log.out")
    slurm_says(study, "of another round", token="small-20260101-0000.r02.0002-0")
    text = log_tail(study, "r01t000", attempt())
    assert text == f"step 1\n--- {kept.name}\nslurmstepd: error: Detected 1 oom-kill event(s)"
    assert "oom" not in log_tail(study, "r01t000", attempt(outcome=Outcome.DONE))


def test_a_job_that_printed_nothing_points_to_its_schedulers_file(study):
    assert log_path(study, "r01t000", attempt()).name == "log.txt"
    kept = slurm_says(study, "x")
    assert log_path(study, "r01t000", attempt()) == kept
    say(study, "x")
    assert log_path(study, "r01t000", attempt()).name == "log.txt"


@pytest.mark.parametrize("changes", [{"job": ""}, {"token": ""}, {"job": "*"}, {"token": "*"}])
def test_no_file_of_another_task_is_taken(study, changes):
    slurm_says(study, "of somebody else")
    assert list(scheduler_logs(study, attempt(**changes))) == []


def test_a_log_that_is_a_link_is_not_followed(study, tmp_path):
    (tmp_path / "secret").write_text("key")
    study.trial("r01t000").attempt(1).log.symlink_to(tmp_path / "secret")
    assert log_tail(study, "r01t000", attempt()) == ""


def test_a_log_of_one_endless_line_shows_its_end(study):
    say(study, "a" * 100_000 + "the end")
    tail = log_tail(study, "r01t000", attempt())
    assert len(tail) == 32 * 1024
    assert tail.endswith("the end")


def test_only_the_last_lines_and_no_cut_one_are_shown(study):
    say(study, "".join(f"{'x' * 60} {number}\n" for number in range(2000)))
    shown = log_tail(study, "r01t000", attempt(), lines=10_000).split("\n")
    assert shown[-1].endswith(" 1999")
    assert all(line.startswith("x" * 60 + " ") for line in shown)
    assert len("\n".join(shown)) <= 32 * 1024
    assert len(log_tail(study, "r01t000", attempt(), lines=3).split("\n")) == 3


@given(st.binary(max_size=200))
def test_whatever_a_job_printed_it_cannot_steer_a_terminal(data):
    text = "\n".join(plain_lines(data))
    assert all(character == "\n" or character == "\t" or ord(character) >= 32 for character in text)
    assert "\x1b" not in text
    assert "\x9b" not in text
