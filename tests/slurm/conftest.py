"""A real SLURM on this machine for the tests of this folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _slurm_kit import Cluster

REPO = Path(__file__).parents[2]
TOOLS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sbatch")


@pytest.fixture(scope="session")
def slurm_conf() -> Iterator[str]:
    """Bring the development cluster up; skip, with the reason, where that is not possible.

    A cluster that SLURM_CONF names already is used as it is.
    """
    if os.environ.get("SLURM_CONF"):
        yield os.environ["SLURM_CONF"]
        return
    with _development_cluster("test") as conf:
        yield conf


@pytest.fixture(scope="session")
def own_conf() -> Iterator[str]:
    """Bring a cluster up that nobody else uses: it may be hurt, and its queue is empty."""
    with _development_cluster("own") as conf:
        yield conf


@contextmanager
def _development_cluster(name: str) -> Iterator[str]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not installed")
    if os.getuid() != 0:
        pytest.skip("the development cluster needs root")
    folder = Path("/var/tmp") / f"neurosweep-{name}-{os.getpid()}"
    # Ports of its own, so that a development cluster that is up already is not disturbed.
    base = {"test": 21000, "own": 28000}[name]
    env = {**os.environ, "DEVCLUSTER_PORT": str(base + os.getpid() % 300 * 10)}
    command = [str(REPO / "slurm/devcluster")]
    try:
        subprocess.run([*command, "up", str(folder)], check=True, timeout=120, env=env)
        yield str(folder / "slurm.conf")
    finally:
        subprocess.run([*command, "down", str(folder)], check=True, timeout=60, env=env)


@pytest.fixture
def cluster(slurm_conf: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point sbatch and its friends at the development cluster."""
    monkeypatch.setenv("SLURM_CONF", slurm_conf)
    return slurm_conf


@pytest.fixture
def own_cluster(own_conf: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point sbatch and its friends at a development cluster that no other test uses."""
    monkeypatch.setenv("SLURM_CONF", own_conf)
    return own_conf


@pytest.fixture
def hurt(own_cluster: str) -> Iterator[Cluster]:
    """Hurt the cluster in a test; what is down after it is started again."""
    hurt = Cluster(Path(own_cluster))
    yield hurt
    hurt.mend()
