"""The development cluster itself: quickly up, GPUs that are none, gone without a trace."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _slurm_kit import DEVCLUSTER, Cluster, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]


def devcluster(*words: str) -> str:
    done = subprocess.run([str(DEVCLUSTER), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def second(slurm_conf: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of a cluster beside the one of the other tests, of one node and 2 GPUs."""
    folder = Path("/var/tmp") / f"neurosweep-test-gpu-{os.getpid()}"
    monkeypatch.setenv("DEVCLUSTER_PORT", str(27000 + os.getpid() % 200 * 10))
    monkeypatch.setenv("DEVCLUSTER_NODES", "1")
    before = time.monotonic()
    said = devcluster("up", "--gpus", "2", str(folder))
    assert time.monotonic() - before < 20.0
    assert said.endswith(f"export SLURM_CONF={folder}/slurm.conf\n")
    monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
    yield folder
    devcluster("down", str(folder))
    assert not folder.exists()
    for environ in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(folder).encode() not in environ.read_bytes()
        except OSError:
            continue
    assert Path(slurm_conf).exists(), "the other cluster is left alone"


def test_gpus_are_given_out_and_counted(second: Path) -> None:
    out = second / "out"
    wrap = "echo $CUDA_VISIBLE_DEVICES"
    words = ["sbatch", "--parsable", "--gres=gpu:fake:2", "-o", str(out), "--wrap", wrap]
    job = slurm(*words).strip()
    question = ["sacct", "-X", "-n", "-P", "-o", "State,AllocTRES", "-j", job]
    end = time.monotonic() + 20.0
    while not (said := slurm(*question)).startswith("COMPLETED"):
        assert time.monotonic() < end, f"accounting says {said}"
        time.sleep(0.3)
    assert "gres/gpu=2" in said
    assert out.read_text(encoding="utf-8") == "0,1\n"


def test_each_part_can_be_killed_and_started_again(hurt: Cluster) -> None:
    hurt("kill", "slurmdbd")
    assert subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0
    hurt("start", "slurmdbd")
    slurm("sacct")
    hurt("stop", "slurmctld")
    hurt("start", "slurmctld")
    hurt("restart", "n4")
    shown = slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T")
    assert shown.split() == ["n1", "idle", "n2", "idle", "n3", "idle", "n4", "idle"]
