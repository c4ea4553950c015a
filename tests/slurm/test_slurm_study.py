"""A whole study on a real SLURM: the same records as on this machine, a failure of each kind."""

from pathlib import Path

import pytest
from _loop_kit import copy_study, new_study

from neurosweep.core.layout import StudyDir
from neurosweep.records.export import export_study
from neurosweep.records.fold import fold
from neurosweep.records.ledger import read_ledger
from neurosweep.records.trial import Kind
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveState
from neurosweep.research.setup import build_driver

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(240)]
PROFILE = Path(__file__).parents[2] / "slurm/profiles/devcluster.toml"


def run(study: StudyDir, on: str) -> DriveState:
    return build_driver(study, on=on, pace=Pace(poll_s=0.1)).run().state


def test_slurm_and_local_give_the_same_records(tmp_path: Path) -> None:
    template = new_study(
        tmp_path,
        budget={"rounds": 1, "trials_per_round": 8, "trial_minutes": 2.0},
        reserve={"floor": 2, "confirm": 0},
        set={"fault.mode": "crash", "fault.share": 0.3},
    )
    exports = []
    for on in ("local:2", f"slurm:{PROFILE}"):
        study = copy_study(template, tmp_path / on.partition(":")[0])
        assert run(study, on) is DriveState.COMPLETE
        exports.append(export_study(study))
    assert exports[0] == exports[1]


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [("crash", Kind.USER_ERROR), ("oom", Kind.OOM_HOST), ("unknown_item", Kind.BROKEN_PREDICTIONS)],
)
def test_a_failure_keeps_its_kind(tmp_path: Path, recipe: str, kind: Kind) -> None:
    study = new_study(
        tmp_path,
        recipe=recipe,
        budget={"rounds": 1, "trials_per_round": 2, "trial_minutes": 2.0},
        reserve={"floor": 0, "confirm": 0},
        execution={"memory_mb": 200},
    )
    run(study, f"slurm:{PROFILE}")
    trials = fold(read_ledger(study.ledger)).trials.values()
    assert [trial.kind for trial in trials] == [kind, kind]
