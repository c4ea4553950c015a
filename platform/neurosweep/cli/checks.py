"""The checks behind ``neurosweep doctor``."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from neurosweep.core.layout import Home

_MIN_DISK_GB = 2.0
_MIN_MEMORY_GB = 4.0
_COMMAND_TIMEOUT_S = 20.0
_TORCH_TIMEOUT_S = 120.0
_REQUIRED = ("numpy", "scipy", "mne", "optuna", "pydantic", "submitit", "gitpython", "jiwer")
_OPTIONAL = {
    "transformers": "language models as decoders",
    "peft": "LoRA adapters",
    "selenium": "the browser tests of this project",
    "pytest": "the tests of this project",
}
_TORCH_PROBE = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "names": names}))
"""


@dataclass(frozen=True)
class Finding:
    """Say what one check found.

    Attributes
    ----------
    area
        ``local``, ``slurm``, ``gpu``, ``mlflow`` or ``optional``.
    name
        What was looked for.
    state
        ``ok``, ``missing``, or ``warning``: it works, but not well.
    detail
        What was found.
    fix
        What to do; empty when there is nothing to do.
    """

    area: str
    name: str
    state: str
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the finding as JSON data."""
        return asdict(self)


def all_checks(home: Home) -> list[Finding]:
    """Run every check; none of them changes anything.

    Parameters
    ----------
    home
        Home whose disk is looked at.
    """
    torch = _probe_torch()
    return [
        *local_checks(home),
        _torch_check(torch),
        *slurm_checks(),
        *gpu_checks(torch),
        *mlflow_checks(home),
        *_optional_checks(),
    ]


def local_checks(home: Home) -> Iterator[Finding]:
    """Check the interpreter, the machine, the home and the packages that are always needed."""
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield _finding("local", "python", good, version, "install Python 3.11 or newer")
    cores = len(os.sched_getaffinity(0))
    yield Finding("local", "cores", "ok", f"{cores} usable, so {cores} trials at a time")
    yield _memory_check()
    yield from _disk_checks(home)
    git = shutil.which("git")
    yield _finding("local", "git", git is not None, git or "not found", "apt-get install git")
    for name in _REQUIRED:
        yield _package("local", name, "pip install -c constraints.txt -e .")


def _finding(area: str, name: str, good: bool, detail: str, fix: str) -> Finding:
    return Finding(area, name, "ok" if good else "missing", detail, "" if good else fix)


def _package(area: str, name: str, fix: str, use: str = "") -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(area, name, "missing", f"not installed{use and f'; for {use}'}", fix)
    return Finding(area, name, "ok", version)


def _memory_check() -> Finding:
    total_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    state = "ok" if total_gb >= _MIN_MEMORY_GB else "warning"
    fix = f"the demo needs up to {_MIN_MEMORY_GB:g} GB; use --workers 1"
    return Finding("local", "memory", state, f"{total_gb:.1f} GB", fix if state != "ok" else "")


def _disk_checks(home: Home) -> Iterator[Finding]:
    place = home.root
    while not place.exists():
        place = place.parent
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    detail = f"{home.root}" + ("" if home.root.exists() else " (will be made)")
    fix = "choose a folder that you may write with --home DIR or NEUROSWEEP_HOME"
    yield _finding("local", "home", writable, detail, fix)
    free_gb = shutil.disk_usage(place).free / 1e9
    fix = f"make room: at least {_MIN_DISK_GB:g} GB; or choose another disk with --home DIR"
    yield _finding("local", "disk", free_gb >= _MIN_DISK_GB, f"{free_gb:.1f} GB free", fix)


def _run(words: list[str], timeout_s: float) -> tuple[int, str]:
    """Return exit code and what was printed; 127 and the reason when it could not run."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    output = done.stdout if done.returncode == 0 else done.stderr
    return done.returncode, output.decode("utf-8", "replace").strip()


