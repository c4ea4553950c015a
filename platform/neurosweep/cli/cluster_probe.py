"""One small real job on a cluster, and what it tells about the nodes."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.cli.checks import Finding
from neurosweep.cli.cluster_rights import AREA
from neurosweep.core.clock import utc_iso
from neurosweep.core.errors import DataError, ExecutorError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env, package_root
from neurosweep.exec import slurm_probe
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, Executor, TaskPhase, TaskSpec, TaskView
from neurosweep.records.log_tail import failed_setup
from neurosweep.records.trial import Kind

_MINUTES = 5
_POLL_S = 1.0
# Files of an ended job may come late from another machine; once its log is there, the rest is near.
_SETTLE_S, _SETTLE_NEAR_S = 20.0, 3.0
_LATE_S = 5.0
# Heartbeats and claims of other machines are believed for minutes: more skew than this breaks it.
_SKEW_WARN_S, _SKEW_BAD_S = 5.0, 60.0
_SLOW_IMPORT_S = 30.0
_MIN_SCRATCH_GB = 1.0
_NEEDED = ("neurosweep", "numpy", "scipy")
_TAIL = 800


@dataclass(frozen=True)
class Probe:
    """Hold what came of the job.

    Attributes
    ----------
    view
        What SLURM said last.
    waited_s
        From submission to the sight of its end, seconds.
    submitted_t, seen_t
        When it was submitted and its answer seen, seconds since 1970.
    answer
        What it wrote; None when nothing came.
    log
        End of what it printed; None when not even its log file has come.
    failed_setup
        Lines of setup that failed, with their exit codes.
    """

    view: TaskView
    waited_s: float
    submitted_t: float
    seen_t: float
    answer: Mapping[str, Any] | None
    log: str | None = None
    failed_setup: tuple[str, ...] = ()


def node_checks(profile: Profile, home: Home, *, wait_s: float) -> Iterator[Finding]:
    """Submit one task as the executor does, and compare what it finds with what is here.

    Parameters
    ----------
    profile
        What the user wrote down.
    home
        A folder of its own is made in it, and removed after the job.
    wait_s
        How long to wait for the job, seconds.
    """
    from neurosweep.exec.executors.slurm import SlurmExecutor

    minutes = min(profile.minutes or _MINUTES, _MINUTES)
    changes = {"minutes": minutes, "poll_s": min(profile.poll_s, _POLL_S)}
    inner = Home(home.root / "doctor" / f"{utc_iso(time.time())[:10]}-{secrets.token_hex(4)}")
    nonce = secrets.token_hex(16)
    try:
        task, offset_s = _prepare(inner, profile, nonce)
        settings = ExecSettings(_study(inner).root, workers=1)
        executor = SlurmExecutor(profile.model_copy(update=changes), settings)
        probe = _run(executor, task, wait_s)
    except OSError as error:
        detail = f"{home.root} cannot be written: {error.strerror or error}"
        yield _finding("home", "missing", detail, "choose another place with --home DIR")
        return
    except ExecutorError as error:
        yield _finding("job", "missing", str(error)[-_TAIL:], "see the findings above")
        return
    if probe.answer is None:
        yield _silence(probe, wait_s, task)
    else:
        yield from _compare(profile, probe, nonce, offset_s)
    shutil.rmtree(inner.root, ignore_errors=True)
    with contextlib.suppress(OSError):
        inner.root.parent.rmdir()  # unless another doctor is at work there


def _study(home: Home) -> Any:
    return home.study("doctor-20260101-0000")


def _finding(name: str, state: str, detail: str, fix: str = "") -> Finding:
    return Finding(AREA, name, state, detail, "" if state == "ok" else fix)


def _prepare(home: Home, profile: Profile, nonce: str) -> tuple[TaskSpec, float]:
    trial = _study(home).trial("r01t000")
    files = trial.attempt(1)
    files.root.mkdir(parents=True)
    atomic_write_json(files.root / slurm_probe.QUESTION, {"v": 1, "nonce": nonce})
    imports = ["neurosweep", "neurodecode"]
    if "torch" in slurm_probe.versions():
        imports.append("torch")
    run = {
        "v": 1,
        "trial": "r01t000",
        "entry": slurm_probe.ENTRY,
        "config": {"probe": {"imports": imports}},
        "seed": 0,
        "stores": [],
        "code_roots": {"neurosweep": str(package_root("neurosweep"))},
        "limits": {"timeout_s": _MINUTES * 60.0, "threads": profile.cores},
    }
    atomic_write_json(trial.run_json, run)
    offset_s = slurm_probe.clock_offset_s(files.root / "clock.driver")
    task = TaskSpec(
        "r01t000",
        1,
        files.root,
        profile.cores,
        None,
        _MINUTES * 60.0 - 30.0,
        code_env(None, profile.cores),
    )
    return task, offset_s


def _run(executor: Executor, task: TaskSpec, wait_s: float) -> Probe:
    submitted, began = time.time(), time.monotonic()
    executor.submit(f"doctor-{secrets.token_hex(4)}", [task])
    view, over_since = TaskView(TaskPhase.QUEUED), math.inf
    while True:
        view = executor.poll().get(task.key, view)
        now = time.monotonic()
        if view.phase in (TaskPhase.ENDED, TaskPhase.GONE):
            over_since = min(over_since, now)
        answer = _read(task.attempt_dir / slurm_probe.ANSWER)
        settle_s = _SETTLE_S if _last_words(task.attempt_dir) is None else _SETTLE_NEAR_S
        if answer is not None or now - over_since > settle_s:
            break
        if now - began > wait_s and over_since == math.inf:
            executor.cancel(*task.key, Kind.STOPPED)
            executor.poll()
            break
        time.sleep(0.2)
    log = _last_words(task.attempt_dir)
    failed = [line for path in _job_logs(task.attempt_dir) for line in failed_setup(path)]
    executor.close()
    waited_s = time.monotonic() - began
    return Probe(view, waited_s, submitted, time.time(), answer, log, tuple(failed))


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        data: Mapping[str, Any] = read_json(path, slurm_probe.MAX_BYTES)
    except (DataError, OSError):
        return None
    return data


def _job_logs(attempt: Path) -> list[Path]:
    return sorted(attempt.parents[3].glob("slurm/**/*.out"))


def _last_words(attempt: Path) -> str | None:
    """Return the end of what SLURM or the runner wrote down of the job, None without a file."""
    paths = [*_job_logs(attempt), attempt / "log.txt"]
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in paths if p.is_file()]
    if not texts:
        return None
    return "\n".join(text.strip()[-_TAIL:] for text in texts if text.strip())[-_TAIL:]


def _silence(probe: Probe, wait_s: float, task: TaskSpec) -> Finding:
    reason = probe.view.reason or probe.view.phase.value
    if probe.view.phase in (TaskPhase.QUEUED, TaskPhase.RUNNING):
        detail = f"no answer within {wait_s:g} s and cancelled; SLURM says: {reason}"
        fix = "wait longer with --wait SECONDS, or skip the job with --no-job"
        waits = probe.view.phase is TaskPhase.QUEUED
        return _finding("job", "warning" if waits else "missing", detail, fix)
    if probe.log is None:
        fix = (
            f"nothing came to {task.attempt_dir}: put the home on a file system that the nodes "
            "share, with --home DIR"
        )
        return _finding("shared folder", "missing", f"the job ended ({reason}) unseen", fix)
    detail = f"ended without an answer ({reason}): {probe.log or 'it printed nothing'}"
    fix = (
        f"make setup and `{sys.executable}` with its packages work on the nodes: setup = "
        '["module load ..."], or an environment on a file system that they share'
    )
    return _finding("job", "missing", detail, fix)


def _compare(profile: Profile, probe: Probe, nonce: str, offset_s: float) -> Iterator[Finding]:
    answer = probe.answer
    assert answer is not None
    where = f"{answer['host']}, answered after {probe.waited_s:.1f} s"
    yield _finding("job", "ok", f"ran on {where}")
    same = answer.get("nonce") == nonce
    fix = "put the home on a file system that the nodes share, with --home DIR"
    detail = "written here and read there, and back" if same else "the node read an old file"
    yield _finding("shared folder", "ok" if same else "missing", detail, fix)
    yield from _setup_checks(probe)
    yield from _user_checks(answer)
    yield from _python_checks(answer)
    yield _clock_check(probe, answer, offset_s)
    yield _cores_check(profile, answer)
    if answer.get("commands"):
        yield _requeue_check(profile, answer["commands"])
    if profile.gpus:
        yield _gpu_check(profile, answer)
    room = answer["scratch_gb"]
    state = "ok" if room >= _MIN_SCRATCH_GB else "warning"
    detail = f"{answer['scratch']} has {room:g} GB free"
    fix = 'choose a larger one: setup = ["export TMPDIR=/somewhere"]'
    yield _finding("scratch", state, detail, fix)


def _setup_checks(probe: Probe) -> Iterator[Finding]:
    fix = "correct that line of setup for these nodes, or end it with `|| true` if it may fail"
    for line in probe.failed_setup:
        yield _finding("setup", "missing", line, fix)


def _user_checks(answer: Mapping[str, Any]) -> Iterator[Finding]:
    own, there = os.getuid(), answer["uid"]
    name = answer["user"] or "without a name there"
    fix = "ask your administrator: files written there will not be yours"
    state = "ok" if own == there and answer["user"] else "missing" if own != there else "warning"
    yield _finding("user", state, f"uid {there} ({name}), here {own}", fix)


def _python_checks(answer: Mapping[str, Any]) -> Iterator[Finding]:
    own = ".".join(str(part) for part in sys.version_info[:3])
    state = "ok" if answer["python"] == own else "missing"
    fix = "use one environment here and there, on a shared file system; see setup"
    yield _finding("python there", state, f"{answer['python']} ({answer['executable']})", fix)
    here, there = slurm_probe.versions(), dict(answer["packages"])
    absent = [name for name in _NEEDED if name in here and name not in there]
    other = [f"{n} {v} there, {here[n]} here" for n, v in there.items() if here.get(n, v) != v]
    other += [f"{n} absent there" for n in here if n not in there]
    if other or absent:
        shown = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")
        state = "missing" if absent else "warning"
        yield _finding("packages there", state, shown, fix)
    else:
        yield _finding("packages there", "ok", f"{len(there)}, the same versions as here")
    for name, found in answer["imports"].items():
        if "error" in found:
            fix = "install it in the environment of the nodes, or load its module in setup"
            yield _finding(f"import {name}", "missing", str(found["error"]), fix)
        else:
            seconds = float(found["seconds"])
            state = "ok" if seconds < _SLOW_IMPORT_S else "warning"
            fix = "every task waits for it: put the environment on a faster file system"
            yield _finding(f"import {name}", state, f"takes {seconds:.1f} s there", fix)


def _clock_check(probe: Probe, answer: Mapping[str, Any], offset_s: float) -> Finding:
    # Twice measured: against the clock of the file system, and against when it can have run.
    t = float(answer["t"])
    outside = min(0.0, t - probe.submitted_t) + max(0.0, t - probe.seen_t)
    skew = max(float(answer["offset_s"]) - offset_s, outside, key=abs)
    state = "ok"
    if abs(skew) > _SKEW_WARN_S:
        state = "warning" if abs(skew) <= _SKEW_BAD_S else "missing"
    word = "ahead of" if skew >= 0 else "behind"
    detail = f"{abs(skew):.1f} s {word} this machine's, {_SKEW_WARN_S:g} s are allowed"
    return _finding("clock", state, detail, "ask your administrator to run NTP on the nodes")


def _cores_check(profile: Profile, answer: Mapping[str, Any]) -> Finding:
    num = int(answer["cores"])
    if num < profile.cores:
        fix = f"set cores = {num}, or ask why SLURM gives fewer than it counts"
        return _finding("cores there", "missing", f"{num} usable, cores = {profile.cores}", fix)
    bound = "bound to them" if num == profile.cores else f"not bound: {num} are visible"
    return _finding("cores there", "ok", f"{profile.cores} for a task, {bound}")


def _requeue_check(profile: Profile, commands: Mapping[str, str]) -> Finding:
    broken = {name: why for name, why in commands.items() if why}
    if not broken:
        return _finding("requeue there", "ok", f"{' and '.join(commands)} answer on the node")
    detail = "; ".join(f"{name}: {why}" for name, why in broken.items())
    if not profile.requeue:
        return _finding("requeue there", "ok", f"{detail}; not needed with requeue = false")
    fix = (
        "make them work in a job, for example with PATH or SLURM_CONF in setup: without them a "
        "task that is preempted, or longer than minutes, cannot queue itself again, and each time "
        "takes a new attempt instead; minutes above trial_minutes needs that less often"
    )
    return _finding("requeue there", "warning", detail, fix)


def _gpu_check(profile: Profile, answer: Mapping[str, Any]) -> Finding:
    visible = [part for part in str(answer["visible_gpus"]).split(",") if part]
    torch = answer["imports"].get("torch", {})
    names = torch.get("gpus", []) if isinstance(torch, Mapping) else []
    detail = f"{len(visible)} given (CUDA_VISIBLE_DEVICES={','.join(visible)}), "
    detail += "torch sees " + (", ".join(map(str, names)) or "none")
    if len(visible) == profile.gpus == len(names):
        return _finding("gpus there", "ok", detail)
    fix = "check gpus and gpu_type, and that torch there is a CUDA build that fits the driver"
    return _finding("gpus there", "missing" if visible else "warning", detail, fix)
