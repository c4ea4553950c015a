"""Which code runs: the environment of a job, and the proof that it holds."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from neurosweep.core.errors import WrongCodeError

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_REPORTED = ("torch", "numpy", "scipy", "mne", "optuna", "mlflow", "submitit", "neurosweep")


def code_env(experiments_root: Path | None, threads: int) -> dict[str, str]:
    """Return the variables that decide which code a job imports and how many threads it uses.

    Parameters
    ----------
    experiments_root
        Folder that holds the `neurodecode` of the job's commit; None for the installed one.
    threads
        Number of cores allocated to the job.
    """
    env = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    env |= {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    # A harness that is itself run from a path, not installed, must be found by its jobs too.
    roots = [] if experiments_root is None else [str(experiments_root)]
    roots += [str(package_root(name)) for name in ("neurosweep", "neuroagents", "neurodecode")]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(roots))
    return env


def package_root(name: str) -> Path:
    """Return the source root that holds a package, without importing the package.

    Raises
    ------
    WrongCodeError
        When the package cannot be found.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        msg = f"package '{name}' cannot be found; PYTHONPATH={os.environ.get('PYTHONPATH')}"
        raise WrongCodeError(msg)
    return Path(spec.origin).resolve().parent.parent


def assert_code_from(expected: Mapping[str, str | Path]) -> None:
    """Refuse to go on unless each package resolves under its expected source root.

    Raises
    ------
    WrongCodeError
        Naming the package, where it resolves to, and where it was expected.
    """
    for name, root in expected.items():
        found = package_root(name)
        module = sys.modules.get(name)
        if module is not None and module.__file__ is not None:
            found = Path(module.__file__).resolve().parent.parent
        if found != Path(root).resolve():
            msg = (
                f"{name} resolves to {found}, expected under {root}; "
                f"PYTHONPATH={os.environ.get('PYTHONPATH')}"
            )
            raise WrongCodeError(msg)


def environment_info() -> dict[str, str]:
    """Return interpreter, machine and package versions, for the record."""
    import platform  # every job imports this module, few ask this
    from importlib import metadata

    info = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
    }
    for name in _REPORTED:
        try:
            info[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return info
