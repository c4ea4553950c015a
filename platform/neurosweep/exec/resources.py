"""What this process was allocated: cores and memory, not what the machine has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_MEGABYTE = 1024 * 1024
_UNLIMITED = 1 << 50  # control groups write a huge number for "no limit"
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def allocated_cores(
    environ: Mapping[str, str] | None = None, cgroup_root: Path = _CGROUP_ROOT
) -> int:
    """Return how many cores this process may use: at least 1.

    The least of its affinity, the quota of its control group, and what SLURM gave the task.

    Parameters
    ----------
    environ
        Environment; None for this process's.
    cgroup_root
        Where control groups are mounted.
    """
    environ = os.environ if environ is None else environ
    limits = [_affinity()]
    quota = _cpu_quota(cgroup_root)
    if quota is not None:
        limits.append(int(quota))
    slurm = environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit():
        limits.append(int(slurm))
    return max(1, min(limits))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """Return this process's groups of a controller, the mount's root last."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folders.append(root / path.lstrip("/"))
        elif controller in controllers.split(","):
            folders.append(root / controller / path.lstrip("/"))
    return [*folders, root / controller, root]


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _cpu_quota(root: Path) -> float | None:
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        words = _read_words(folder / "cpu.max")
        if not words:
            words = _read_words(folder / "cpu.cfs_quota_us")
            words += _read_words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and int(words[0]) > 0 and int(words[1]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def allocated_memory_mb(
    environ: Mapping[str, str] | None = None, cgroup_root: Path = _CGROUP_ROOT
) -> int:
    """Return how much memory this process may use, in MB.

    The least of the machine's memory, the limit of its control group, and what SLURM gave.

    Parameters
    ----------
    environ
        Environment; None for this process's.
    cgroup_root
        Where control groups are mounted.
    """
    environ = os.environ if environ is None else environ
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEGABYTE]
    for folder in _cgroup_folders(cgroup_root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _read_words(folder / name)
            if words and words[0].isdigit() and int(words[0]) < _UNLIMITED:
                limits.append(int(words[0]) // _MEGABYTE)
    slurm = environ.get("SLURM_MEM_PER_NODE", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits.append(int(slurm))
    return min(limits)


def default_workers(cores_per_task: int, cores: int | None = None) -> int:
    """Return how many attempts fit at a time: at least 1.

    Parameters
    ----------
    cores_per_task
        Cores of one attempt.
    cores
        Cores there are; None for those allocated to this process.
    """
    return max(1, (allocated_cores() if cores is None else cores) // max(1, cores_per_task))


def kernel_oom_kills() -> int:
    """Return how many processes this machine's kernel has killed for memory since boot."""
    words = _read_words(Path("/proc/vmstat"))
    if "oom_kill" not in words:
        return 0
    return int(words[words.index("oom_kill") + 1])
