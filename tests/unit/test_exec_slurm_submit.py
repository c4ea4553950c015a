"""The batch file says what the profile says; tasks find their attempts, drivers their arrays."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurosweep.core.errors import ConfigError, ExecutorError
from neurosweep.core.layout import AttemptDir
from neurosweep.exec.claim import take_claim
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import TaskSpec
from neurosweep.exec.slurm_adopt import find_jobs
from neurosweep.exec.slurm_parts import find_parts, new_part
from neurosweep.exec.slurm_submit import limit_minutes, memory_mb, submit_part, warning_s
from neurosweep.exec.slurm_task import main, read_table
from neurosweep.records.log_tail import SETUP_FAILED


def tasks_of(folder: Path, number: int = 3, timeout_s: float = 600.0) -> list[TaskSpec]:
    tasks = []
    for index in range(number):
        trial = f"r01t{index:03d}"
        attempt_dir = folder / "trials" / trial / "attempts/1"
        attempt_dir.mkdir(parents=True, exist_ok=True)
        env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": "/some where/platform"}
        tasks.append(TaskSpec(trial, 1, attempt_dir, 1, None, timeout_s, env))
    return tasks


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Answer SLURM's commands from texts; None fails."""
    answers: dict[str, str | None] = {"sbatch": "Submitted batch job 77 on cluster tiny\n"}

    def run(command: list[str], _timeout_s: float = 0.0) -> str:
        text = answers.get(command[0])
        if text is None:
            msg = f"{command[0]} failed (1): Unable to contact slurm controller"
            raise ExecutorError(msg)
        return text

    for module in ("slurm_state", "slurm_submit"):
        monkeypatch.setattr(f"neurosweep.exec.{module}.run_slurm", run)
    return answers


def batch_file(folder: Path, profile: Profile, level: int = 8, timeout_s: float = 600.0) -> str:
    tasks = tasks_of(folder, timeout_s=timeout_s)
    part = new_part(folder / "slurm", "tok", tasks)
    assert submit_part(profile, part, tasks, level) == "77"
    return (part.folder / "submission.sh").read_text(encoding="utf-8")


@pytest.mark.usefixtures("slurm")
def test_the_batch_file_holds_the_profile(tmp_path: Path) -> None:
    profile = Profile(
        partition="gpu",
        account="lab",
        exclude="n[3-4]",
        gpus=2,
        gpu_type="a100",
        mem_gb=1.5,
        cores=4,
        setup=["module load cuda"],
        sbatch={"nice": 10, "exclusive": True, "licenses": "a b", "overcommit": False},
    )
    text = batch_file(tmp_path, profile, level=2)
    lines = text.splitlines()
    for option in (
        "--array=0-2%2",
        "--job-name=tok-0",
        "--partition=gpu",
        "--account=lab",
        "--exclude='n[3-4]'",
        "--gres=gpu:a100:2",
        "--mem=1536M",
        "--cpus-per-task=4",
        "--time=12",
        "--requeue",
        "--signal=B:USR2@1",
        "--nice=10",
        "--exclusive",
        "--licenses='a b'",
    ):
        assert f"#SBATCH {option}" in lines
    assert "wckey" not in text
    assert "overcommit" not in text
    assert "--hold" not in text
    assert lines.index("trap '' USR2") < lines.index("module load cuda")
    for export in (
        "PYTHONPATH='/some where/platform'",
        "OMP_NUM_THREADS=4",
        "NEUROSWEEP_THREADS=4",
        "NEUROSWEEP_TASK_S=720",
        "NEUROSWEEP_REQUEUE=1",
    ):
        assert f"export {export}" in lines
    assert "export NEUROSWEEP_TASK_S=$((NEUROSWEEP_TASK_S - SECONDS))" in lines
    assert lines[-1].startswith(f"exec {sys.executable} -u -m neurosweep.exec.slurm_task ")


@pytest.mark.usefixtures("slurm")
def test_without_requeue_no_signal_is_asked_for(tmp_path: Path) -> None:
    text = batch_file(tmp_path, Profile(requeue=False), level=0)
    assert "#SBATCH --no-requeue" in text
    assert "#SBATCH --hold" in text
    assert "--array=0-2%1" in text, "0 would mean no limit"
    for absent in ("--signal", "trap", "NEUROSWEEP_REQUEUE", "--requeue"):
        assert absent not in text


