"""A development cluster for a bench, and what its accounting says of jobs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def development_cluster() -> Iterator[Path]:
    """Bring a cluster up in a folder of its own, point SLURM_CONF at it, and take it down."""
    with tempfile.TemporaryDirectory(prefix="neurosweep-bench-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        cluster = Path(folder) / "slurm"
        port = str(41000 + os.getpid() % 200 * 10)
        command = [str(REPO / "slurm/devcluster")]
        env = {**os.environ, "DEVCLUSTER_PORT": port}
        try:
            subprocess.run([*command, "up", str(cluster)], check=True, env=env)
            os.environ["SLURM_CONF"] = str(cluster / "slurm.conf")
            yield cluster
        finally:
            subprocess.run([*command, "down", str(cluster)], check=True, env=env)


@dataclass(frozen=True)
class Makespan:
    """How long jobs took together.

    Attributes
    ----------
    accounted_s
        From the first submission to the last end, as accounting has them (whole seconds).
    wall_s
        Until whoever submitted them knew that all had ended.
    jobs
        Number of tasks.
    """

    accounted_s: float
    wall_s: float
    jobs: int


def accounted(name: str, wall_s: float) -> Makespan:
    """Return the makespan of all jobs with a name, once accounting knows all their ends."""
    columns = "JobID,Submit,End,State"
    command = ["sacct", "-n", "-P", "-X", "-S", "now-2hours", f"--name={name}", "-o", columns]
    deadline = time.monotonic() + 30.0
    while True:
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line.split("|") for line in output.splitlines()]
        if rows and all(row[2] != "Unknown" for row in rows):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"accounting does not know the end of {name}: {rows[:3]}")
        time.sleep(0.5)
    wrong = [row for row in rows if row[3] != "COMPLETED"]
    assert not wrong, wrong[:3]
    return Makespan(
        max(_seconds(row[2]) for row in rows) - min(_seconds(row[1]) for row in rows),
        wall_s,
        len(rows),
    )


def _seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def run_sbatch(words: Sequence[str]) -> str:
    """Submit a job and return its id."""
    done = subprocess.run(
        ["sbatch", "--parsable", *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip().partition(";")[0]
