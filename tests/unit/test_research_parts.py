"""Requests, seeds, endings, the best, and the status: the small parts of the loop."""

from __future__ import annotations

import json
import os
import time

import pytest
from _loop_kit import START, copy_study, drive, new_study, state_of
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import LedgerError, StudyError
from neurosweep.core.layout import AttemptDir, Home
from neurosweep.exec.protocol import TaskPhase, TaskView
from neurosweep.records.export import export_sha, export_study
from neurosweep.records.trial import POLICY, Kind, Outcome
from neurosweep.research.best import improvements, improves, running_best, top_trials
from neurosweep.research.endings import (
    Hold,
    heartbeat_marks,
    judge_silence,
    read_claimed,
    read_status,
    revoke,
)
from neurosweep.research.lock import StudyLock
from neurosweep.research.seeds import sampler_rng, sampler_seed, training_seed
from neurosweep.research.status import find_study, floor_of, list_studies, study_status
from neurosweep.testing.fake import FakeClock, FakeCluster, Fate


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    study = new_study(tmp_path_factory.mktemp("finished"), reserve={"floor": 3, "confirm": 0})
    fates = {"r01t001": Fate.USER_ERROR}
    drive(study, FakeCluster(FakeClock(START), lambda trial, _k: fates.get(trial, Fate.DONE)))
    return study


@pytest.fixture
def files(tmp_path):
    attempt = AttemptDir(tmp_path / "attempts" / "1")
    attempt.root.mkdir(parents=True)
    return attempt


# Seeds


@given(st.integers(0, 2**31), st.integers(0, 99), st.integers(0, 999))
def test_training_seeds_depend_on_the_place_alone(seed, round_number, index):
    one = training_seed(seed, "search", round_number, index)
    assert one == training_seed(seed, "search", round_number, index)
    assert 0 <= one < 2**31 - 1
    assert one != training_seed(seed, "search", round_number, index + 1)
    assert one != training_seed(seed, "floor", round_number, index)


def test_training_seeds_do_not_collide_in_a_study():
    seeds = {training_seed(0, "search", r, k) for r in range(1, 11) for k in range(50)}
    assert len(seeds) == 500


def test_a_sampler_differs_by_round_and_by_answer():
    seeds = {sampler_seed(0, r, k) for r in range(20) for k in range(5)}
    assert len(seeds) == 100
    assert sampler_rng(0, 1).random() != sampler_rng(0, 2).random()
    assert sampler_rng(0, 1).random() == sampler_rng(0, 1).random()


# Endings


def status(files, **data):
    files.status.write_text(json.dumps({"v": 1, "outcome": "failed", "error": None, **data}))


@pytest.mark.parametrize("kind", list(Kind))
def test_a_job_cannot_claim_an_infrastructure_failure(files, kind):
    status(files, kind=kind.value)
    ending = read_status(files, None)
    assert ending.outcome is Outcome.FAILED
    refilled = POLICY[kind].refill or kind is Kind.NONE
    assert ending.kind is (Kind.USER_ERROR if refilled else kind)


def test_a_failure_on_a_full_disk_is_the_machines(files, monkeypatch):
    status(files, kind="node_failure")
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("neurosweep.research.endings.shutil.disk_usage", lambda _path: usage)
    assert read_status(files, None).kind is Kind.NODE_FAILURE


def test_what_the_executor_knows_outweighs_what_the_job_says(files):
    status(files, kind="user_error")
    assert read_status(files, Kind.TIME_LIMIT).kind is Kind.TIME_LIMIT
    files.status.write_text('{"outcome": "done", "kind": "none", "files": {"a": "b"}}')
    assert read_status(files, Kind.TIME_LIMIT).outcome is Outcome.DONE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"outcome": "won"}',
        b'{"outcome": "failed", "kind": "magic"}',
        b'{"outcome": "done", "peak_mb": "x"}',
        b'{"outcome": "done", "peak_mb": NaN}',
        b'{"outcome": "done", "started": "x", "ended": "y"}',
        b"\xff",
        b"[" * 100_000,
        b"x" * 2_000_000,
    ],
)
def test_a_status_that_cannot_be_read_is_the_jobs_failure(files, content):
    files.status.write_bytes(content)
    ending = read_status(files, None)
    assert (ending.outcome, ending.kind) == (Outcome.FAILED, Kind.USER_ERROR)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda p: p.symlink_to("/etc/passwd")])
def test_a_status_that_is_no_file_is_the_jobs_failure(files, make):
    make(files.status)
    assert read_status(files, None).kind is Kind.USER_ERROR


def test_texts_of_a_job_can_always_be_recorded(files):
    files.status.write_bytes(
        b'{"outcome": "failed", "kind": "user_error", '
        b'"error": {"type": "E\\ud800", "text": "' + b"x" * 9000 + b'"}}'
    )
    ending = read_status(files, None)
    json.dumps(ending.error, ensure_ascii=False).encode("utf-8")
    assert len(ending.error.get("text", "")) <= 500


