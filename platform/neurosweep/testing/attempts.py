"""Make trials of the miniature package by hand, for tests of runner and executors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosweep.core.files import atomic_write_json
from neurosweep.core.layout import Home
from neurosweep.core.provenance import package_root
from neurosweep.exec.protocol import TaskSpec
from neurosweep.testing.entry import describe, prepare


def make_task(
    home: Home,
    job: str = "instant",
    *,
    trial: str = "r01t000",
    attempt: int = 1,
    settings: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> TaskSpec:
    """Write the folders of one attempt as a driver does, and return its task.

    Parameters
    ----------
    home
        Folder of everything; the study is called ``tests-20260101-0000``.
    job
        Name of a job of `neurosweep.testing.jobs.JOBS`.
    trial, attempt
        Which attempt.
    settings
        Dotted path to value, on top of the default configuration.
    limits
        Limits of ``run.json``; ``timeout_s`` and ``memory_mb`` also go to the task.
    """
    described = describe({"recipe": job, "set": dict(settings or {})})
    prepared = prepare({"config": described["config"], "home": str(home.root)})
    folder = home.study("tests-20260101-0000").trial(trial)
    files = folder.attempt(attempt)
    files.root.mkdir(parents=True, exist_ok=True)
    allowed = {"timeout_s": 60.0, "threads": 1, **(limits or {})}
    run = {
        "v": 1,
        "trial": trial,
        "purpose": "search",
        "entry": described["entry"],
        "config": described["config"],
        "seed": 7,
        "commit": "0" * 40,
        "diff_sha": None,
        "data_fp": prepared["data_fp"],
        "stores": prepared["stores"],
        "code_roots": {"neurosweep": str(package_root("neurosweep"))},
        "items_sha": prepared["items_sha"],
        "limits": allowed,
    }
    atomic_write_json(folder.run_json, run)
    return TaskSpec(
        trial=trial,
        attempt=attempt,
        attempt_dir=files.root,
        cores=1,
        memory_mb=allowed.get("memory_mb"),
        timeout_s=float(allowed["timeout_s"]),
    )
