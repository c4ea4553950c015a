"""The fake SLURM as a whole: commands on PATH, real processes, an owner that dies."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import ExecutorError
from neurosweep.core.files import read_json
from neurosweep.core.layout import Home
from neurosweep.core.provenance import code_env
from neurosweep.testing.attempts import make_task
from neurosweep.testing.slurm.cluster import FakeSlurm
from neurosweep.testing.slurm.script import Answer, CommandFault, Event, FaultScript, TaskFault

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with FakeSlurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def fresh(slurm):
    slurm.obey(FaultScript())
    return slurm


def wait_until(done, limit_s=20.0):
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def submit(slurm, folder, *lines, options=()):
    path = folder / "batch.sh"
    path.write_text("\n".join(["#!/bin/bash", *lines]) + "\n", encoding="utf-8")
    done = slurm.command("sbatch", "--parsable", f"--output={folder}/%a.out", *options, str(path))
    assert done.stderr == ""
    return done.stdout.strip()


def wait_for_all(slurm):
    wait_until(lambda: slurm.command("squeue", "-h").stdout == "")


def test_a_script_that_only_a_shell_can_run_is_run_by_one(fresh, tmp_path):
    lines = (
        "for i in 1 2; do",
        'echo "$SLURM_ARRAY_TASK_ID $HOME_OF $i"',
        "done",
        "exit $((6 - 1))",
    )
    os.environ["HOME_OF"] = "mine"
    try:
        number = submit(fresh, tmp_path, "#SBATCH --array=0-1", *lines)
    finally:
        del os.environ["HOME_OF"]
    wait_for_all(fresh)
    assert (tmp_path / "1.out").read_text(encoding="utf-8") == "1 mine 1\n1 mine 2\n"
    columns = ("-X", "-P", "-n", "-o", "JobID,State,ExitCode")
    rows = fresh.command("sacct", *columns).stdout.splitlines()
    assert rows == [f"{number}_{index}|FAILED|5:0" for index in (0, 1)]


def test_a_forked_module_cannot_tell_that_it_was_forked(fresh, tmp_path):
    module = tmp_path / "roots" / "told.py"
    module.parent.mkdir()
    module.write_text(
        "import atexit, json, os, signal, socket, sys\n"
        "facts = {'main': __name__, 'arguments': sys.argv[1:], 'cwd': os.getcwd(),\n"
        "         'host': socket.gethostname(), 'node': os.environ['SLURMD_NODENAME'],\n"
        "         'extra': os.environ['EXTRA'], 'group': os.getpgid(0) == os.getpid(),\n"
        "         'fds': len(os.listdir('/proc/self/fd')),\n"
        "         'usr2': signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,\n"
        "         'term': signal.getsignal(signal.SIGTERM) == signal.SIG_DFL}\n"
        "print(json.dumps(facts))\n"
        "sys.exit(3)\n",
        encoding="utf-8",
    )
    submit(
        fresh,
        tmp_path,
        "#SBATCH --array=4-4",
        f"#SBATCH --chdir={tmp_path}",
        "trap '' USR2",
        f"export PYTHONPATH={module.parent}",
        "export EXTRA='two words'",
        f"exec {sys.executable} -u -m told --flag 'a b'",
    )
    wait_for_all(fresh)
    assert read_json(tmp_path / "4.out") == {
        "main": "__main__",
        "arguments": ["--flag", "a b"],
        "cwd": str(tmp_path),
        "host": "n1",
        "node": "n1",
        "extra": "two words",
        "group": True,
        "fds": 4,  # the three standard ones, and the folder that is listed
        "usr2": True,
        "term": True,
    }
    [end] = fresh.notes("exit")
    assert end["exit"] == "3:0"


def test_an_error_in_a_module_leaves_its_traceback(fresh, tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('on purpose')\n", encoding="utf-8")
    line = f"exec {sys.executable} -m broken"
    submit(fresh, tmp_path, "#SBATCH --array=0-0", f"export PYTHONPATH={tmp_path}", line)
    wait_for_all(fresh)
    assert "RuntimeError: on purpose" in (tmp_path / "0.out").read_text(encoding="utf-8")
    assert [row["exit"] for row in fresh.notes("exit")] == ["1:0"]


def attempt(slurm, folder, **settings):
    """Submit one attempt as a task and return its files."""
    task = make_task(Home(folder / "home"), settings=settings)
    lines = [f"export {name}={value}" for name, value in code_env(None, 1).items()]
    last = f"exec {sys.executable} -m neurosweep.exec.runner {task.attempt_dir}"
    submit(slurm, folder, "#SBATCH --array=0-0", *lines, last)
    return task.files


def test_attempts_really_run_and_completions_are_counted(fresh, tmp_path):
    files = attempt(fresh, tmp_path)
    wait_for_all(fresh)
    assert read_json(files.status)["outcome"] == "done"
    assert dict(fresh.completions()) == {"r01t000": 1}
    claim = read_json(files.claim)
    assert (claim["job"], claim["host"]) == ("1000_0", "n1")


@pytest.mark.parametrize(("at", "left"), [("claim.json", 0), ("predictions.jsonl", 1)])
def test_an_event_comes_between_two_files(slurm, tmp_path, at, left):
    slurm.obey(FaultScript(tasks=(TaskFault(Event.KILL, at=at),)))
    files = attempt(slurm, tmp_path)
    wait_for_all(slurm)
    assert files.claim.exists()
    assert len(list(files.root.glob("predictions.jsonl"))) == left
    assert not files.status.exists()


def test_late_files_come_after_the_end(slurm, tmp_path):
    slurm.obey(FaultScript(tasks=(TaskFault(Event.LATE, for_s=0.5),)))
    files = attempt(slurm, tmp_path)
    wait_for_all(slurm)
    assert [row["state"] for row in slurm.notes("end")] == ["COMPLETED"]
    assert not files.status.exists()
    wait_until(files.status.exists)
    assert read_json(files.status)["outcome"] == "done"


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        (Answer.FAIL, 1, ""),
        (Answer.FAIL_AFTER, 1, ""),
        (Answer.EMPTY, 0, ""),
        (Answer.CUT, 0, "Submitted ba"),
        (Answer.STALE, 0, ""),
    ],
)
def test_what_a_bad_answer_looks_like(slurm, does, code, said):
    slurm.obey(FaultScript(commands=(CommandFault("sbatch", does, text="no"),)))
    done = slurm.command("sbatch", "--hold", "--wrap=true")
    assert (done.returncode, done.stdout) == (code, said)
    assert ("no" in done.stderr) is (code == 1)
    queued = slurm.command("squeue", "-h", "-o", "%i").stdout.split()
    assert queued == ([] if does in (Answer.FAIL, Answer.STALE) else ["1000"])
    assert slurm.command("sbatch", "--hold", "--wrap=true").returncode == 0


def test_a_stale_answer_is_the_one_before(slurm):
    slurm.obey(FaultScript(commands=(CommandFault("squeue", Answer.STALE, first=2),)))
    ask = ("squeue", "-h", "-o", "%i")
    assert slurm.command(*ask).stdout == ""
    slurm.command("sbatch", "--hold", "--wrap=true")
    assert slurm.command(*ask).stdout == ""
    assert slurm.command(*ask).stdout == "1000\n"


def test_a_hanging_command_answers_in_the_end(slurm):
    slurm.obey(FaultScript(commands=(CommandFault("sinfo", Answer.HANG_AFTER, for_s=0.3),)))
    began = time.monotonic()
    assert slurm.command("sinfo").returncode == 0
    assert time.monotonic() - began >= 0.3


def test_the_callers_death_can_be_ordered(slurm):
    script = (CommandFault("sbatch", Answer.KILL_CALLER_AFTER),)
    slurm.obey(FaultScript(commands=script))
    command = [sys.executable, "-c", "import subprocess as s; s.run(['sbatch','-H','--wrap=true'])"]
    done = subprocess.run(command, env=slurm.environ(), check=False, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert slurm.command("squeue", "-h", "-o", "%i").stdout == "1000\n"


def test_commands_are_found_on_path_and_only_for_a_while(fresh):
    before = dict(os.environ)
    with fresh.on_path():
        done = subprocess.run(["squeue", "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("slurm-fake")
    assert dict(os.environ) == before
    assert fresh.calls() == {"squeue": 1}


OWNER = """
import sys, time
from pathlib import Path
from neurosweep.testing.slurm.cluster import FakeSlurm
slurm = FakeSlurm(Path(sys.argv[1])).__enter__()
slurm.command("sbatch", "--wrap=exec sleep 300")
while not slurm.notes("start"):
    time.sleep(0.02)
print(slurm.notes("start")[0]["pid"], flush=True)
time.sleep(300)
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_cluster_and_its_tasks_die_with_their_owner(tmp_path):
    env = {**os.environ, **code_env(None, 1)}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, env=env, text=True
    )
    with owner:
        assert owner.stdout is not None
        task = int(owner.stdout.readline())
        assert alive(task)
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(task))
    done = subprocess.run([tmp_path / "bin/squeue"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Unable to contact slurm controller" in done.stderr


def test_a_cluster_that_cannot_start_says_why(tmp_path):
    slurm = FakeSlurm(tmp_path)
    (tmp_path / "setup.json").mkdir()
    with pytest.raises(OSError, match=r"setup\.json"):
        slurm.__enter__()
    (tmp_path / "setup.json").rmdir()
    slurm._socket = str(tmp_path / ("x" * 200))
    site = replace(slurm._setup.site, socket=slurm._socket)
    slurm._setup = replace(slurm._setup, site=site)
    with pytest.raises(ExecutorError, match=r"did not start: [\s\S]*too long"):
        slurm.__enter__()
