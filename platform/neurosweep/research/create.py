"""Make a study: resolve its recipe, prepare its data, freeze its code; whole or not at all."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.child import Say
from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import DataError, StudyError
from neurosweep.core.files import (
    atomic_write_json,
    atomic_write_text,
    canonical_json,
    read_json,
    sha256_bytes,
)
from neurosweep.core.layout import Home, StudyDir
from neurosweep.core.provenance import environment_info, package_root
from neurosweep.exec.resources import allocated_cores
from neurosweep.records.ids import new_study_id
from neurosweep.records.ledger import Ledger
from neurosweep.records.spec import StudySpec, load_spec
from neurosweep.research.agents import load_agent
from neurosweep.research.describe import Described, describe_recipe
from neurosweep.research.toml_text import to_toml
from neurosweep.workspace.gitstate import GitState, read_git_state
from neurosweep.workspace.snapshot import Snapshot, take_snapshot

_HARNESS = "neurosweep"
_PREPARE_TIMEOUT_S = 6 * 3600.0


def create_study_from_file(
    path: Path, home: Home, *, say: Say | None = None, clock: Clock | None = None
) -> StudyDir:
    """Create a study from a study.toml, as `create_study` does.

    A recipe that is a path is looked up beside the file.

    Raises
    ------
    ConfigError
        When the file holds problems; all are listed.
    """
    spec = load_spec(path)
    beside = path.parent / spec.recipe
    if beside.suffix == ".toml" and beside.is_file():
        spec = spec.model_copy(update={"recipe": str(beside.resolve())})
    text = path.read_text(encoding="utf-8")
    return create_study(spec, home, study_toml=text, say=say, clock=clock)


def create_study(
    spec: StudySpec,
    home: Home,
    *,
    study_id: str | None = None,
    study_toml: str | None = None,
    say: Say | None = None,
    clock: Clock | None = None,
) -> StudyDir:
    """Create a study; its folder appears complete or not at all.

    Parameters
    ----------
    spec
        What to search.
    home
        Where studies, stores and references lie.
    study_id
        Id to use; by default a new one from the name and the day.
    study_toml
        The specification as its user wrote it; by default it is written from `spec`.
    say
        Told, in words, what is being done.
    clock
        Source of time.

    Raises
    ------
    ConfigError
        When the recipe, a field, a range or the objective is wrong.
    DataError
        When a recording is missing or cannot be used.
    PluginError
        When the agent does not exist.
    """
    say = say or (lambda _text: None)
    clock = clock or SystemClock()
    load_agent(spec)
    package = spec.entry.split(".")[0]
    package_dir = package_root(package) / package
    say(f"reading the state of {package}")
    state = read_git_state(package_dir)
    study = home.study(study_id or new_study_id(spec.name, clock))
    temporary = StudyDir(home.studies_dir / f".new-{study.study_id}-{secrets.token_hex(4)}")
    try:
        temporary.root.mkdir(parents=True)
        snapshot = None
        if package != _HARNESS:
            snapshot = take_snapshot(package_dir, temporary.code_dir, state)
        say(f"reading recipe {spec.recipe}")
        described = describe_recipe(spec, snapshot.code_root if snapshot else None)
        say("preparing the data")
        data_info = prepare_data(described, home, say)
        for warning in data_info.get("warnings", []):
            say(f"warning: {warning}")
        _write(temporary, study.study_id, described, data_info, state, snapshot, study_toml, clock)
        temporary.root.rename(study.root)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = "the disk is full" if full else f"a file cannot be written ({error})"
        msg = f"the study cannot be created: {cause}; make room under {home.root}"
        raise StudyError(msg) from error
    finally:
        shutil.rmtree(temporary.root, ignore_errors=True)
    return study


def prepare_data(described: Described, home: Home, say: Say | None = None) -> dict[str, Any]:
    """Prepare the stores of a recipe with installed code, unless they exist; say where they are.

    Nothing else of the study runs yet, so this takes all cores that the study may use.

    Parameters
    ----------
    described
        The recipe.
    home
        Where the stores lie.
    say
        Told of progress, indented.

    Raises
    ------
    DataError
        When a recording is missing or cannot be used.
    """
    facts, spec = described.facts, described.spec
    payload = {"recipe": facts["recipe"], "config": facts["config"], "home": str(home.root)}
    return _prepare(spec.entry, payload, spec.execution.workers, say)


def ensure_data(created: Mapping[str, Any], home: Home, say: Say | None = None) -> None:
    """Prepare the data of a study again where they are gone.

    Parameters
    ----------
    created
        Data of its ``study_created`` event.
    home
        Where the stores lie.
    say
        Told of progress, indented.

    Raises
    ------
    DataError
        When they cannot be prepared as they were, or an encoder was trained again and became
        another.
    """
    info, spec = created["data_info"], created["spec"]
    if all((home.root / place).exists() for place in [*info["stores"], info["secret"]]):
        _check_encoder(info, home)
        return
    payload = {"recipe": spec["recipe"], "config": created["config"], "home": str(home.root)}
    again = _prepare(spec["entry"], payload, spec["execution"]["workers"], say)
    if again["data_fp"] != created["data_fp"]:
        msg = (
            f"the data of the study ({created['data_fp']}) are gone and preparing them now gives "
            f"others ({again['data_fp']}): recordings or preprocessing have changed"
        )
        raise DataError(msg)
    _check_encoder(info, home)


def _check_encoder(info: Mapping[str, Any], home: Home) -> None:
    """Refuse stores that were read by another encoder than the study's: its weights decide them.

    Trained again, an encoder has the same name and may still differ.
    """
    known = (info.get("encoder") or {}).get("sha")
    for place in info["stores"] if known else ():
        found = read_json(home.root / place / "meta.json").get("encoder_sha")
        if found != known:
            msg = f"{home.root / place}: was read by another encoder ({found}) than when the study"
            msg += f" was created ({known}): it was trained again, on another machine or with"
            msg += f" another number of threads; put back a copy of {place} and of"
            raise DataError(f"{msg} {info['secret']}, or create the study anew")


def _prepare(
    entry: str, payload: Mapping[str, Any], workers: int | None, say: Say | None
) -> dict[str, Any]:
    return call_entry(
        f"{entry}.entry:prepare",
        payload,
        timeout_s=_PREPARE_TIMEOUT_S,
        threads=prepare_threads(workers),
        say=None if say is None else lambda text: say(f"  {text}"),
    )


def prepare_threads(workers: int | None) -> int:
    """Return how many threads preparing may use: all cores, or those of a named number."""
    cores = allocated_cores()
    return cores if workers is None else min(workers, cores)


def _write(
    folder: StudyDir,
    study_id: str,
    described: Described,
    data_info: Mapping[str, Any],
    state: GitState,
    snapshot: Snapshot | None,
    study_toml: str | None,
    clock: Clock,
) -> None:
    spec = described.spec
    atomic_write_text(folder.study_toml, study_toml or to_toml(spec.model_dump(mode="json")))
    atomic_write_json(folder.schema_json, described.schema.to_json())
    if state.diff:
        atomic_write_text(folder.root / "uncommitted.diff", state.diff)
    facts = described.facts
    code = {"package": spec.entry.split(".")[0], "root": "", "sha": "", "how": "installed"}
    if snapshot is not None:
        root = str(snapshot.code_root.relative_to(folder.root))
        code |= {"root": root, "sha": snapshot.code_sha, "how": snapshot.how}
    data = {
        "study": study_id,
        "spec": spec.model_dump(mode="json"),
        "config": facts["config"],
        "schema_sha": sha256_bytes(canonical_json(described.schema.to_json()).encode()),
        "commit": state.commit,
        "dirty": state.dirty,
        "diff_sha": state.diff_sha,
        "git": state.to_dict(),
        "code": code,
        "data_fp": data_info["data_fp"],
        "data_info": dict(data_info),
        "entry": facts["entry"],
        "prepared": list(described.prepared.prefixes),
        "warm": list(facts.get("warm", [])),
        "env": environment_info(),
    }
    Ledger(folder.ledger, clock).append("study_created", data)