def _probe_torch() -> dict[str, object] | str:
    """Ask a process of its own, so that this one never imports torch."""
    code, text = _run([sys.executable, "-c", _TORCH_PROBE], _TORCH_TIMEOUT_S)
    if code:
        return text.splitlines()[-1] if text else f"ended with exit code {code}"
    answer: dict[str, object] = json.loads(text.splitlines()[-1])
    return answer


def _torch_check(torch: dict[str, object] | str) -> Finding:
    if isinstance(torch, str):
        fix = "pip install -c constraints.txt torch (--extra-index-url URL for a CPU or CUDA build)"
        return Finding("local", "torch", "missing", f"cannot be imported: {torch}", fix)
    return Finding("local", "torch", "ok", str(torch["version"]))


def slurm_checks() -> Iterator[Finding]:
    """Check SLURM's commands, its controller, and profiles."""
    for name in ("sbatch", "squeue", "sacct", "scancel"):
        found = shutil.which(name)
        fix = "log in to your cluster's login node, or see slurm/README.md for one on this machine"
        yield _finding("slurm", name, found is not None, found or "not found", fix)
    if shutil.which("sinfo") is not None:
        code, text = _run(["sinfo", "--noheader", "--format=%P %a %D"], _COMMAND_TIMEOUT_S)
        detail = ", ".join(text.splitlines()[:5]) if code == 0 else text.splitlines()[0][:200]
        fix = "the controller does not answer: check SLURM_CONF, or ask your administrator"
        yield _finding("slurm", "controller", code == 0, detail, fix)
    else:
        yield Finding("slurm", "controller", "missing", "sinfo is not installed", "see above")
    profiles = sorted(path.stem for folder in _profile_folders() for path in folder.glob("*.toml"))
    fix = "copy slurm/profiles/example-gpu.toml to ~/.config/neurosweep/profiles/NAME.toml"
    yield _finding("slurm", "profiles", bool(profiles), ", ".join(profiles) or "none found", fix)


def _profile_folders() -> list[Path]:
    from neurosweep.exec.profiles import profile_folders

    return profile_folders()


def gpu_checks(torch: dict[str, object] | str) -> Iterator[Finding]:
    """Check the driver and whether torch sees a GPU."""
    code, text = _run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"], _COMMAND_TIMEOUT_S
    )
    fix = "install NVIDIA's driver, or use a node with a GPU (--on slurm:PROFILE with gpus = 1)"
    lines = ", ".join(text.splitlines())
    yield _finding("gpu", "driver", code == 0, lines if code == 0 else "no nvidia-smi", fix)
    if isinstance(torch, str):
        yield Finding("gpu", "torch", "missing", "torch cannot be imported", "see local")
        return
    names = torch["names"]
    assert isinstance(names, list)
    build = f"built for CUDA {torch['cuda']}" if torch["cuda"] else "built for CPU only"
    detail = f"{torch['version']}, {build}; sees " + (", ".join(map(str, names)) or "no GPU")
    fix = "install a CUDA build: pip install torch --extra-index-url URL, the index for your CUDA"
    yield _finding("gpu", "torch", bool(names), detail, fix)


def mlflow_checks(home: Home) -> Iterator[Finding]:
    """Check MLflow and where it writes."""
    yield _package("mlflow", "mlflow", "pip install mlflow")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        from neurosweep.records.mlflow_client import MirrorError, probe, redact

        try:
            probe(uri)
        except MirrorError as error:
            fix = "start the server, or unset MLFLOW_TRACKING_URI to use a file in the home"
            yield Finding("mlflow", "server", "missing", redact(str(error)), fix)
        else:
            yield Finding("mlflow", "server", "ok", f"{redact(uri)} answers")
        return
    database = home.mlflow_dir / "mlflow.db"
    detail = str(database) if database.exists() else f"{database} (made by the first study)"
    yield Finding("mlflow", "database", "ok", detail)


def _optional_checks() -> Iterator[Finding]:
    for name, use in _OPTIONAL.items():
        fix = "pip install -e .[test]" if use.endswith("this project") else f"pip install {name}"
        yield _package("optional", name, fix, use)
