"""One study gives one record, whatever runs its attempts: on every executor found."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from _loop_kit import copy_study, new_study

from neurosweep.core.layout import StudyDir
from neurosweep.core.plugins import find_plugins
from neurosweep.records.export import export_study
from neurosweep.records.trial import Kind
from neurosweep.research.placing import Pace
from neurosweep.research.progress import DriveState
from neurosweep.research.setup import build_driver

PLUGINS = sorted(find_plugins("neurosweep.exec.executors"))
ENDINGS = {
    "instant": Kind.NONE,
    "crash": Kind.USER_ERROR,
    "import_error": Kind.USER_ERROR,
    "diverge": Kind.DIVERGED,
    "unknown_item": Kind.BROKEN_PREDICTIONS,
    "duplicate_item": Kind.BROKEN_PREDICTIONS,
    "not_predictions": Kind.BROKEN_PREDICTIONS,
    "missing_item": Kind.NONE,
    "oom_gpu": Kind.OOM_GPU,
    "steps": Kind.NONE,
}


def place(name: str, folder: Path) -> str:
    """Return what follows ``--on`` for an executor."""
    if name != "slurm":
        return name
    if shutil.which("sbatch") is None:
        pytest.skip("no SLURM here: sbatch is not installed")
    try:
        subprocess.run(["sinfo"], capture_output=True, check=True, timeout=10)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("no SLURM here: sinfo cannot reach a controller")
    path = folder / "profile.toml"
    path.write_text("poll_s = 0.5\nminutes = 2\nmem_gb = 0.5\n", encoding="utf-8")
    return f"slurm:{path}"


def record(study: StudyDir, on: str) -> dict[str, Any]:
    """Run a study to its end and return its export, with its home called HOME."""
    driver = build_driver(study, on=on, workers=4, pace=Pace(poll_s=0.05))
    assert driver.run().state is DriveState.COMPLETE
    text = json.dumps(export_study(study))
    exported: dict[str, Any] = json.loads(text.replace(str(study.root.parents[1]), "HOME"))
    return exported


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    """Return a study of two rounds: trials that end in every way a record may show."""
    return new_study(
        tmp_path_factory.mktemp("template"),
        recipe="assorted",
        set={"fault.mode": ",".join(ENDINGS)},
        budget={"rounds": 2, "trials_per_round": len(ENDINGS), "trial_minutes": 2.0},
        reserve={"floor": 2, "confirm": 0},
    )


@pytest.fixture(scope="module")
def reference(template: StudyDir, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the record of a study whose attempts ran one by one in this process."""
    return record(copy_study(template, tmp_path_factory.mktemp("reference")), "inline")


def test_the_reference_holds_every_ending(reference: dict[str, Any]) -> None:
    for number in (1, 2):
        found = [
            reference["trials"][f"r{number:02d}t{index:03d}"]["kind"]
            for index in range(len(ENDINGS))
        ]
        assert dict(zip(ENDINGS, found, strict=True)) == ENDINGS
    assert reference["closed"]["done"] == 6
    assert reference["closed"]["failed"] == 14


@pytest.mark.parametrize("name", PLUGINS)
def test_every_executor_gives_the_same_record(
    name: str, template: StudyDir, reference: dict[str, Any], tmp_path: Path
) -> None:
    assert record(copy_study(template, tmp_path), place(name, tmp_path)) == reference
