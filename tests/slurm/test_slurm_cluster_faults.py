"""A real SLURM that breaks while a study runs on it: nothing is lost, nothing runs twice."""

import time
from pathlib import Path

import pytest
from _kill_kit import completions
from _loop_kit import copy_study, new_study
from _slurm_kit import (
    PACE,
    Cluster,
    curves,
    driving,
    running,
    slurm,
    write_profile,
)

from neurosweep.core.layout import StudyDir
from neurosweep.records.export import export_study
from neurosweep.records.state import Phase, StudyState
from neurosweep.records.trial import Kind
from neurosweep.research.setup import build_driver

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.usefixtures("own_cluster"),
    pytest.mark.timeout(240),
]


def stepping(folder: Path, trials: int, *, steps: int, step_s: float) -> StudyDir:
    """Return a study of jobs that save after every step."""
    return new_study(
        folder,
        recipe="steps",
        set={"fault.delay_s": step_s, "training.epochs": steps},
        budget={"rounds": 1, "trials_per_round": trials, "trial_minutes": 3.0},
        # More than SLURM needs to see that a node is gone.
        execution={"stall_minutes": 2.0},
        reserve={"floor": 0, "confirm": 0},
    )


def undisturbed(study: StudyDir, folder: Path) -> StudyDir:
    """Return a copy of a study, run to its end in this process without a pause."""
    copy = copy_study(study, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosweep.testing.jobs._wait", lambda *_: None)
        build_driver(copy, on="inline", pace=PACE).run()
    return copy


def assert_same(study: StudyDir, calm: StudyDir) -> None:
    """Check that two studies have the same records, predictions and curves, each trial run once."""
    assert export_study(study) == export_study(calm)
    assert curves(study) == curves(calm)
    assert set(completions(study).values()) == {1}
    for path in sorted(calm.root.glob("trials/*/attempts/*/predictions.jsonl")):
        twin = study.root / path.relative_to(calm.root)
        assert twin.read_bytes() == path.read_bytes(), path.parents[2].name


def test_rounds_outlive_controller_accounting_and_nodes(tmp_path: Path, hurt: Cluster) -> None:
    """Two studies at once: one loses a machine, one only the daemon that starts its jobs."""
    study = stepping(tmp_path, 12, steps=6, step_s=0.7)
    calm = undisturbed(study, tmp_path / "calm")
    orphaned = stepping(tmp_path / "orphaned", 2, steps=45, step_s=1.0)
    calm_orphaned = undisturbed(orphaned, tmp_path / "orphaned/calm")
    others = write_profile(tmp_path, exclude="n1")

    def on_second_node(state: StudyState) -> list[str]:
        jobs = slurm("squeue", "-h", "-r", "-t", "R", "-w", "n2", "-o", "%i").split()
        return [t.plan.trial for t in running(state) if t.open_attempt.job in jobs]

    def second_wave(state: StudyState) -> bool:
        scored = [t for t in state.trials.values() if t.phase is Phase.SCORED]
        return len(scored) >= 6 and bool(running(state, 4))

    with driving(orphaned, write_profile(tmp_path / "orphaned")) as quiet:
        first = quiet.until(lambda state: running(state, 2), "two running trials")
        jobs = [trial.open_attempt.job for trial in first]
        assert slurm("squeue", "-h", "-r", "-o", "%N", "-j", ",".join(jobs)).split() == ["n1"] * 2
        with driving(study, others) as drive:
            drive.until(lambda state: running(state, 5), "five running trials on other nodes")
            hurt("stop", "n1")
            hurt("stop", "slurmctld")
            time.sleep(2.0)
            hurt("start", "slurmctld")
            hurt("kill", "slurmdbd")
            drive.until(second_wave, "four running trials of the second wave")
            hit = drive.until(on_second_node, "a trial on the node that is lost")
            hurt("kill", "n2")
            lost = [trial for trial in hit if trial not in completions(study)]
            hurt("start", "slurmdbd")
            assert drive.finish().done == 12
            state = drive.state
        assert quiet.finish().done == 2
    assert_same(study, calm)
    assert lost, "the power cut met nobody"
    assert all(state.trials[trial].attempts[0].restarts == 1 for trial in lost)
    assert_same(orphaned, calm_orphaned)
    again = [accounting(job, "ExitCode") for job in jobs]
    assert again == ["3:0", "3:0"], "what SLURM started again found its attempt taken, and left"


def test_without_requeue_a_lost_node_costs_a_new_attempt(tmp_path: Path) -> None:
    study = stepping(tmp_path, 4, steps=6, step_s=0.7)
    calm = undisturbed(study, tmp_path / "calm")
    with driving(study, write_profile(tmp_path, requeue=False)) as drive:
        [first, *_] = drive.until(lambda state: running(state, 4), "four running trials")
        node = slurm("squeue", "-h", "-o", "%N", "-j", first.open_attempt.job).strip()
        slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        result = drive.finish()
        state = drive.state
    assert (result.done, result.failed) == (4, 0)
    kinds = {name: [a.kind for a in t.attempts] for name, t in state.trials.items()}
    lost = [name for name, ends in kinds.items() if ends == [Kind.NODE_FAILURE, Kind.NONE]]
    assert first.plan.trial in lost
    assert all(ends == [Kind.NONE] for name, ends in kinds.items() if name not in lost)
    assert set(completions(study).values()) == {1}
    metrics = [export_study(s)["trials"][first.plan.trial]["metrics"] for s in (study, calm)]
    assert metrics[0] == metrics[1]


def test_preempted_trials_go_on_on_another_node_as_if_nothing_had_been(tmp_path: Path) -> None:
    study = stepping(tmp_path, 8, steps=24, step_s=0.5)
    calm = undisturbed(study, tmp_path / "calm")
    urgent = ["sbatch", "--parsable", "-p", "urgent", "-w", "n[1-2]", "-N2", "--exclusive"]
    with driving(study, write_profile(tmp_path)) as drive:
        drive.until(lambda state: running(state, 8), "eight running trials")
        time.sleep(3.0)
        job = slurm(*urgent, "-o", "/dev/null", "--wrap", "sleep 14").strip()
        result = drive.finish()
        state = drive.state
    assert (result.done, result.failed) == (8, 0)
    assert_same(study, calm)
    assert accounting(job, "State") == "COMPLETED"
    pushed = [t.plan.trial for t in state.trials.values() if t.attempts[0].restarts]
    assert len(pushed) == 4, "two nodes of two trials"
    for trial in pushed:
        assert accounting(state.trials[trial].attempts[0].job, "NodeList") in ("n3", "n4")
        log = study.trial(trial).attempt(1).log.read_text(encoding="utf-8")
        assert "from save 1" in log, "the second life went on where the first had left"


def accounting(job: str, field: str) -> str:
    """Return a field of a job's last life."""
    return slurm("sacct", "-X", "-n", "-P", "-o", field, "-j", job).strip()
