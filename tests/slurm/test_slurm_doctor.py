"""`neurosweep doctor --on slurm:PROFILE` on a real cluster."""

import json
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import exits, main

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(120)]


def doctor(
    home: Path, capsys: pytest.CaptureFixture[str], *lines: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    profile = home / "profile.toml"
    profile.write_text("\n".join(lines), encoding="utf-8")
    words = ["--on", f"slurm:{profile}", "--home", str(home), "--json", "--wait", "60"]
    code = main(["doctor", *words])
    answer = json.loads(capsys.readouterr().out)
    return code, {check["name"]: check for check in answer["checks"]}


def test_a_good_profile_passes_with_a_job_on_a_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(tmp_path, capsys, 'partition = "main"', "mem_gb = 1.0", "minutes = 5")
    assert code == exits.OK, {n: f for n, f in found.items() if f["state"] == "missing"}
    assert found["job"]["detail"].startswith("ran on n")
    assert found["shared folder"]["state"] == found["clock"]["state"] == "ok"
    assert "same versions" in found["packages there"]["detail"]
    assert found["requeue there"]["detail"] == "squeue and scontrol answer on the node"


def test_a_setup_that_fails_on_the_node_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup = 'setup = ["echo no such module >&2", "exit 4"]'
    code, found = doctor(tmp_path, capsys, 'partition = "urgent"', "mem_gb = 0.5", setup)
    assert code == exits.NOT_REACHED
    assert found["request"]["state"] == "ok"
    assert "no such module" in found["job"]["detail"]


def test_a_wrong_partition_is_found_and_nothing_is_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(tmp_path, capsys, 'partition = "gpu"', "gpus = 1")
    assert code == exits.NOT_REACHED
    assert found["partition"]["fix"].startswith("set partition to one of: main")
    assert found["request"]["state"] == "missing"
    assert "job" not in found


def test_commands_that_only_nodes_lack_are_found_from_a_folder_with_a_percent_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "50%done %A"
    home.mkdir()
    setup = 'setup = ["export PATH=/no/such/folder"]'
    code, found = doctor(home, capsys, 'partition = "main"', "mem_gb = 1.0", setup)
    assert code == exits.OK, {n: f for n, f in found.items() if f["state"] == "missing"}
    assert found["shared folder"]["state"] == "ok"
    assert found["requeue there"]["state"] == "warning"
    assert "scontrol" in found["requeue there"]["detail"]
    assert "new attempt" in found["requeue there"]["fix"]