@pytest.mark.parametrize(
    ("view", "known", "kind"),
    [
        ({}, None, Kind.LOST),
        ({"signal": 9}, None, Kind.LOST),
        ({"signal": 11}, None, Kind.USER_ERROR),
        ({"exit_code": 1}, None, Kind.USER_ERROR),
        ({"exit_code": 3}, None, Kind.LOST),
        ({"exit_code": 4}, None, Kind.LOST),
        ({"exit_code": 1}, Kind.HANG, Kind.HANG),
    ],
)
def test_silence_is_judged_by_how_the_process_ended(view, known, kind):
    assert judge_silence(TaskView(TaskPhase.ENDED, **view), known).kind is kind


def test_a_revoked_claim_keeps_late_jobs_out(files):
    assert read_claimed(files, time.time(), 60.0).hold is Hold.NOBODY
    assert revoke(files, FakeClock())
    assert read_claimed(files, time.time(), 60.0).hold is Hold.DEAD
    assert not revoke(files, FakeClock())


def test_a_damaged_claim_counts_as_claimed(files):
    files.claim.write_text("{")
    assert read_claimed(files, time.time(), 60.0).hold is Hold.MAYBE
    assert read_claimed(files, time.time() + 100.0, 60.0).hold is Hold.DEAD


def test_a_beat_alone_is_no_progress(files):
    def marks(**data):
        files.heartbeat.write_text(json.dumps(data))
        return heartbeat_marks(files.heartbeat)

    progress, beat = marks(step=1, t="2026-01-01T00:00:00.000Z")
    assert marks(step=1, t="2026-01-01T00:00:00.000Z") == (progress, beat)
    later = marks(step=1, t="2026-01-01T00:00:09.000Z")
    assert later[0] == progress
    assert later[1] != beat
    assert marks(step=2, t="2026-01-01T00:00:09.000Z")[0] != progress
    files.heartbeat.write_text("[]")
    assert heartbeat_marks(files.heartbeat) == ("", "")


# The best


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_only_strict_improvement_counts(value, best, minimize):
    expected = value < best if minimize else value > best
    assert improves(value, best, minimize=minimize) is expected
    assert improves(value, None, minimize=minimize)


def test_the_best_few_carry_the_interval_of_the_objective(finished):
    state = state_of(finished)
    top = top_trials(state, 3)
    assert top[0] == running_best(state)
    assert [best.value for best in top] == sorted(best.value for best in top)
    assert all(best.low <= best.value <= best.high for best in top)
    values = [best.value for best in improvements(state)]
    assert values == sorted(set(values), reverse=True)


# The status


def test_the_status_of_a_finished_study(finished):
    found = study_status(finished, FakeClock(START + 1e6))
    assert (found.stands, found.planned, found.done, found.failed) == ("complete", 6, 5, 1)
    assert (found.running, found.queued, found.driver) == (0, 0, "")
    assert [r.number for r in found.rounds] == [0, 1, 2]
    assert found.rounds[1].phases == {"scored": 2, "failed": 1}
    assert found.kinds == {"user_error": 1}
    assert found.floor["n"] == 3
    assert found.floor["sd"] > 0
    assert found.best[0].value == running_best(state_of(finished)).value
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_status_says_who_drives_and_what_can_be_resumed(tmp_path):
    study = new_study(tmp_path)
    assert study_status(study).stands == "resumable"
    assert floor_of(state_of(study)) == {}
    with StudyLock(study.lock):
        found = study_status(study)
        assert found.stands == "running"
        assert str(os.getpid()) in found.driver


def test_a_study_is_found_by_the_beginning_of_its_id(finished):
    home = Home(finished.root.parent.parent)
    (home.studies_dir / ".new-half").mkdir()
    assert list_studies(home) == [finished.study_id]
    assert find_study(home, "small").root == finished.root
    with pytest.raises(StudyError, match=r"no study 'smale-20260101-0000'.*did you mean"):
        find_study(home, "smale-20260101-0000")
    with pytest.raises(StudyError, match="none yet"):
        find_study(Home(home.root / "empty"), "x")


def test_a_folder_without_a_ledger_has_no_status(tmp_path):
    with pytest.raises(LedgerError, match="no ledger"):
        study_status(Home(tmp_path).study("absent"))


# The export


def test_the_export_is_the_same_after_everything_derived_is_deleted(finished, tmp_path):
    study = copy_study(finished, tmp_path)
    before = export_sha(study), export_sha(study, canonical=False)
    for name in ("mirror.json", "report"):
        (study.root / name).mkdir()
    assert (export_sha(study), export_sha(study, canonical=False)) == before


def test_the_canonical_export_holds_no_circumstances(finished):
    text = json.dumps(export_study(finished))
    whole = json.dumps(export_study(finished, canonical=False))
    for part in ('"job1"', "2027-01-15T", '"pid"', '"seconds"', '"python"'):
        assert part in whole, part
        assert part not in text, part
    assert '"val_cer"' in text
