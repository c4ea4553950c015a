"""Limits of one attempt: memory, file size, time, and its seeds and threads."""

from __future__ import annotations

import random
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from neurosweep.core.errors import DataError

THREADS_VARIABLE = "NEUROSWEEP_THREADS"

_KILOBYTE = 1024
_MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Hold what one attempt may use.

    Attributes
    ----------
    timeout_s
        Seconds of work, those before an interruption counted; None for no limit.
    memory_mb
        Resident memory that is the process's own, in MB; None for no limit.
    threads
        Threads: the cores it was allocated.
    stall_s
        Longest time without progress, seconds; the driver watches it.
    grace_s
        Seconds between a request to stop and the end.
    file_mb
        Largest file, MB.
    log_mb
        Largest log, MB.
    predictions_mb
        Largest predictions file, MB.
    save_every_s
        Seconds between two saves of what an interrupted job goes on from.
    """

    timeout_s: float | None = None
    memory_mb: int | None = None
    threads: int = 1
    stall_s: float | None = None
    grace_s: float = 10.0
    file_mb: int = 20_000
    log_mb: float = 8.0
    predictions_mb: float = 64.0
    save_every_s: float = 300.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Limits:
        """Read the limits of ``run.json``.

        Raises
        ------
        DataError
            When a limit is unknown or not a positive number.
        """
        known = cls.__dataclass_fields__
        unknown = set(data) - set(known)
        problems = [f"{key}: unknown; allowed are {', '.join(known)}" for key in unknown]
        for key, value in data.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                problems.append(f"{key}: is {value!r}, expected a number above 0")
        if problems:
            raise DataError("limits: " + "; ".join(sorted(problems)))
        return cls(**{key: value for key, value in data.items() if value is not None})


def apply_limits(limits: Limits) -> None:
    """Bind this process, for good: no core files, bounded files, bounded private memory.

    Private memory is capped at twice the limit above what the process holds now: an allocation
    that is far too large fails at once as `MemoryError`, while the exact limit is watched on
    resident memory. Mapped read-only files count for neither.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * _MEGABYTE)
    if limits.memory_mb is not None:
        held = _status_kb("VmData") * _KILOBYTE
        _lower(resource.RLIMIT_DATA, held + 2 * limits.memory_mb * _MEGABYTE)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (capped, hard))


def _status_kb(*names: str) -> int:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) for name in names if name in fields)


def own_memory_mb() -> float:
    """Return the resident memory that is this process's own, in MB, without mapped files."""
    return _status_kb("RssAnon", "RssShmem") / _KILOBYTE


def peak_memory_mb() -> float:
    """Return the highest resident memory of this process so far, in MB."""
    peak = _status_kb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _KILOBYTE


class _SeedNumpyLater:
    """Seed numpy's global state when a job imports it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own specification, with the seeding at the end of its loading."""
        if fullname != "numpy.random":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_seed(module: ModuleType) -> None:
            load(module)
            module.seed(self._seed)

        spec.loader.exec_module = load_and_seed  # type: ignore[method-assign]
        return spec


def seed_all(seed: int) -> None:
    """Seed the random numbers of Python, numpy, and torch where it is loaded.

    Parameters
    ----------
    seed
        Not negative; numpy takes it modulo 2**32.
    """
    random.seed(seed)
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _SeedNumpyLater)]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        # To import numpy takes longer than many a job that needs none.
        sys.meta_path.insert(0, _SeedNumpyLater(seed % 2**32))
    else:
        numpy_random.seed(seed % 2**32)  # the training code may use the global state
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def granted_threads(threads: int, environ: Mapping[str, str]) -> int:
    """Return the threads to use: what the executor says, else what the run asked for."""
    granted = environ.get(THREADS_VARIABLE, "")
    return int(granted) if granted.isdigit() and int(granted) > 0 else threads


def set_threads(threads: int) -> None:
    """Give torch, where it is loaded, as many threads as there are cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
