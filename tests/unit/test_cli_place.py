"""A profile that its cluster refuses for good is refused before a study exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosweep.cli.launch import check_place
from neurosweep.core.errors import ConfigError, ExecutorError


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "cluster.toml"
    path.write_text('partition = "main"\nmem_gb = 2.0\n', encoding="utf-8")
    return path


def sbatch(folder: Path, text: str, code: int) -> None:
    script = folder / "sbatch"
    body = f'#!/bin/sh\necho "$@" > {folder}/asked\necho "{text}" >&2\nexit {code}\n'
    script.write_text(body, encoding="utf-8")
    script.chmod(0o755)


def test_a_good_profile_is_asked_about_once(profile: Path) -> None:
    sbatch(profile.parent, "sbatch: Job 7 to start at 2026-01-01T00:00:00", 0)
    check_place(f"slurm:{profile}")
    asked = (profile.parent / "asked").read_text()
    assert asked.startswith("--test-only")
    assert "--partition=main" in asked
    assert "--mem=2048M" in asked


@pytest.mark.parametrize(
    "said",
    [
        "allocation failure: Invalid partition name specified",
        "allocation failure: Requested node configuration is not available",
        "sbatch: error: invalid account or account/partition combination specified",
    ],
)
def test_what_no_waiting_cures_is_refused(profile: Path, said: str) -> None:
    sbatch(profile.parent, said, 1)
    with pytest.raises(ConfigError, match=r"SLURM refuses what the profile asks: .*doctor --on"):
        check_place(f"slurm:{profile}")


@pytest.mark.parametrize(
    "said",
    [
        "allocation failure: Required node not available (down, drained or reserved)",
        "sbatch: error: Unable to contact slurm controller (connect failure)",
    ],
)
def test_what_may_pass_is_not(profile: Path, said: str) -> None:
    sbatch(profile.parent, said, 1)
    check_place(f"slurm:{profile}")


def test_a_machine_without_slurm_is_told(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(profile.parent))
    with pytest.raises(ExecutorError, match="sbatch is not installed here"):
        check_place(f"slurm:{profile}")
