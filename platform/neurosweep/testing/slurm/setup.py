"""What a fake cluster is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosweep.testing.slurm.script import FaultScript


@dataclass(frozen=True)
class Site:
    """Hold what all tasks of a cluster share.

    Attributes
    ----------
    socket
        Where the cluster listens.
    spool
        Folder for scripts that a shell must run.
    name
        Name of the cluster.
    slots, nodes
        Tasks that run at a time, and machines they are dealt over.
    """

    socket: str
    spool: Path
    name: str = "fake"
    slots: int = 8
    nodes: int = 4


@dataclass(frozen=True)
class Setup:
    """Hold what the cluster is started with.

    Attributes
    ----------
    site, script, start_id
        As in `Scheduler`.
    log
        File that everything is noted in, one JSON object a line.
    """

    site: Site
    script: FaultScript
    start_id: int
    log: Path

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """Read what `dataclasses.asdict` and JSON made of it."""
        site = Site(**{**data["site"], "spool": Path(data["site"]["spool"])})
        script = FaultScript.from_dict(data["script"])
        return cls(site, script, data["start_id"], Path(data["log"]))
