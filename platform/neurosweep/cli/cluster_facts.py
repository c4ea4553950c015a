"""What a SLURM says about itself: its settings, partitions, nodes, and who may use it."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from neurosweep.exec.slurm_state import clean_environ

Ask = Callable[[list[str]], tuple[int, str]]
"""Run a command; return its exit code and what it printed, or the reason why it could not."""

_TIMEOUT_S = 30.0
_USABLE = ("idle", "mixed", "allocated", "completing", "planned", "reserved")
_NOT_ANSWERING = "*"
# Flags that sinfo hangs on a state: powered down or up, to be rebooted, waiting for a job.
_FLAGS = "~#%$@^-+"
_GRES = re.compile(r"(?P<name>[^:,()]+)(?::(?P<kind>[^:,()]+))?:(?P<count>\d+)")
_CLOCK = re.compile(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")


def ask(words: list[str]) -> tuple[int, str]:
    """Run a command of SLURM; 127 and the reason when it could not be run."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=clean_environ(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    texts = [part.decode("utf-8", "replace").strip() for part in (done.stdout, done.stderr)]
    # `sbatch --test-only` answers on standard error even when all is well.
    return done.returncode, texts[0] if done.returncode == 0 and texts[0] else texts[1]


@dataclass(frozen=True)
class NodeGroup:
    """Describe nodes that are alike.

    Attributes
    ----------
    count
        How many.
    names
        As SLURM writes them, for example ``n[1-4]``.
    cores, memory_mb
        Of one node.
    gpus
        Type to number of GPUs of one node; type ``""`` where SLURM knows none.
    state
        As printed.
    features
        What a constraint may ask for.
    """

    count: int
    names: str
    cores: int
    memory_mb: int
    gpus: Mapping[str, int]
    state: str
    features: frozenset[str]

    @property
    def usable(self) -> bool:
        """Whether jobs can start there, now or when others have ended."""
        state = self.state.lower()
        return not state.endswith(_NOT_ANSWERING) and state.rstrip(_FLAGS) in _USABLE


class ClusterFacts:
    """Ask a cluster, each question once.

    Parameters
    ----------
    ask
        Runs a command.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def run(self, words: list[str]) -> tuple[int, str]:
        """Run a command that asks something else."""
        return self._ask(words)

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """Settings of the controller by name; empty when it does not answer."""
        code, text = self._ask(["scontrol", "show", "config"])
        if code:
            return {}
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    @cached_property
    def partitions(self) -> Mapping[str, Mapping[str, str]]:
        """Attributes of each partition by its name."""
        code, text = self._ask(["scontrol", "--oneliner", "show", "partition"])
        if code:
            return {}
        rows = [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in text.splitlines()
        ]
        return {row["PartitionName"]: row for row in rows if "PartitionName" in row}

    def default_partition(self) -> str | None:
        """Return the partition that a job gets which names none."""
        for name, row in self.partitions.items():
            if row.get("Default") == "YES":
                return name
        return None

    def nodes(self, partitions: str) -> list[NodeGroup]:
        """Return the nodes of partitions, those that are alike together.

        Parameters
        ----------
        partitions
            Names, with commas between them.
        """
        form = "%D|%c|%m|%G|%T|%f|%N"
        code, text = self._ask(["sinfo", "-h", "-e", "-p", partitions, "-o", form])
        rows = (line.split("|", 6) for line in text.splitlines() if line.count("|") >= 6)
        return [] if code else [_group(row) for row in rows]

    @cached_property
    def associations(self) -> list[Mapping[str, str]]:
        """Accounts and qualities of service that this user is registered with; may be empty."""
        fields = ["account", "partition", "qos", "maxsubmit", "grpsubmit", "defaultqos"]
        words = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}"]
        code, text = self._ask([*words, f"format={','.join(fields)}"])
        if code:
            return []
        rows = [line.split("|") for line in text.splitlines() if line.strip()]
        return [dict(zip(fields, row, strict=False)) for row in rows]

    @cached_property
    def qualities(self) -> Mapping[str, str]:
        """Each quality of service that exists, and how many jobs of a user it lets queue."""
        words = ["sacctmgr", "-n", "-P", "show", "qos", "format=name,maxsubmitpu"]
        code, text = self._ask(words)
        rows = (line.partition("|") for line in text.splitlines() if line.strip())
        return {} if code else {name: limit for name, _, limit in rows}


def _group(row: list[str]) -> NodeGroup:
    count, cores, memory, gres, state, features, names = row
    return NodeGroup(
        count=_number(count),
        names=names,
        cores=_number(cores),
        memory_mb=_number(memory),
        gpus=gpus_of(gres),
        state=state,
        features=frozenset(features.split(",")) - {"(null)", ""},
    )


def _number(text: str) -> int:
    digits = re.match(r"\d+", text)
    return int(digits.group()) if digits else 0


def gpus_of(gres: str) -> dict[str, int]:
    """Return type to number of GPUs of a node's ``Gres``, for example ``gpu:a100:4(S:0)``."""
    found: dict[str, int] = {}
    for match in _GRES.finditer(re.sub(r"\([^)]*\)", "", gres)):
        if match["name"] == "gpu":
            kind = match["kind"] or ""
            found[kind] = found.get(kind, 0) + int(match["count"])
    return found


def minutes_of(limit: str) -> float | None:
    """Return a time limit in minutes, for example of ``1-12:00:00``; None when there is none."""
    match = _CLOCK.match(limit)
    if match is None:
        return None
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None:  # days-hours[:minutes[:seconds]]
        return days * 1440 + first * 60 + second + third / 60
    if match[4] is not None:  # hours:minutes:seconds
        return first * 60 + second + third / 60
    return first + second / 60  # minutes[:seconds]
