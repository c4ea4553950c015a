"""SIGKILL of a driver on SLURM, at every kind of moment of a round of fifty trials.

The driver is a process of its own, the executor is the one that is used on a cluster, the tasks
are real; only SLURM is not. The next driver must end the same study: fifty outcomes, no trial run
twice to its end, and the same canonical export as a study that nobody disturbed.
"""

from __future__ import annotations

import ast
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from _loop_kit import copy_study, new_study, state_of
from _slurm_fake_kit import (
    Assassin,
    drive_slurm,
    drive_slurm_apart,
    good_ends,
    little_patience,
    write_profile,
)

from neurosweep.exec import slurm_adopt
from neurosweep.records.export import export_study
from neurosweep.records.state import Phase
from neurosweep.records.trial import Purpose
from neurosweep.research import journal
from neurosweep.research.control import send_request
from neurosweep.research.progress import DriveState
from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import Answer, CommandFault, Event, FaultScript, TaskFault

TRIALS = 50
REFILLED = TaskFault(Event.NODE_FAIL, array=1, task=7, requeue=False)
SCRIPT = FaultScript(tasks=(REFILLED,))

# Operations of a round that survive the driver, in the order of their first occurrence, and how
# often an undisturbed round reports them.
ONCE = (
    "ledger:control",
    "request_consumed",
    "round_json",
    "ledger:agent_turn",
    "ledger:round_planned",
    "ledger:round_closed",
    "ledger:study_closed",
)
EACH_SUBMISSION = ("ledger:submit_intended", "submit", "ledger:submitted")
EACH_TRIAL = ("run_json", "scores_json", "ledger:trial_scored")
EACH_ATTEMPT = ("ledger:attempt_started", "ledger:attempt_ended")
# What is reported only while a champion is confirmed, after the last round.
CONFIRMATION = ("confirm_store", "ledger:champion_frozen", "ledger:vault_opened")

EXPECTED = {
    **dict.fromkeys(ONCE, 1),
    **dict.fromkeys(EACH_SUBMISSION, 2),
    **dict.fromkeys(EACH_TRIAL, TRIALS),
    **dict.fromkeys(EACH_ATTEMPT, TRIALS + 1),
}


def occasions():
    """Yield every kind of operation with the first, a middle and the last of its occurrences."""
    for name, count in EXPECTED.items():
        for number in sorted({1, (count + 1) // 2, count}):
            yield pytest.param(name, number, id=f"{name.removeprefix('ledger:')}-{number}")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return new_study(
        tmp_path_factory.mktemp("template"),
        budget={"rounds": 1, "trials_per_round": TRIALS},
        reserve={"floor": 0, "confirm": 0},
    )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with FakeSlurm(tmp_path_factory.mktemp("slurm"), SCRIPT) as slurm, slurm.on_path():
        yield slurm


@pytest.fixture(scope="module", autouse=True)
def moments():
    with little_patience():
        yield


@pytest.fixture(scope="module")
def on(tmp_path_factory):
    return write_profile(tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def undisturbed(template, slurm, on, tmp_path_factory):
    study = begin(template, tmp_path_factory.mktemp("undisturbed"), slurm)
    names: list[str] = []
    assert drive_slurm(study, on, boundary=names.append).state is DriveState.COMPLETE
    check(study, slurm)
    return export_study(study), Counter(names)


def begin(template, folder, slurm, script=SCRIPT):
    """Return a study that has not begun, on a cluster that has forgotten everything."""
    slurm.obey(script)
    study = copy_study(template, folder)
    send_request(study, "poll", value=0.05, reason="so that a request is obeyed")
    return study


def check(study, slurm):
    """Assert that the round has its whole budget, and no trial ran twice to its end."""
    state = state_of(study)
    search = list(state.of(Purpose.SEARCH))
    assert Counter(trial.phase for trial in search) == {Phase.SCORED: TRIALS}
    names = {trial.plan.trial for trial in search}
    assert dict(slurm.completions()) == dict.fromkeys(names, 1)
    assert good_ends(study) == Counter(dict.fromkeys(names, 1))
    arrays = {row["job"].partition("_")[0] for row in slurm.notes("start")}
    assert len(arrays) == 2, "the round and one refilled trial, each submitted once"


def names_in_code():
    """Return every name that the code of the loop reports as a boundary."""
    found = set()
    for path in sorted(Path(journal.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            first = node.args[0] if node.args else None
            if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
                continue
            if node.func.attr.lstrip("_") == "done":
                found.add(first.value)
            elif node.func.attr.lstrip("_") == "record":
                found.add(f"ledger:{first.value}")
    return found


def test_the_list_of_operations_is_that_of_the_code(undisturbed):
    assert dict(undisturbed[1]) == EXPECTED
    assert names_in_code() == {*EXPECTED, *CONFIRMATION}


@pytest.mark.parametrize(("name", "number"), list(occasions()))
def test_a_kill_after_any_operation_changes_nothing(
    template, slurm, on, undisturbed, tmp_path, name, number
):
    study = begin(template, tmp_path, slurm)
    killed = drive_slurm_apart(study, on, boundary=Assassin(name, number))
    assert killed == -signal.SIGKILL
    assert drive_slurm(study, on).state is DriveState.COMPLETE
    check(study, slurm)
    assert export_study(study) == undisturbed[0]


@pytest.mark.parametrize("does", [Answer.KILL_CALLER, Answer.KILL_CALLER_AFTER])
def test_a_kill_around_sbatch_itself_changes_nothing(
    template, slurm, on, undisturbed, tmp_path, does, monkeypatch
):
    monkeypatch.setattr(slurm_adopt, "SETTLED_S", 0.3)
    script = FaultScript(tasks=SCRIPT.tasks, commands=(CommandFault("sbatch", does),))
    study = begin(template, tmp_path, slurm, script)
    assert drive_slurm_apart(study, on) == -signal.SIGKILL
    assert drive_slurm(study, on).state is DriveState.COMPLETE
    check(study, slurm)
    assert export_study(study) == undisturbed[0]


def test_a_driver_that_dies_all_the_time_comes_to_the_same_end(
    template, slurm, on, undisturbed, tmp_path
):
    study = begin(template, tmp_path, slurm)
    deaths = 0
    for number in range(2, 400, 13):
        left = number

        def count(_name):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        code = drive_slurm_apart(study, on, boundary=count)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert deaths >= 5
    check(study, slurm)
    assert export_study(study) == undisturbed[0]
