"""The job that looks at a node, and what is made of its answer."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurosweep.cli import cluster_probe, exits, main
from neurosweep.cli.checks import Finding
from neurosweep.cli.cluster_probe import node_checks
from neurosweep.core.layout import Home
from neurosweep.core.plugins import load_plugin
from neurosweep.exec import slurm_probe
from neurosweep.exec.executors import slurm
from neurosweep.exec.profiles import Profile
from neurosweep.exec.protocol import ExecSettings, Executor, TaskKey, TaskPhase, TaskView

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job of the probe in this process, and import nothing heavy."""
    inline = load_plugin("neurosweep.exec.executors", "inline", needs=("create",))

    def create(_profile: Profile, settings: ExecSettings) -> Executor:
        settings.study_dir.mkdir(parents=True, exist_ok=True)
        executor: Executor = inline.create(None, settings)
        return executor

    monkeypatch.setattr(slurm, "SlurmExecutor", create)
    monkeypatch.setattr(slurm_probe, "versions", lambda: {"numpy": "2.0", "scipy": "1.0"})
    monkeypatch.setattr(cluster_probe, "_NEEDED", ("numpy", "scipy"))
    monkeypatch.setattr(cluster_probe, "_SETTLE_S", 0.2)
    monkeypatch.setattr(cluster_probe, "_SETTLE_NEAR_S", 0.2)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Let the node answer something else."""
    look = slurm_probe.look

    def use(change: Change) -> None:
        def changed(imports: list[str]) -> dict[str, Any]:
            facts = look(imports)
            change(facts)
            return facts

        monkeypatch.setattr(slurm_probe, "look", changed)

    return use


def check(home: Path, **profile: Any) -> dict[str, Finding]:
    found = node_checks(Profile(**profile), Home(home), wait_s=20.0)
    return {finding.name: finding for finding in found}


def test_this_machine_as_a_node_is_fine(tmp_path: Path) -> None:
    found = check(tmp_path)
    assert {name for name, finding in found.items() if finding.state != "ok"} == set()
    assert {"job", "shared folder", "user", "python there", "clock", "scratch"} <= set(found)
    assert {"import neurosweep", "import neurodecode"} <= set(found)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("changes", "name", "state", "text"),
    [
        ({"python": "3.9.1"}, "python there", "missing", "3.9.1"),
        ({"packages": {"numpy": "1.9", "scipy": "1.0"}}, "packages there", "warning", "numpy 1.9"),
        ({"packages": {"numpy": "2.0"}}, "packages there", "missing", "scipy absent there"),
        ({"uid": 12345, "user": "else"}, "user", "missing", "uid 12345 (else)"),
        ({"user": ""}, "user", "warning", "without a name"),
        ({"scratch_gb": 0.1}, "scratch", "warning", "0.1 GB free"),
        ({"cores": 1}, "cores there", "missing", "cores = 2"),
        ({"commands": {"squeue": "no munge", "scontrol": ""}}, "requeue there", "warning", "munge"),
        ({"imports": {"torch": {"error": "no lib"}}}, "import torch", "missing", "no lib"),
        ({"imports": {"torch": {"seconds": 60.0}}}, "import torch", "warning", "60.0 s"),
    ],
)
def test_what_is_wrong_on_the_node_is_named(
    tmp_path: Path,
    answers: Callable[[Change], None],
    changes: dict[str, Any],
    name: str,
    state: str,
    text: str,
) -> None:
    answers(lambda facts: facts.update({"cores": 4} | changes))
    finding = check(tmp_path, cores=2)[name]
    assert finding.state == state
    assert text in finding.detail
    assert finding.fix


@pytest.mark.parametrize(("ahead_s", "state"), [(0.0, "ok"), (-30.0, "warning"), (90.0, "missing")])
def test_a_wrong_clock_is_seen_even_when_the_file_system_follows_it(
    tmp_path: Path, answers: Callable[[Change], None], ahead_s: float, state: str
) -> None:
    answers(lambda facts: facts.update(t=time.time() + ahead_s))
    finding = check(tmp_path)["clock"]
    assert finding.state == state
    assert ahead_s == 0.0 or ("behind" in finding.detail) == (ahead_s < 0)


def test_a_clock_that_differs_from_the_file_system_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = iter([0.0, 7.5])
    monkeypatch.setattr(slurm_probe, "clock_offset_s", lambda _path: next(offsets))
    assert check(tmp_path)["clock"].detail.startswith("7.5 s ahead")


def test_gpus_are_counted_where_they_are_asked_for(
    tmp_path: Path, answers: Callable[[Change], None]
) -> None:
    torch = {"seconds": 1.0, "gpus": ["Large GPU"]}
    answers(lambda facts: facts.update(visible_gpus="3", imports={"torch": torch}))
    assert check(tmp_path, gpus=1)["gpus there"].state == "ok"
    answers(lambda facts: facts.update(visible_gpus="3", imports={"torch": {"seconds": 1.0}}))
    assert check(tmp_path, gpus=1)["gpus there"].state == "missing"


def test_a_job_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_imports: list[str]) -> dict[str, Any]:
        msg = "no room on this node"
        raise RuntimeError(msg)

    monkeypatch.setattr(slurm_probe, "look", broken)
    found = check(tmp_path)
    assert list(found) == ["job"]
    assert "no room on this node" in found["job"].detail


class Silent:
    """Say one thing of every task, and run none."""

    def __init__(self, view: TaskView, log: Path | None = None) -> None:
        self.view, self.log = view, log
        self.cancelled: list[TaskKey] = []
        self.key: TaskKey = ("", 0)

    def submit(self, _token: str, tasks: Any) -> dict[str, str]:
        self.key = tasks[0].key
        if self.log is not None:
            self.log.parent.mkdir(parents=True)
            self.log.write_text("module: command not found\n", encoding="utf-8")
        return {tasks[0].trial: "1_0"}

    def poll(self) -> dict[TaskKey, TaskView]:
        return {self.key: self.view}

    def cancel(self, trial: str, attempt: int, _why: object) -> None:
        self.cancelled.append((trial, attempt))

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("phase", "log", "name", "state", "text"),
    [
        (TaskPhase.QUEUED, False, "job", "warning", "PENDING Resources"),
        (TaskPhase.RUNNING, False, "job", "missing", "cancelled"),
        (TaskPhase.ENDED, False, "shared folder", "missing", "unseen"),
        (TaskPhase.ENDED, True, "job", "missing", "module: command not found"),
    ],
)
def test_no_answer_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: TaskPhase,
    log: bool,
    name: str,
    state: str,
    text: str,
) -> None:
    made: list[Silent] = []

    def create(_profile: Profile, settings: ExecSettings) -> Silent:
        path = settings.study_dir / "slurm/doctor/1_0_log.out" if log else None
        made.append(Silent(TaskView(phase, "1_0", "PENDING Resources"), path))
        return made[-1]

    monkeypatch.setattr(slurm, "SlurmExecutor", create)
    [finding] = node_checks(Profile(), Home(tmp_path), wait_s=0.1)
    assert (finding.name, finding.state) == (name, state)
    assert text in finding.detail
    assert len(made[0].cancelled) == (0 if phase is TaskPhase.ENDED else 1)


def test_modules_that_cannot_be_imported_say_why() -> None:
    found = slurm_probe.try_imports(["json", "no_such_module_at_all"])
    assert found["json"]["seconds"] >= 0.0
    assert "ModuleNotFoundError" in found["no_such_module_at_all"]["error"]


def test_commands_of_the_cluster_are_tried_on_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slurm_probe.try_commands("") == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "squeue" in slurm_probe.try_commands("7")["squeue"]
    for name, line in (("squeue", "echo RUNNING"), ("scontrol", "echo no munge >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    assert slurm_probe.try_commands("7") == {"squeue": "", "scontrol": "no munge"}


def test_nobody_needs_them_who_is_not_queued_again(
    tmp_path: Path, answers: Callable[[Change], None]
) -> None:
    answers(lambda facts: facts.update(commands={"squeue": "no munge", "scontrol": ""}))
    assert check(tmp_path, requeue=False)["requeue there"].state == "ok"


def test_every_distribution_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {"neurosweep", "numpy", "submitit"} <= set(slurm_probe.versions())


def test_the_verb_refuses_what_is_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--on", "local"]) == exits.USER_ERROR
    assert "slurm:PROFILE" in capsys.readouterr().err


def test_without_slurm_the_verb_says_so_and_asks_nothing_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "some.toml"
    profile.write_text('partition = "main"\n', encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path / "no-commands-here"))
    words = ["doctor", "--on", f"slurm:{profile}", "--home", str(tmp_path), "--json"]
    assert main(words) == exits.NOT_REACHED
    answer = json.loads(capsys.readouterr().out)
    assert answer["needed"] == ["slurm", "cluster"]
    assert {check["area"] for check in answer["checks"]} == {"slurm"}


def test_a_profile_given_by_its_path_needs_no_profile_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "sinfo"):
        (bin_ / name).write_text("#!/bin/sh\necho main up 1\n", encoding="utf-8")
        (bin_ / name).chmod(0o755)
    profile = tmp_path / "some.toml"
    profile.write_text('partition = "main"\n', encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for name in ("HOME", "XDG_CONFIG_HOME", "NEUROSWEEP_HOME"):
        monkeypatch.setenv(name, str(empty))
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    main(["doctor", "--on", f"slurm:{profile}", "--no-job", "--home", str(empty), "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert "profiles" not in {check["name"] for check in checks}
    assert "cluster" in {check["area"] for check in checks}, "it went on to the cluster"


def test_a_setup_line_that_failed_on_the_node_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline = load_plugin("neurosweep.exec.executors", "inline", needs=("create",))

    def create(_profile: Profile, settings: ExecSettings) -> Executor:
        log = settings.study_dir / "slurm/doctor/1_0_log.out"
        log.parent.mkdir(parents=True)
        log.write_text(
            "slurm_script: line 9: module: command not found\n"
            "setup failed with 127: module load cuda\n",
            encoding="utf-8",
        )
        executor: Executor = inline.create(None, settings)
        return executor

    monkeypatch.setattr(slurm, "SlurmExecutor", create)
    finding = check(tmp_path, setup=["module load cuda"])["setup"]
    assert finding.state == "missing"
    assert finding.detail == "setup failed with 127: module load cuda"
    assert "|| true" in finding.fix


def test_a_home_that_cannot_be_made_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = check(tmp_path / "file")
    assert list(found) == ["home"]
    assert str(tmp_path / "file") in found["home"].detail
    assert "--home" in found["home"].fix
