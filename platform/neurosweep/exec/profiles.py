"""Cluster profiles: what a lab writes down once about its SLURM."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from neurosweep.core.config import StrictModel, load_toml, validate
from neurosweep.core.errors import ConfigError


class Profile(StrictModel):
    """Describe how tasks are submitted to one cluster."""

    partition: str | None = Field(None, description="partition; None takes the cluster's default")
    account: str | None = Field(None, description="account that pays")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="node features, for example v100")
    gpus: int = Field(0, ge=0, description="GPUs of a task")
    gpu_type: str | None = Field(None, description="type in --gres, for example a100")
    mem_gb: float | None = Field(None, gt=0, description="memory of a task, GB")
    minutes: int | None = Field(
        None, ge=1, description="time limit of a task; None follows from the study's trial_minutes"
    )
    cores: int = Field(1, ge=1, description="cores of a task, and threads it uses")
    max_array: int = Field(1000, ge=1, description="tasks in one array; more are split")
    throttle: int = Field(256, ge=1, description="tasks of one array that run at a time")
    poll_s: float = Field(15.0, gt=0, description="shortest time between two queries, seconds")
    setup: list[str] = Field(default_factory=list, description="shell lines before a task starts")


def find_profile(option: str | None, folders: list[Path]) -> Path:
    """Return the file of a profile given by path or by name.

    Parameters
    ----------
    option
        What follows ``slurm:``; a path that ends in ``.toml``, or the name of a file in one of
        the folders.
    folders
        Where named profiles lie, first match wins.

    Raises
    ------
    ConfigError
        When there is no such profile; lists the ones that exist.
    """
    if not option:
        msg = "--on slurm: needs a profile, for example --on slurm:devcluster or --on slurm:my.toml"
        raise ConfigError(msg)
    path = Path(option)
    if path.suffix == ".toml":
        return path
    for folder in folders:
        if (folder / f"{option}.toml").is_file():
            return folder / f"{option}.toml"
    known = sorted({p.stem for folder in folders for p in folder.glob("*.toml")})
    searched = ", ".join(str(folder) for folder in folders)
    msg = (
        f"no cluster profile '{option}' in {searched}; known: {', '.join(known) or 'none'}. "
        "A path ending in .toml is taken as it is"
    )
    raise ConfigError(msg)


def profile_folders() -> list[Path]:
    """Return where named profiles are looked up: here, then the user's configuration."""
    return [Path("slurm/profiles").absolute(), Path.home() / ".config/neurosweep/profiles"]


def load_profile(option: str | None) -> Profile:
    """Read and validate a profile.

    Raises
    ------
    ConfigError
        When it cannot be found or holds problems; all are listed.
    """
    path = find_profile(option, profile_folders())
    return validate(Profile, load_toml(path), str(path))
