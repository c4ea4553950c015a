"""Make a pipeline, or find it again: the same file, data and code give the same one."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosweep.core.child import Say
from neurosweep.core.clock import Clock
from neurosweep.core.config import flatten
from neurosweep.core.entry import call_entry
from neurosweep.core.errors import ConfigError
from neurosweep.core.files import atomic_write_text
from neurosweep.core.fingerprint import fingerprint
from neurosweep.core.layout import Home, PipelineDir
from neurosweep.core.provenance import environment_info, package_root
from neurosweep.pipeline.graph import expand
from neurosweep.pipeline.places import check_places
from neurosweep.pipeline.plan import used
from neurosweep.pipeline.spec import EVALUATE, PipelineSpec, load_pipeline
from neurosweep.pipeline.state import EVENTS
from neurosweep.records.ledger import Ledger
from neurosweep.research.create import prepare_threads
from neurosweep.research.toml_text import to_toml
from neurosweep.workspace.gitstate import GitState, read_git_state
from neurosweep.workspace.snapshot import Snapshot, take_snapshot

_HARNESS = "neurosweep"
_ASK_TIMEOUT_S = 300.0
_PREPARE_TIMEOUT_S = 6 * 3600.0
# Where and how tasks run decides nothing of what they make.
_NOT_IDENTITY = frozenset({"on", "workers", "about", "notify"})


def create_pipeline(
    path: Path,
    home: Home,
    *,
    on: str | None = None,
    say: Say | None = None,
    clock: Clock | None = None,
) -> PipelineDir:
    """Return the pipeline of a file, after making it when it is new.

    Its folder appears complete or not at all.

    Parameters
    ----------
    path
        The pipeline file.
    home
        Where pipelines, artifacts, stores and references lie.
    on
        Where it is to run instead of where the file says; looked at before data are prepared.
    say
        Told, in words, what is being done.
    clock
        Source of time.

    Raises
    ------
    ConfigError
        When the file, the recipe or a stage is wrong, or a place does not exist.
    DataError
        When a recording is missing or cannot be used.
    """
    say = say or (lambda _text: None)
    spec = load_pipeline(path)
    check_places(spec, on)
    package = spec.entry.split(".")[0]
    package_dir = package_root(package) / package
    state = read_git_state(package_dir)
    home.pipelines_dir.mkdir(parents=True, exist_ok=True)
    temporary = PipelineDir(home.pipelines_dir / f".new-{secrets.token_hex(6)}")
    try:
        temporary.root.mkdir()
        snapshot = None
        if package != _HARNESS:
            snapshot = take_snapshot(package_dir, temporary.code_dir, state)
        code_root = snapshot.code_root if snapshot else None
        say(f"reading recipe {spec.recipe} and {len(spec.stages)} stages")
        stages = _ask_stages(spec, code_root)
        say("preparing the data")
        info = _prepare(spec, stages, home, say)
        for warning in info.get("warnings", []):
            say(f"warning: {warning}")
        created = _created(spec, stages, info, state, snapshot, temporary)
        pipeline = home.pipeline(created["pipeline"])
        if pipeline.ledger.exists():
            return pipeline
        atomic_write_text(temporary.pipeline_toml, to_toml(spec.model_dump(mode="json")))
        Ledger(temporary.ledger, clock, EVENTS).append("pipeline_created", created)
        temporary.root.rename(pipeline.root)
    finally:
        shutil.rmtree(temporary.root, ignore_errors=True)
    return pipeline


def _ask_stages(spec: PipelineSpec, code_root: Path | None) -> dict[str, Any]:
    """Return what the package says of every stage, each with the configuration it is given."""
    common = flatten(spec.set)
    jobs = {name: stage for name, stage in spec.stages.items() if stage.job != EVALUATE}
    payload = {
        "recipe": spec.recipe,
        "stages": {
            name: {"job": stage.job, "set": common | flatten(stage.set)}
            for name, stage in jobs.items()
        },
        "set": common,
    }
    answer = call_entry(
        f"{spec.entry}.entry:stages", payload, code_root=code_root, timeout_s=_ASK_TIMEOUT_S
    )
    found: dict[str, Any] = {}
    for name, facts in answer["stages"].items():
        uses = jobs[name].uses or facts.get("uses")
        config = facts["config"]
        if uses is not None:
            config = used(config, list(uses), f"stages.{name}")
        found[name] = {**facts, "config": config}
    return {"config": answer["config"], "stages": found}


def _prepare(spec: PipelineSpec, stages: Mapping[str, Any], home: Home, say: Say) -> dict[str, Any]:
    for name, stage in spec.stages.items():
        fixed = [path for path in flatten(stage.set) if path.split(".")[0] in _DATA]
        if fixed:
            msg = f"stages.{name}.set: {fixed[0]} decides the data, which are prepared once for"
            raise ConfigError(f"{msg} all stages; set it under [set]")
    payload = {
        "recipe": spec.recipe,
        "config": stages["config"],
        "home": str(home.root),
        "features": False,
    }
    return call_entry(
        f"{spec.entry}.entry:prepare",
        payload,
        timeout_s=_PREPARE_TIMEOUT_S,
        threads=prepare_threads(spec.workers),
        say=lambda text: say(f"  {text}"),
    )


_DATA = ("data", "preprocessing")


def _created(
    spec: PipelineSpec,
    stages: Mapping[str, Any],
    info: Mapping[str, Any],
    state: GitState,
    snapshot: Snapshot | None,
    folder: PipelineDir,
) -> dict[str, Any]:
    code = {"package": spec.entry.split(".")[0], "root": "", "sha": "", "how": "installed"}
    if snapshot is not None:
        root = str(snapshot.code_root.relative_to(folder.root))
        code |= {"root": root, "sha": snapshot.code_sha, "how": snapshot.how}
    whole = spec.model_dump(mode="json")
    identity = {key: value for key, value in whole.items() if key not in _NOT_IDENTITY}
    # Of installed code the stages' own fingerprints tell.
    identity |= {"facts": stages["stages"], "code": code["sha"], "data_fp": info["data_fp"]}
    return {
        "pipeline": f"{_slug(spec.name)}-{fingerprint(identity, 8)}",
        "spec": whole,
        "config": stages["config"],
        "stages": stages["stages"],
        "tasks": list(expand(spec, info.get("subjects", []))),
        "commit": state.commit,
        "dirty": state.dirty,
        "diff_sha": state.diff_sha,
        "code": code,
        "data_fp": info["data_fp"],
        "data_info": dict(info),
        "env": environment_info(),
    }


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        msg = f"name: {name!r} needs at least one letter or digit of a-z, 0-9"
        raise ConfigError(msg)
    return slug[:48]
