"""A driver that dies after any operation is followed by one that ends the same study.

The places where it may die are not listed here: an undisturbed run reports every operation that
survives the driver, and each of them becomes a death.
"""

from __future__ import annotations

import shutil

import pytest
from _loop_kit import START, Death, Reaper, copy_study, drive, new_study, state_of

from neurosweep.records.export import export_study
from neurosweep.records.state import Phase
from neurosweep.records.trial import Kind, Purpose
from neurosweep.research.journal import Hooks
from neurosweep.research.progress import DriveState
from neurosweep.testing.fake import FakeClock, FakeCluster, Fate


def fates(trial, attempt):
    """One refilled trial and one failed trial in the study."""
    if trial == "r01t001" and attempt == 1:
        return Fate.PREEMPTED
    return Fate.USER_ERROR if trial == "r02t002" else Fate.DONE


def new_cluster():
    return FakeCluster(FakeClock(START), fates, slots=2)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def undisturbed(template, tmp_path_factory):
    study = copy_study(template, tmp_path_factory.mktemp("undisturbed"))
    reaper = Reaper()
    drive(study, new_cluster(), hooks=Hooks(boundary=reaper))
    return export_study(study), reaper.seen


def outcomes(study):
    return {t.plan.trial: (t.phase, dict(t.metrics)) for t in state_of(study).trials.values()}


def test_every_kind_of_operation_is_a_place_to_die(undisturbed):
    _, names = undisturbed
    assert set(names) == {
        "round_json",
        "run_json",
        "submit",
        "scores_json",
        "ledger:agent_turn",
        "ledger:round_planned",
        "ledger:submit_intended",
        "ledger:submitted",
        "ledger:attempt_started",
        "ledger:attempt_ended",
        "ledger:trial_scored",
        "ledger:round_closed",
        "ledger:study_closed",
    }
    assert len(names) > 50


def die_and_resume(template, tmp_path, at, *, jobs_survive):
    study = copy_study(template, tmp_path)
    cluster = new_cluster()
    with pytest.raises(Death):
        drive(study, cluster, hooks=Hooks(boundary=Reaper(at)))
    if not jobs_survive:
        cluster.kill_all()
    result = drive(study, cluster)
    assert result.state is DriveState.COMPLETE
    assert (result.planned, result.done + result.failed) == (6, 6)
    return study, cluster


def test_death_anywhere_changes_nothing_while_jobs_survive(template, undisturbed, tmp_path):
    export, names = undisturbed
    for at in range(len(names)):
        folder = tmp_path / str(at)
        study, cluster = die_and_resume(template, folder, at, jobs_survive=True)
        assert export_study(study) == export, (at, names[at])
        assert set(cluster.completions.values()) == {1}, (at, names[at])
        shutil.rmtree(folder)


def test_death_together_with_all_jobs_loses_no_trial(template, undisturbed, tmp_path):
    export, names = undisturbed
    expected = {name: trial["phase"] for name, trial in export["trials"].items()}
    for at in range(len(names)):
        folder = tmp_path / str(at)
        study, cluster = die_and_resume(template, folder, at, jobs_survive=False)
        state = state_of(study)
        assert {n: t.phase.value for n, t in state.trials.items()} == expected, (at, names[at])
        assert len(list(state.of(Purpose.SEARCH))) == 6
        assert set(cluster.completions.values()) == {1}, (at, names[at])
        shutil.rmtree(folder)


def test_a_driver_that_dies_again_and_again_comes_to_the_same_end(template, undisturbed, tmp_path):
    export, names = undisturbed
    for stride in (1, 2, 5):
        study = copy_study(template, tmp_path / str(stride))
        cluster = new_cluster()
        deaths = 0
        while True:
            try:
                drive(study, cluster, hooks=Hooks(boundary=Reaper(stride)))
                break
            except Death:
                deaths += 1
                assert deaths <= 2 * len(names)
        assert deaths > len(names) / (stride + 3)
        assert export_study(study) == export
        assert set(cluster.completions.values()) == {1}


def test_a_line_cut_anywhere_is_written_again(template, undisturbed, tmp_path):
    export, _ = undisturbed
    study = copy_study(template, tmp_path / "whole")
    drive(study, new_cluster())
    lines = study.ledger.read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        other = copy_study(template, tmp_path / f"cut{number}")
        shutil.rmtree(other.root)
        shutil.copytree(study.root, other.root)
        other.ledger.write_bytes(
            b"".join(lines[:number]) + lines[number][: len(lines[number]) // 2]
        )
        result = drive(other, new_cluster())
        assert result.state is DriveState.COMPLETE
        phases = {t.phase for t in state_of(other).trials.values()}
        assert phases == {Phase.SCORED, Phase.FAILED}
        assert outcomes(other) == outcomes(study), number
        assert export_study(other)["closed"] == export["closed"]
        shutil.rmtree(tmp_path / f"cut{number}")


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_predictions_lost_before_they_were_scored_end_as_a_failure(template, tmp_path, damage):
    study = copy_study(template, tmp_path)
    cluster = new_cluster()

    def die_between_end_and_score(name):
        search = state_of(study).of(Purpose.SEARCH)
        if name == "ledger:attempt_ended" and any(t.phase is Phase.ENDED for t in search):
            raise Death(name)

    with pytest.raises(Death):
        drive(study, cluster, hooks=Hooks(boundary=die_between_end_and_score))
    [ended] = [t for t in state_of(study).trials.values() if t.phase is Phase.ENDED]
    predictions = study.trial(ended.plan.trial).attempt(1).predictions
    if damage == "gone":
        predictions.unlink()
    else:
        lines = predictions.read_text(encoding="utf-8").splitlines()
        predictions.write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    assert drive(study, cluster).state is DriveState.COMPLETE
    trial = state_of(study).trials[ended.plan.trial]
    assert (trial.phase, trial.kind) == (Phase.FAILED, Kind.BROKEN_PREDICTIONS)
