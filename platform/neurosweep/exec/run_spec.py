"""What ``run.json`` says: everything that decides the result of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosweep.core.errors import DataError
from neurosweep.core.files import read_json
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.limits import Limits


@dataclass(frozen=True)
class RunSpec:
    """Hold what ``run.json`` says.

    Attributes
    ----------
    trial
        Id of the trial.
    entry
        ``package.module:function`` of the job.
    config
        Full nested configuration.
    seed
        Training seed.
    stores
        Store folders, absolute.
    code_roots
        Package to the source root that it must come from.
    limits
        What the attempt may use.
    part
        Part to predict.
    commit, diff_sha
        Which code that is.
    inputs
        Name to folder of what earlier stages made, absolute; empty outside a pipeline.
    """

    trial: str
    entry: str
    config: Mapping[str, Any]
    seed: int
    stores: tuple[Path, ...]
    code_roots: Mapping[str, str]
    limits: Limits
    part: str = "val"
    commit: str | None = None
    diff_sha: str | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)


def run_json(files: AttemptDir) -> Path:
    """Return the file that says what an attempt is to run."""
    return files.root.parents[1] / "run.json"


def read_run(files: AttemptDir) -> RunSpec:
    """Read the ``run.json`` of an attempt's trial.

    Stores are absolute, or relative to the home that holds the study.

    Raises
    ------
    DataError
        When the file is absent, damaged, or lacks a field; the field is named.
    """
    path = run_json(files)
    data = read_json(path)
    try:
        home = files.root.parents[5] if len(files.root.parents) > 5 else files.root
        return RunSpec(
            trial=str(data["trial"]),
            entry=str(data["entry"]),
            config=dict(data["config"]),
            seed=int(data["seed"]),
            stores=tuple(home / store for store in data["stores"]),
            code_roots=dict(data.get("code_roots") or {}),
            limits=Limits.from_dict(data.get("limits") or {}),
            part=str(data.get("part") or "val"),
            commit=data.get("commit"),
            diff_sha=data.get("diff_sha"),
            inputs={name: home / place for name, place in (data.get("inputs") or {}).items()},
        )
    except KeyError as error:
        msg = f"{path}: has no field {error}; it was not written by a driver of this version"
        raise DataError(msg) from error
    except (TypeError, ValueError) as error:
        msg = f"{path}: has a field that cannot be used ({error})"
        raise DataError(msg) from error