@pytest.mark.usefixtures("slurm")
def test_marks_in_the_name_of_a_folder_stand_for_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "100%j of %t"
    folder.mkdir()
    text = batch_file(folder, Profile())
    part = folder / "slurm/tok-0"
    assert f"#SBATCH --chdir='{part}'" in text
    assert f"#SBATCH --output='{str(part).replace('%', '%%')}/%A_%a_0_log.out'" in text


def test_slurm_gives_the_memory_that_attempts_are_allowed(tmp_path: Path) -> None:
    plain = tasks_of(tmp_path)
    limited = [replace(task, memory_mb=1332) for task in plain]
    assert memory_mb(Profile(), plain) is None
    assert memory_mb(Profile(), limited) == 1466, "their own limit ends them, not SLURM's"
    assert memory_mb(Profile(mem_gb=1.3), limited) == 1332
    with pytest.raises(ConfigError, match=r"mem_gb = 1.2 is less than the 1332 MB.*raise mem_gb"):
        memory_mb(Profile(mem_gb=1.2), limited)


@pytest.mark.parametrize(
    ("minutes", "timeout_s", "expected"),
    [
        (2, 30.0, None),  # it might come before Python listens
        (10, 480.0, 1),  # for preemption only: the runner's clock ends the trial
        (60, 7200.0, 120),
        (4, 7200.0, 90),
        (3, 7200.0, 60),
    ],
)
def test_the_warning_leaves_time_to_work(
    minutes: int, timeout_s: float, expected: int | None
) -> None:
    profile = Profile(minutes=minutes)
    assert warning_s(profile, minutes * 60.0, timeout_s) == expected
    assert warning_s(replace_requeue(profile), minutes * 60.0, timeout_s) is None


def replace_requeue(profile: Profile) -> Profile:
    return profile.model_copy(update={"requeue": False})


def test_a_limit_too_short_for_a_trial_needs_requeue(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, timeout_s=1200.0)
    assert limit_minutes(Profile(), tasks) == 22
    assert limit_minutes(Profile(requeue=False), tasks) == 21
    assert limit_minutes(Profile(minutes=10), tasks) == 10
    with pytest.raises(ConfigError, match=r"minutes = 10 is less than the 20 min.*requeue = true"):
        limit_minutes(Profile(minutes=10, requeue=False), tasks)


def test_what_sbatch_says_is_read_or_refused(tmp_path: Path, slurm: dict[str, str | None]) -> None:
    slurm["sbatch"] = "sbatch: warning: quota is low\nhm\n"
    with pytest.raises(ExecutorError, match="named no job id"):
        batch_file(tmp_path, Profile())
    slurm["sbatch"] = None
    with pytest.raises(ExecutorError, match=r"sbatch refused the array tok-1: .*Unable"):
        batch_file(tmp_path, Profile())


