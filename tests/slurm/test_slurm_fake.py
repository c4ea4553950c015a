"""The fake SLURM says what a real one says, word for word."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from neurosweep.testing.slurm.cluster import FakeSlurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(120)]
ROWS = ("squeue", "-h", "-r", "-o", "%i|%j|%T|%r")
ENDED = ("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T")
COLUMNS = "JobID,JobName,State,ExitCode"
SINCE = ("-X", "-P", "-n", "-S", "now-1hour")


Said = dict[str, tuple[int, list[str]]]


class Shell:
    """Run commands and remember, job ids apart, what they said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: Said = {}

    def run(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode, f"{done.stdout}{done.stderr}".strip()

    def tell(self, what: str, job: str, *words: str) -> None:
        """Note the answer to a command under a name."""
        code, text = self.run(*(word.replace("JOB", job) for word in words))
        text = re.sub(rf"(?<![\d_%:-]){job}(?!\d)", "JOB", text)
        # An error names one task, or the range of tasks that share it.
        text = re.sub(r"(JOB_[\d-]+): .*", lambda said: said[0].replace(said[1], "JOB_N"), text)
        self.said[what] = (code, sorted(text.splitlines()))

    def submit(self, *words: str) -> str:
        return self.run("sbatch", "--parsable", "--output=/dev/null", *words)[1]

    def wait(self, text: str, *words: str) -> None:
        end = time.monotonic() + 60.0
        while re.search(text, self.run(*words)[1]) is None:
            assert time.monotonic() < end, f"{self.name}: no {text!r} in {self.run(*words)}"
            time.sleep(0.2)


def story(shell: Shell) -> Said:
    """Do the same things to a cluster and return all that it said."""
    tag = f"fake-{time.time_ns()}"
    held = shell.submit("--hold", "--array=0-2%2", "-J", tag, "--wrap=sleep 30")
    own = (*ROWS, f"--name={tag}")
    shell.tell("held", held, *own)
    shell.tell("held, compressed", held, "squeue", "-h", "-o", "%i|%T|%r", f"--name={tag}")
    shell.tell("throttle", held, "scontrol", "update", "JobId=JOB", "ArrayTaskThrottle=1")
    shell.tell("release", held, "scontrol", "release", "JOB")
    shell.wait("_0.*RUNNING", *own)
    shell.tell("one at a time", held, *own)
    shell.tell("requeue what waits", held, "scontrol", "requeue", "JOB_2")
    shell.tell("requeue", held, "scontrol", "requeue", "JOB_0")
    shell.wait("_0.*PENDING.*(BeginTime|JobArrayTaskLimit)", *own)
    shell.wait("_1.*RUNNING", *own)
    shell.wait("_0.*REQUEUED", "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}")
    shell.wait("_1.*RUNNING", "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}")
    shell.tell("sacct of a requeued", held, "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}")
    shell.tell("cancel", held, "scancel", "JOB")
    shell.wait("^$", *own)
    shell.tell("nothing left", held, *own)
    shell.tell("hold what is over", held, "scontrol", "hold", "JOB")
    shell.tell("requeue what is over", held, "scontrol", "requeue", "JOB_1")
    shell.wait("_1.*(PENDING|RUNNING)", *own)
    shell.tell("cancel it again", held, "scancel", "JOB", "999999")
    part = shell.submit(
        "--array=0-3%1", "-J", f"{tag}-d", "--wrap=sleep $((SLURM_ARRAY_TASK_ID * 20))"
    )
    shell.wait("_1.*RUNNING", *ROWS, f"--name={tag}-d")
    shell.tell(
        "throttle what is partly over",
        part,
        "scontrol",
        "update",
        "JobId=JOB",
        "ArrayTaskThrottle=1",
    )
    shell.tell("hold what is partly over", part, "scontrol", "hold", "JOB")
    shell.tell("what is held then", part, *ROWS, f"--name={tag}-d")
    shell.tell("release what is partly over", part, "scontrol", "release", "JOB")
    shell.tell("cancel the rest", part, "scancel", "JOB")
    ends = shell.submit("--array=0-1", "-J", f"{tag}-b", "--wrap=exit $SLURM_ARRAY_TASK_ID")
    shell.wait("_1.*FAILED", "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}-b")
    shell.wait("_0.*COMPLETED", "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}-b")
    shell.tell(
        "sacct of ends", ends, "sacct", *SINCE, "-o", COLUMNS.replace(",JobName", ""), "-j", "JOB"
    )
    shell.tell("squeue of ends", ends, *ENDED, f"--name={tag}-b")
    killed = shell.submit("--array=0-0", "-J", f"{tag}-c", "--wrap=kill -9 $$")
    shell.wait("_0.*FAILED", "sacct", *SINCE, "-o", COLUMNS, f"--name={tag}-c")
    shell.tell(
        "sacct of killed", killed, "sacct", *SINCE, "-o", "JobID,State,ExitCode", "-j", "JOB"
    )
    mistakes(shell)
    return {
        name: (code, [line.replace(tag, "TAG") for line in lines])
        for name, (code, lines) in shell.said.items()
    }


def mistakes(shell: Shell) -> None:
    """Ask for what there is not."""
    none = "987654"
    shell.tell("hold nothing", none, "scontrol", "hold", "JOB")
    shell.tell("update nothing", none, "scontrol", "update", "JobId=JOB", "ArrayTaskThrottle=1")
    shell.tell("requeue nothing", none, "scontrol", "requeue", "JOB")
    shell.tell("show nothing", none, "scontrol", "show", "job", "JOB")
    shell.tell("queue of nothing", none, "squeue", "-h", "--jobs=JOB")
    shell.tell("queue of no name", none, "squeue", "-h", "--name=no-such-name")
    shell.tell("accounts of no name", none, "sacct", "-X", "-n", "-P", "--name=no-such-name")
    shell.tell("no such column", none, "sacct", "-X", "-n", "-P", "-o", "JobID,Restarts")
    shell.tell("no such partition", none, "sbatch", "-p", "nowhere", "--wrap=true")
    shell.tell("array too large", none, "sbatch", "--array=0-2000", "--wrap=true")
    shell.tell("no such option", none, "sbatch", "--nosuch=1", "--wrap=true")
    shell.tell("signal nobody", none, "scancel", "JOB")


@pytest.fixture
def said_by_fake(tmp_path: Path) -> Said:
    with FakeSlurm(tmp_path) as slurm, slurm.on_path():
        return story(Shell("fake"))


def test_both_say_the_same(said_by_fake: Said, cluster: str) -> None:
    assert cluster
    real = story(Shell("real"))
    assert real.keys() == said_by_fake.keys()
    other = {name: (real[name], said_by_fake[name]) for name in real}
    assert {name: both for name, both in other.items() if both[0] != both[1]} == {}
