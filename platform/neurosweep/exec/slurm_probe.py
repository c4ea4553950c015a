"""A job that looks at the node it runs on, for ``neurosweep doctor --on slurm:PROFILE``."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.exec.job_api import JobContext

ENTRY = "neurosweep.exec.slurm_probe:answer"
QUESTION, ANSWER = "question.json", "answer.json"
MAX_BYTES = 1024 * 1024
_IMPORT_TIMEOUT_S = 150.0
# As long as a task that is told to leave waits for them.
_COMMAND_TIMEOUT_S = 20.0
_IMPORTS = """
import importlib, json, sys, time
found = {}
for name in sys.argv[1:]:
    began = time.perf_counter()
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        continue
    found[name] = {"seconds": round(time.perf_counter() - began, 2)}
    if name == "torch":
        cuda = module.cuda.is_available()
        found[name]["gpus"] = (
            [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())]
            if cuda else []
        )
print(json.dumps(found))
"""


def answer(ctx: JobContext) -> Iterator[dict[str, Any]]:
    """Write what this node is like into the attempt's folder; predict nothing.

    ``probe.imports`` of the configuration names the modules whose import is tried.
    """
    folder = Path(ctx.attempt_dir)
    ctx.beat("probe", step=1)
    question = read_json(folder / QUESTION, MAX_BYTES)
    facts = look(ctx.config["probe"]["imports"])
    facts |= {"nonce": question["nonce"], "offset_s": clock_offset_s(folder / "clock.node")}
    ctx.beat("probe", step=2)
    atomic_write_json(folder / ANSWER, facts)
    yield from ()


def look(imports: list[str]) -> dict[str, Any]:
    """Return what this process sees: machine, user, interpreter, packages, space, GPUs.

    Parameters
    ----------
    imports
        Modules whose import is tried in a process of its own.
    """
    return {
        "v": 1,
        "t": time.time(),
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "uid": os.getuid(),
        "user": _user_name(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "executable": sys.executable,
        "packages": versions(),
        "imports": try_imports(imports),
        "cores": len(os.sched_getaffinity(0)),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "commands": try_commands(os.environ.get("SLURM_JOB_ID", "")),
        "scratch": tempfile.gettempdir(),
        "scratch_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / 1e9, 1),
    }


def versions() -> dict[str, str]:
    """Return every installed distribution and its version."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.name
        if name:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return dict(sorted(found.items()))


def try_imports(names: list[str]) -> Mapping[str, Any]:
    """Import modules in a process of its own; return seconds, or the error, of each."""
    words = [sys.executable, "-c", _IMPORTS, *names]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_IMPORT_TIMEOUT_S, check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {name: {"error": str(error)[:300]} for name in names}
    return found


def try_commands(job: str) -> dict[str, str]:
    """Try the commands by which a task has itself queued again; nothing is changed.

    Parameters
    ----------
    job
        The task; without one nothing is tried.

    Returns
    -------
    dict
        Command to why it does not work here, empty where it does.
    """
    if not job:
        return {}
    questions = (["squeue", "-h", "-j", job, "-o", "%T"], ["scontrol", "show", "job", job])
    return {words[0]: _failure_of(words) for words in questions}


def _failure_of(words: list[str]) -> str:
    """Return why a command does not work, in one line; empty when it does."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {_COMMAND_TIMEOUT_S:g} s"
    except OSError as error:
        return str(error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (said or ["failed"])[0][:300] if done.returncode else ""


def clock_offset_s(path: Path) -> float:
    """Return by how much this machine's clock is ahead of the file system's, in seconds.

    Parameters
    ----------
    path
        A file that is written for it.
    """
    path.write_text("", encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        file.write("now")
        file.flush()
        os.fsync(file.fileno())
        now = time.time()
    return now - path.stat().st_mtime


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""
