"""What `slurm/devcluster` refuses, and that it touches nothing that is not its own."""

import subprocess
from pathlib import Path

import pytest

DEVCLUSTER = Path(__file__).parents[2] / "slurm/devcluster"


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run([str(DEVCLUSTER), *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [(), ("raise",), ("kill",), ("up", "--gpus"), ("up", "one", "two"), ("down", "one", "two")],
)
def test_wrong_words_get_the_usage(words: tuple[str, ...]) -> None:
    code, said = run(*words)
    assert code == 2
    assert "usage: slurm/devcluster up" in said


@pytest.mark.parametrize("words", [("down",), ("status",), ("kill", "slurmctld"), ("stop", "n1")])
def test_a_folder_that_holds_no_cluster_is_left_alone(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=real\n", encoding="utf-8")
    code, said = run(*words, str(tmp_path))
    assert code == 2
    assert "holds no development cluster; nothing was touched" in said
    assert (tmp_path / "slurm.conf").exists()


def test_to_end_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert run("down", str(tmp_path / "none")) == (
        0,
        f"devcluster: nothing is up in {tmp_path / 'none'}\n",
    )


@pytest.mark.parametrize("daemon", ["slurmd", "n0", "n3", "n1; true"])
def test_a_part_that_does_not_exist_is_named(daemon: str, tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=devcluster\n", encoding="utf-8")
    settings = "nodes=2\ncpus=2\ngpus=0\nbase_port=17000\n"
    (tmp_path / "settings").write_text(settings, encoding="utf-8")
    code, said = run("kill", daemon, str(tmp_path))
    assert code == 2
    assert f"there is no '{daemon}' here; slurmctld, slurmdbd, or a node n1 to n2" in said
