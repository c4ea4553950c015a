"""Cluster profiles: what a lab writes down once about its SLURM."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator

from neurosweep.core.config import StrictModel, load_toml, validate
from neurosweep.core.errors import ConfigError

# What the executor decides itself: the same option given twice would undo it. A task is one
# process on one node, of the cluster that squeue and sacct ask.
_OWN_OPTIONS = frozenset(
    {
        "account",
        "array",
        "chdir",
        "cluster-constraint",
        "clusters",
        "constraint",
        "cpus-per-task",
        "dependency",
        "error",
        "exclude",
        "export",
        "gres",
        "hold",
        "job-name",
        "mem",
        "mem-per-cpu",
        "no-requeue",
        "nodes",
        "ntasks",
        "ntasks-per-core",
        "ntasks-per-node",
        "ntasks-per-socket",
        "open-mode",
        "output",
        "parsable",
        "partition",
        "qos",
        "requeue",
        "signal",
        "test-only",
        "time",
        "wait",
        "wrap",
    }
)
_OPTION = re.compile(r"^[a-z][a-z0-9-]*$")


class Profile(StrictModel):
    """Describe how tasks are submitted to one cluster."""

    partition: str | None = Field(None, description="partition; None takes the cluster's default")
    account: str | None = Field(None, description="account that pays")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="node features, for example v100")
    exclude: str | None = Field(None, description="nodes that are not used, for example n[3-4]")
    gpus: int = Field(0, ge=0, description="GPUs of a task")
    gpu_type: str | None = Field(None, description="type in --gres, for example a100")
    mem_gb: float | None = Field(None, gt=0, description="memory of a task, GB")
    minutes: int | None = Field(
        None, ge=1, description="time limit of a task; None follows from the study's trial_minutes"
    )
    cores: int = Field(1, ge=1, description="cores of a task, and threads it uses")
    max_array: int = Field(1000, ge=1, description="tasks in one array; more are split")
    throttle: int = Field(256, ge=1, description="tasks of a study that run at a time")
    slots_file: str | None = Field(
        None, description="file, absolute or under ~, by which several drivers share the cluster"
    )
    poll_s: float = Field(15.0, gt=0, description="shortest time between two queries, seconds")
    requeue: bool = Field(
        default=True,
        description="whether SLURM starts a preempted or lost task again; it goes on from its "
        "checkpoint. false: a new attempt in a folder of its own",
    )
    signal_s: int = Field(
        120,
        ge=1,
        le=65535,
        description="seconds before its time limit at which a task that is not done saves and is "
        "requeued; less for short limits, none for two minutes and less",
    )
    setup: list[str] = Field(default_factory=list, description="shell lines before a task starts")
    sbatch: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="further options of sbatch, for example licenses"
    )

    @field_validator("sbatch")
    @classmethod
    def _check_options(
        cls, options: dict[str, bool | int | float | str]
    ) -> dict[str, bool | int | float | str]:
        odd = sorted(name for name in options if not _OPTION.match(name))
        if odd:
            msg = (
                f"{', '.join(odd)}: write long options without dashes before them and with dashes "
                "inside, as in cpus-per-gpu = 4"
            )
            raise ValueError(msg)
        own = sorted(_OWN_OPTIONS & set(options))
        if own:
            msg = f"{', '.join(own)}: set by neurosweep; use the profile's own key if it has one"
            raise ValueError(msg)
        # sbatch takes the beginning of a name for the name.
        short = sorted(n for n in options if any(o.startswith(n) for o in _OWN_OPTIONS))
        if short:
            msg = f"{', '.join(short)}: sbatch reads it as the short form of an option that "
            msg += "neurosweep sets; write the whole name of the option you mean"
            raise ValueError(msg)
        lines = sorted(name for name, value in options.items() if "\n" in str(value))
        if lines:
            msg = f"{', '.join(lines)}: a value is one line"
            raise ValueError(msg)
        return {name: value for name, value in options.items() if value is not False}

    @field_validator("slots_file")
    @classmethod
    def _check_slots_file(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith(("/", "~/")):
            msg = f"{path} is relative: other drivers would not find it; begin it with / or ~/"
            raise ValueError(msg)
        return path

    @field_validator("partition", "account", "qos", "constraint", "exclude", "gpu_type")
    @classmethod
    def _check_word(cls, text: str | None) -> str | None:
        if text is not None and (not text.strip() or "\n" in text):
            msg = "is empty or has several lines; leave the key out for the cluster's default"
            raise ValueError(msg)
        return text


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
