"""Limits of an attempt, and what resources it was allocated."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurosweep.core.errors import DataError
from neurosweep.exec.limits import Limits, own_memory_mb, peak_memory_mb, seed_all
from neurosweep.exec.resources import (
    allocated_cores,
    allocated_memory_mb,
    default_workers,
    kernel_oom_kills,
)


def test_limits_are_read_and_none_takes_the_default() -> None:
    limits = Limits.from_dict({"timeout_s": 2700.0, "memory_mb": None, "threads": 2})
    assert (limits.timeout_s, limits.memory_mb, limits.threads) == (2700.0, None, 2)
    assert limits.predictions_mb == Limits().predictions_mb


def test_every_wrong_limit_is_named() -> None:
    with pytest.raises(DataError) as caught:
        Limits.from_dict({"timeout": 1, "memory_mb": -5, "threads": "2", "stall_s": True})
    text = str(caught.value)
    assert "timeout: unknown; allowed are timeout_s" in text
    for part in ("memory_mb: is -5", "threads: is '2'", "stall_s: is True"):
        assert part in text


def test_a_seed_repeats_all_random_numbers() -> None:
    def draw() -> tuple[float, float]:
        return random.random(), float(np.random.random())  # noqa: NPY002

    seed_all(2**33 + 5)
    first = draw()
    assert draw() != first
    seed_all(2**33 + 5)
    assert draw() == first


def test_numpy_is_seeded_when_a_job_imports_it_later() -> None:
    code = """
import sys
from neurosweep.exec.limits import seed_all
seed_all(1)
seed_all(5)
assert "numpy" not in sys.modules
import numpy as np
print(float(np.random.random()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seed_all(5)
    assert float(done.stdout) == float(np.random.random())  # noqa: NPY002


def test_memory_is_measured() -> None:
    assert 1.0 < own_memory_mb() <= peak_memory_mb() < 1e6


def test_cores_are_bounded_by_affinity_quota_and_slurm(tmp_path: Path) -> None:
    most = len(os.sched_getaffinity(0))
    assert allocated_cores({}, tmp_path) == most
    assert allocated_cores({"SLURM_CPUS_PER_TASK": "1"}, tmp_path) == 1
    assert allocated_cores({"SLURM_CPUS_PER_TASK": "9999"}, tmp_path) == most
    assert allocated_cores({"SLURM_CPUS_PER_TASK": "x"}, tmp_path) == most
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert allocated_cores({}, tmp_path) == 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert allocated_cores({}, tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert allocated_cores({}, tmp_path) == most


def test_the_old_control_groups_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert allocated_cores({}, tmp_path) == 1
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert allocated_cores({}, tmp_path) == len(os.sched_getaffinity(0))


def test_memory_is_bounded_by_group_and_slurm(tmp_path: Path) -> None:
    machine = allocated_memory_mb({}, tmp_path)
    assert machine > 100
    (tmp_path / "memory.max").write_text(f"{64 * 1024 * 1024}\n")
    assert allocated_memory_mb({}, tmp_path) == 64
    (tmp_path / "memory.max").write_text("max\n")
    assert allocated_memory_mb({}, tmp_path) == machine
    (tmp_path / "memory.max").write_text("9223372036854771712\n")
    assert allocated_memory_mb({}, tmp_path) == machine
    assert allocated_memory_mb({"SLURM_MEM_PER_NODE": "32"}, tmp_path) == 32


@pytest.mark.parametrize(("cores", "per_task", "expected"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_as_many_workers_as_fit(cores: int, per_task: int, expected: int) -> None:
    assert default_workers(per_task, cores) == expected


def test_the_kernels_count_of_kills_is_a_number() -> None:
    assert kernel_oom_kills() >= 0
