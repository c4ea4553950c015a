"""What doctor finds on machines that lack things."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import checks, exits, main
from neurosweep.cli.checks import Finding
from neurosweep.core.layout import Home

CPU = {"version": "2.13.0+cpu", "cuda": None, "names": []}
CUDA = {"version": "2.13.0", "cuda": "12.8", "names": ["Large GPU"]}


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a machine where nothing is installed and nothing is run."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(checks, "_run", lambda _words, _timeout: (127, "not found"))
    monkeypatch.setattr(checks, "_probe_torch", lambda: CPU)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def states(findings: Any) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_everything_missing_says_how_to_get_it(tmp_path: Path) -> None:
    found = checks.all_checks(Home(tmp_path))
    assert {finding.area for finding in found} == {"local", "slurm", "gpu", "mlflow", "optional"}
    assert all(finding.fix for finding in found if finding.state != "ok")
    assert all(not finding.fix for finding in found if finding.state == "ok")
    missing = {f.name for f in found if f.state == "missing"}
    assert {"git", "sbatch", "squeue", "sacct", "scancel", "controller", "driver"} <= missing


def test_a_full_disk_and_a_forbidden_home_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "not" / "yet")
    found = states(checks.local_checks(home))
    assert (found["home"], found["disk"], found["python"]) == ("ok", "ok", "ok")
    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = states(checks.local_checks(home))
    assert (found["home"], found["disk"]) == ("missing", "missing")
    assert not home.root.exists(), "looking changes nothing"


@pytest.mark.parametrize(("code", "state"), [(0, "ok"), (1, "missing")])
def test_slurm_needs_a_controller_that_answers(
    code: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(checks, "_run", lambda _words, _timeout: (code, "main* up 4"))
    found = states(checks.slurm_checks())
    assert found["sbatch"] == "ok"
    assert found["controller"] == state


def test_a_gpu_needs_driver_and_build() -> None:
    cpu = {f.name: f for f in checks.gpu_checks(CPU)}
    assert cpu["torch"].state == "missing"
    assert "CPU only" in cpu["torch"].detail
    assert states(checks.gpu_checks(CUDA))["torch"] == "ok"
    assert states(checks.gpu_checks("cannot be imported"))["torch"] == "missing"


def test_an_unreachable_tracking_server_is_found_and_its_password_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    (_, server) = checks.mlflow_checks(Home(tmp_path))
    assert server.state == "missing"
    assert "secret" not in server.detail


def run_doctor(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *words])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


@pytest.fixture
def with_findings(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Finding]], None]:
    def use(found: list[Finding]) -> None:
        monkeypatch.setattr(checks, "all_checks", lambda _home: found)

    return use


def test_only_needed_areas_decide_the_exit_code(
    with_findings: Callable[[list[Finding]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_findings(
        [
            Finding("local", "python", "ok", "3.11"),
            Finding("local", "memory", "warning", "2 GB", "use less"),
            Finding("slurm", "sbatch", "missing", "not found", "log in"),
        ]
    )
    code, answer = run_doctor([], capsys)
    assert (code, answer["ok"], answer["needed"]) == (exits.OK, True, ["local", "mlflow"])
    assert list(answer) == ["v", "needed", "ok", "checks", "exit_code"]
    assert list(answer["checks"][0]) == ["area", "name", "state", "detail", "fix"]
    code, answer = run_doctor(["--need", "slurm"], capsys)
    assert (code, answer["ok"]) == (exits.NOT_REACHED, False)


def test_what_is_missing_is_shown_with_what_to_do(
    with_findings: Callable[[list[Finding]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_findings([Finding("local", "git", "missing", "not found", "apt-get install git")])
    assert main(["doctor"]) == exits.NOT_REACHED
    shown = capsys.readouterr().out
    assert "-> apt-get install git" in shown
    assert "missing and needed: git" in shown


def test_torch_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # another test may have loaded it
    monkeypatch.setattr(checks, "_TORCH_PROBE", 'print(\'{"version": "1"}\')')
    assert checks._probe_torch() == {"version": "1"}
    monkeypatch.setattr(checks, "_TORCH_PROBE", "raise ImportError('no torch here')")
    assert checks._probe_torch() == "ImportError: no torch here"
    assert "torch" not in sys.modules