def test_a_task_runs_the_attempt_of_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(tmp_path)
    part = new_part(tmp_path / "slurm", "tok", tasks)
    ran: list[Path] = []

    def run_attempt(path: Path) -> int:
        ran.append(path)
        return 7

    monkeypatch.setattr("neurosweep.exec.runner.run_attempt", run_attempt)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert main([str(part.folder)]) == 7
    assert ran == [tasks[2].attempt_dir]
    assert main([]) == 2
    with pytest.raises(ExecutorError, match="file system that this machine shares"):
        read_table(tmp_path, patience_s=0.0)
    (tmp_path / "tasks.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ExecutorError, match="cannot be read"):
        read_table(tmp_path)


def test_parts_are_numbered_on_and_found_by_their_token(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, 12)
    for task in tasks:
        new_part(tmp_path / "slurm", "s.r01.0001", [task])
    new_part(tmp_path / "slurm", "s.r01.00011", tasks)
    (tmp_path / "slurm/s.r01.0001-99").mkdir()  # a driver died before its list was written
    parts = find_parts(tmp_path / "slurm", "s.r01.0001")
    assert [part.name for part in parts] == [f"s.r01.0001-{k}" for k in range(12)]
    assert [part.tasks for part in parts] == [(task.key,) for task in tasks]


def row(job: str, state: str, name: str = "tok-0", reason: str = "None") -> str:
    return f"{job}|{name}|{state}|n1|{reason}|0:00\n"


def accounted(job: str, state: str, name: str) -> str:
    return f"{job}|{name}|{state}|0:0|n1|5|2026-01-01T10:00:00\n"


def test_what_was_never_submitted_is_not_asked_for(
    tmp_path: Path, slurm: dict[str, str | None]
) -> None:
    slurm["squeue"] = None
    assert find_jobs(tmp_path / "slurm", "tok", tasks_of(tmp_path)) == {}


def test_some_tasks_of_an_array_keep_their_numbers(
    tmp_path: Path, slurm: dict[str, str | None]
) -> None:
    tasks = tasks_of(tmp_path)
    new_part(tmp_path / "slurm", "tok", tasks)
    slurm["squeue"] = row("80_[0-2]", "PENDING") + row("80_2", "PENDING", reason="JobHeldUser")
    found = find_jobs(tmp_path / "slurm", "tok", tasks[1:])
    assert {key[0]: job.job_id for key, job in found.items()} == {
        "r01t001": "80_1",
        "r01t002": "80_2",
    }
    assert all(job.held and job.name == "tok-0" and job.array == "80" for job in found.values())


def test_an_array_that_left_the_queue_is_found_in_accounting(
    tmp_path: Path, slurm: dict[str, str | None]
) -> None:
    tasks = tasks_of(tmp_path)
    new_part(tmp_path / "slurm", "tok", tasks[:2])
    new_part(tmp_path / "slurm", "tok", tasks[2:])
    slurm["squeue"] = row("80_0", "RUNNING")
    with pytest.raises(ExecutorError, match="sacct failed"):
        find_jobs(tmp_path / "slurm", "tok", tasks)
    slurm["sacct"] = accounted("81_0", "COMPLETED", "tok-1") + accounted("9_0", "FAILED", "x")
    found = find_jobs(tmp_path / "slurm", "tok", tasks)
    assert [found[task.key].job_id for task in tasks] == ["80_0", "80_1", "81_0"]
    slurm["sacct"] = ""
    assert tasks[2].key not in find_jobs(tmp_path / "slurm", "tok", tasks)
    slurm["squeue"] = None
    with pytest.raises(ExecutorError, match="squeue failed"):
        find_jobs(tmp_path / "slurm", "tok", tasks)


def test_of_two_arrays_of_one_name_the_one_that_runs_is_taken(
    tmp_path: Path, slurm: dict[str, str | None]
) -> None:
    tasks = tasks_of(tmp_path, 2)
    new_part(tmp_path / "slurm", "tok", tasks)
    slurm["squeue"] = row("80_0", "RUNNING") + row("91_0", "CANCELLED")
    found = find_jobs(tmp_path / "slurm", "tok", tasks)
    assert [found[task.key].job_id for task in tasks] == ["80_0", "80_1"]
    assert take_claim(AttemptDir(tasks[1].attempt_dir), "91_1", 0)
    found = find_jobs(tmp_path / "slurm", "tok", tasks)
    assert [found[task.key].job_id for task in tasks] == ["80_0", "91_1"]


def test_an_attempt_of_another_number_is_another_task(
    tmp_path: Path, slurm: dict[str, str | None]
) -> None:
    [task] = tasks_of(tmp_path, 1)
    new_part(tmp_path / "slurm", "tok", [task])
    slurm["squeue"] = row("80_0", "RUNNING")
    assert find_jobs(tmp_path / "slurm", "tok", [replace(task, attempt=2)]) == {}


@pytest.mark.usefixtures("slurm")
def test_a_setup_line_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    profile = Profile(setup=["no_such_command load cuda", "false || true", "export GREETING=hi"])
    text = batch_file(tmp_path, profile)
    head, _, _ = text.partition("\nexec ")
    script = tmp_path / "batch.sh"
    script.write_text(f'{head}\nfalse\necho "$GREETING"\n', encoding="utf-8")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "hi\n"
    told = [line for line in done.stderr.splitlines() if line.startswith(SETUP_FAILED)]
    assert told == [f"{SETUP_FAILED}127: no_such_command load cuda"]
