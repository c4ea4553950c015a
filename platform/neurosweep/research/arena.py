"""An arena: one recipe, one budget, one seed, and several agents to be compared."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from neurosweep.core.child import Say
from neurosweep.core.clock import Clock, SystemClock
from neurosweep.core.config import StrictModel, load_toml, validate
from neurosweep.core.errors import ConfigError, StudyError
from neurosweep.core.files import atomic_write_json, read_json
from neurosweep.core.layout import Home, StudyDir
from neurosweep.records.ids import new_study_id
from neurosweep.records.spec import AgentSpec, StudySpec
from neurosweep.research.agents import load_agent
from neurosweep.research.create import create_study

_MAX_BYTES = 1024 * 1024


class ArmSpec(StrictModel):
    """One of the compared agents."""

    label: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="short name in tables")
    agent: AgentSpec = Field(description="who proposes")


class ArenaSpec(StrictModel):
    """What arena.toml says beside the keys of a study.toml, which hold for every arm."""

    name: str = Field(min_length=1, description="short name, part of the id")
    arms: list[ArmSpec] = Field(min_length=2, description="the agents to compare")


@dataclass(frozen=True)
class Arena:
    """Several studies that differ in their agent alone.

    Attributes
    ----------
    id
        Name of its folder.
    root
        Its folder.
    studies
        Label of an arm to its study.
    """

    id: str
    root: Path
    studies: Mapping[str, StudyDir]


def read_arena_toml(path: Path) -> tuple[ArenaSpec, dict[str, StudySpec]]:
    """Read arena.toml: what is compared, and the specification of every arm.

    Raises
    ------
    ConfigError
        When the file holds problems; all of the arena's or of the studies' are listed.
    """
    data = load_toml(path)
    own = {key: data.pop(key) for key in ("arms",) if key in data}
    arena = validate(ArenaSpec, own | {"name": data.get("name", "")}, str(path))
    labels = [arm.label for arm in arena.arms]
    double = sorted({label for label in labels if labels.count(label) > 1})
    if double or "agent" in data:
        what = f"the label {double[0]!r} is used twice" if double else "[agent] is given"
        msg = f"{path}: {what}; every arm has a label and an agent of its own, in [[arms]]"
        raise ConfigError(msg)
    beside = path.parent / str(data.get("recipe", ""))
    if beside.suffix == ".toml" and beside.is_file():
        data["recipe"] = str(beside.resolve())
    specs = {
        arm.label: validate(
            StudySpec,
            data | {"name": f"{arena.name}-{arm.label}", "agent": arm.agent.model_dump()},
            str(path),
        )
        for arm in arena.arms
    }
    return arena, specs


def create_arena(
    arena: ArenaSpec,
    specs: Mapping[str, StudySpec],
    home: Home,
    *,
    say: Say | None = None,
    clock: Clock | None = None,
) -> Arena:
    """Create the studies of an arena, all or none; they share data, budget and training seeds.

    Raises
    ------
    ConfigError, DataError, PluginError
        As `create_study`.
    """
    clock = clock or SystemClock()
    name = new_study_id(arena.name, clock)
    for spec in specs.values():
        load_agent(spec)
    studies: dict[str, StudyDir] = {}
    try:
        for label, spec in specs.items():
            if say is not None:
                say(f"arm {label}")
            studies[label] = create_study(spec, home, say=say, clock=clock)
        root = _write(home, name, studies)
    except BaseException:
        for study in studies.values():
            shutil.rmtree(study.root, ignore_errors=True)
        raise
    return Arena(name, root, studies)


def _write(home: Home, name: str, studies: Mapping[str, StudyDir]) -> Path:
    for label, study in studies.items():
        atomic_write_json(study.root / "arena.json", {"v": 1, "arena": name, "label": label})
    root = home.arena(name)
    root.mkdir(parents=True)
    arms = [{"label": label, "study": study.study_id} for label, study in studies.items()]
    atomic_write_json(root / "arena.json", {"v": 1, "arena": name, "arms": arms})
    return root


def list_arenas(home: Home) -> list[str]:
    """Return the ids of all arenas, the oldest first."""
    files = home.arenas_dir.glob("*/arena.json")
    return [path.parent.name for path in sorted(files, key=lambda path: path.stat().st_mtime)]


def open_arena(home: Home, name: str) -> Arena:
    """Find an arena by its id, or by its name: then the newest of that name.

    Raises
    ------
    StudyError
        When there is no such arena; lists those there are.
    """
    known = list_arenas(home)
    found = [arena for arena in known if arena == name or arena.rsplit("-", 2)[0] == name]
    if not found:
        shown = ", ".join(known) or "none"
        raise StudyError(f"no arena '{name}' in {home.arenas_dir}; there are: {shown}")
    root = home.arena(found[-1])
    data: dict[str, Any] = read_json(root / "arena.json", _MAX_BYTES)
    studies = {str(arm["label"]): home.study(str(arm["study"])) for arm in data["arms"]}
    return Arena(found[-1], root, studies)
