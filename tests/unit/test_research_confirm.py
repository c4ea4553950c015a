"""Confirmation: frozen before any test input, opened once, aggregates only; and reruns."""

from __future__ import annotations

import pytest
from _loop_kit import PACE, START, copy_study, drive, new_study, no_waiting_for_disks, state_of

from neurosweep.core.errors import StudyError
from neurosweep.core.files import read_json
from neurosweep.records.ledger import read_ledger
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.best import running_best
from neurosweep.research.confirm import confirm
from neurosweep.research.confirmation import confirmation_of
from neurosweep.research.control import send_request
from neurosweep.research.journal import Hooks
from neurosweep.research.rerun import rerun
from neurosweep.testing.fake import FakeClock, FakeCluster, FakeExecutor, Fate


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    study = new_study(tmp_path_factory.mktemp("template"), reserve={"floor": 3, "confirm": 2})
    drive(study)
    return study


@pytest.fixture
def study(finished, tmp_path):
    return copy_study(finished, tmp_path)


def new_cluster(fates=None):
    table = dict(fates or {})
    return FakeCluster(FakeClock(START + 1e6), lambda trial, _attempt: table.get(trial, Fate.DONE))


def run_confirm(study, cluster=None, **options):
    cluster = cluster or new_cluster()
    with no_waiting_for_disks():
        return confirm(study, FakeExecutor(cluster), clock=cluster.clock, pace=PACE, **options)


def events_of(study):
    return [event["event"] for event in read_ledger(study.ledger)]


def test_the_champion_is_frozen_before_any_job_and_the_vault_opened_after_the_jobs(study):
    before = len(events_of(study))
    result = run_confirm(study)
    events = events_of(study)[before:]
    assert events[0] == "champion_frozen"
    assert events.index("vault_opened") > events.index("attempt_started")
    assert events.index("vault_opened") < events.index("attempt_ended")
    assert events.count("vault_opened") == 1
    assert (result.champion, result.seeds, result.failed, result.opening) == (
        running_best(state_of(study)).trial,
        2,
        0,
        1,
    )


def test_confirmation_trains_with_fresh_seeds_and_reports_test_metrics_with_an_interval(study):
    result = run_confirm(study)
    state = state_of(study)
    trials = list(state.of(Purpose.CONFIRM))
    seeds = {t.plan.seed for t in state.trials.values() if t.plan.purpose is not Purpose.CONFIRM}
    assert [t.plan.trial for t in trials] == ["c000", "c001"]
    assert not seeds & {t.plan.seed for t in trials}
    assert all(name.startswith("test_") for name in result.metrics)
    cer = result.metrics["test_cer"]
    assert cer.low < cer.mean < cer.high
    assert cer.mean == pytest.approx(sum(t.metrics["test_cer"] for t in trials) / 2)
    assert confirmation_of(state) == result


def test_jobs_of_a_confirmation_get_inputs_away_from_the_labels_and_only_until_the_end(study):
    seen = []

    def look(line):
        if line["event"] == "submitted":
            store = study.root / "confirm" / "store"
            seen.extend(path.name for path in store.rglob("*") if path.is_file())

    run_confirm(study, hooks=Hooks(on_event=look))
    assert "x.json" in seen
    assert not [name for name in seen if "refs" in name]
    run = read_json(study.trial("c000").run_json)
    assert (run["part"], run["stores"]) == ("test", [f"studies/{study.study_id}/confirm/store"])
    assert not (study.root / "confirm").exists()


def test_of_the_test_part_only_aggregates_are_kept(study):
    run_confirm(study)
    assert "items" in read_json(study.trial("r01t000").scores_json)
    assert "items" not in read_json(study.trial("c000").scores_json)


def test_the_vault_opens_a_second_time_only_for_a_reason(study):
    run_confirm(study)
    with pytest.raises(StudyError, match=r"opened before.*--reason"):
        run_confirm(study)
    result = run_confirm(study, reason="the metric was changed", trial="r01t000")
    assert (result.opening, result.champion) == (2, "r01t000")
    openings = state_of(study).vault_openings
    assert [opening["reason"] for opening in openings] == ["", "the metric was changed"]


def test_an_interrupted_confirmation_is_taken_up_with_the_same_champion(study):
    cluster = new_cluster()

    def die(name):
        if name == "ledger:vault_opened":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_confirm(study, cluster, hooks=Hooks(boundary=die))
    result = run_confirm(study, cluster)
    assert (result.seeds, result.opening) == (2, 1)
    assert events_of(study).count("champion_frozen") == 1
    assert events_of(study).count("vault_opened") == 1
    assert cluster.completions == {"c000": 1, "c001": 1}


def test_a_failed_confirmation_trial_is_reported(study):
    result = run_confirm(study, new_cluster({"c001": Fate.DIVERGED}))
    assert (result.seeds, result.failed) == (1, 1)
    assert state_of(study).trials["c001"].kind is Kind.DIVERGED


def test_a_study_that_is_not_closed_cannot_be_confirmed(tmp_path):
    study = new_study(tmp_path)
    with pytest.raises(StudyError, match="is not closed"):
        run_confirm(study)


def test_a_study_that_was_cut_short_is_confirmed_only_for_a_reason(tmp_path):
    study = new_study(tmp_path, reserve={"floor": 1, "confirm": 1})

    def cancel(line):
        if line["event"] == "trial_scored" and line["data"]["trial"] == "r01t000":
            send_request(study, "cancel", reason="enough")

    drive(study, hooks=Hooks(on_event=cancel))
    with pytest.raises(StudyError, match=r"before its budget was used \(enough\).*--reason"):
        run_confirm(study)
    assert state_of(study).champions == []
    assert run_confirm(study, reason="the deadline").seeds == 1


def test_a_trial_without_a_score_cannot_be_confirmed(study):
    with pytest.raises(StudyError, match="not a search trial"):
        run_confirm(study, trial="f000")


def run_rerun(study, trial, cluster=None):
    cluster = cluster or new_cluster()
    return rerun(study, trial, FakeExecutor(cluster), clock=cluster.clock)


def test_a_rerun_gives_the_same_number_and_leaves_the_study_as_it_was(study):
    ledger = study.ledger.read_bytes()
    scores = study.trial("r01t001").scores_json.read_bytes()
    result = run_rerun(study, "r01t001")
    assert result.recorded == state_of(study).trials["r01t001"].metrics["val_cer"]
    assert (result.agrees, result.identical) == (True, True)
    assert result.value == result.recorded
    assert result.band > 0
    assert study.ledger.read_bytes() == ledger
    assert study.trial("r01t001").scores_json.read_bytes() == scores
    assert run_rerun(study, "r01t001").folder != result.folder


def test_a_rerun_prepares_data_again_that_were_deleted(study):
    import shutil

    shutil.rmtree(study.root.parent.parent / "store")
    shutil.rmtree(study.root.parent.parent / "secret")
    assert run_rerun(study, "f000").identical


def test_a_rerun_of_what_was_not_scored_is_refused(study):
    with pytest.raises(StudyError, match="no trial 'r09t000'"):
        run_rerun(study, "r09t000")
    with pytest.raises(StudyError, match="ended in diverged"):
        run_rerun(study, "r01t000", new_cluster({"r01t000": Fate.DIVERGED}))
    run_confirm(study)
    with pytest.raises(StudyError, match="open the test part again"):
        run_rerun(study, "c000")
