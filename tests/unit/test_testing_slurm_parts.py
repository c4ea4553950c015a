"""The parts of the fake SLURM that need no process: options, scripts, plans, tables."""

import json
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosweep.core.errors import ConfigError
from neurosweep.testing.slurm.asked import read_asked
from neurosweep.testing.slurm.batch import (
    Refused,
    array_of,
    dependencies_of,
    minutes_of,
    read_submission,
    signal_number,
)
from neurosweep.testing.slurm.process import read_plan
from neurosweep.testing.slurm.script import (
    Answer,
    CommandFault,
    Event,
    FaultScript,
    OldJob,
    TaskFault,
)

HERE = Path("/somewhere")


def submitted(tmp_path, *options, lines=()):
    path = tmp_path / "batch.sh"
    path.write_text("\n".join(["#!/bin/bash", *lines, "true"]), encoding="utf-8")
    return read_submission([*options, str(path)], tmp_path, {"A": "1"}, ("main", "urgent"))


def test_the_command_line_wins_over_the_script(tmp_path):
    lines = ["#SBATCH --job-name=script", "#SBATCH --time=5", "#SBATCH --requeue", "# --mem=1"]
    what = submitted(tmp_path, "--job-name", "line", "-p", "urgent", lines=lines)
    assert (what.name, what.options["time"], what.options["partition"]) == ("line", "5", "urgent")
    assert "mem" not in what.options
    assert what.requeue
    assert not submitted(tmp_path, "--no-requeue", lines=["#SBATCH --mem=1"]).requeue


def test_quoted_values_are_one_value(tmp_path):
    what = submitted(tmp_path, lines=["#SBATCH --comment='two words'", '#SBATCH -J "a b"'])
    assert (what.options["comment"], what.name) == ("two words", "a b")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--nosuch=1", "unrecognized option '--nosuch=1'"),
        ("--partition=x", "partition specified: x"),
    ],
)
def test_what_sbatch_refuses(tmp_path, option, text):
    with pytest.raises(Refused, match=text):
        submitted(tmp_path, option)


def test_without_a_script_there_is_nothing_to_submit(tmp_path):
    with pytest.raises(Refused, match="Unable to open file gone"):
        read_submission(["gone"], tmp_path, {}, ("main",))
    with pytest.raises(Refused, match="standard input"):
        read_submission([], tmp_path, {}, ("main",))
    assert read_submission(["--wrap", "true"], tmp_path, {}, ("main",)).name == "wrap"


@pytest.mark.parametrize(
    ("word", "number", "shell"),
    [
        ("B:USR2@60", signal.SIGUSR2, True),
        ("TERM@5", signal.SIGTERM, False),
        ("RB:10", 10, True),
        ("", 0, False),
    ],
)
def test_signals_before_the_end(tmp_path, word, number, shell):
    lines = [f"#SBATCH --signal={word}"] if word else []
    assert submitted(tmp_path, lines=lines).signal == (number, shell)


def test_signals_by_name_and_number():
    assert signal_number("usr1") == signal_number("SIGUSR1") == signal.SIGUSR1
    assert signal_number("15") == signal.SIGTERM
    with pytest.raises(Refused, match="NOPE"):
        signal_number("NOPE")


@pytest.mark.parametrize(
    ("text", "indices", "throttle"),
    [("0-3", [0, 1, 2, 3], 0), ("0-6:2%3", [0, 2, 4, 6], 3), ("7,1-2", [1, 2, 7], 0)],
)
def test_arrays(text, indices, throttle):
    assert array_of(text, 1001) == (indices, throttle)


@pytest.mark.parametrize("text", ["0-1001", "", "a-b", "3-1"])
def test_arrays_that_are_none(text):
    with pytest.raises(Refused, match="Invalid job array specification"):
        array_of(text, 1001)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("5", 5), ("1:30", 1.5), ("2:00:00", 120), ("1-1", 1500), ("1-0:30", 1470), ("", None)],
)
def test_time_limits(text, minutes):
    assert minutes_of(text) == minutes


def test_a_time_limit_that_is_none():
    with pytest.raises(Refused, match="Invalid --time"):
        minutes_of("soon")


def test_dependencies():
    assert dependencies_of("afterok:1:2,singleton") == [("afterok", [1, 2]), ("singleton", [])]
    for text in ("afterok", "whenever:1", "afterany:x", "singleton:1"):
        with pytest.raises(Refused, match="dependency problem"):
            dependencies_of(text)


def test_a_script_of_exports_and_python_needs_no_shell():
    plan = read_plan(
        [
            "#!/bin/bash",
            "#SBATCH --array=0-3",
            "trap '' USR2",
            "export A=1",
            "export B='two words' C=x=y",
            "",
            "exec /opt/venv/bin/python -u -m package.module --flag 'a folder'",
        ]
    )
    assert plan is not None
    assert plan.exports == {"A": "1", "B": "two words", "C": "x=y"}
    assert plan.ignored == (signal.SIGUSR2,)
    assert (plan.module, plan.arguments) == ("package.module", ("--flag", "a folder"))


@pytest.mark.parametrize(
    "lines",
    [
        ["module load python", "python -m x"],
        ["export A=$HOME", "python -m x"],
        ["python -m x; true"],
        ["python -m x > file"],
        ["python -X dev -m x"],
        ["python script.py"],
        ["hostname"],
        ["export A='open", "python -m x"],
        [],
    ],
)
def test_what_only_a_shell_can_tell_is_left_to_one(lines):
    assert read_plan(lines) is None


def test_options_of_a_query():
    asked = read_asked(
        ["-h", "--name=a,b", "-t", "all", "-oX"],
        {"-h": "noheader"},
        {"--name": "name", "-t": "states", "-o": "format"},
        "squeue",
    )
    assert asked.flags == {"noheader"}
    assert asked.listed("name") == {"a", "b"}
    assert (asked.values["states"], asked.values["format"]) == ("all", "X")
    assert asked.listed("jobs") is None
    with pytest.raises(Refused, match="unrecognized option '--nosuch'"):
        read_asked(["--nosuch"], {}, {}, "squeue")


seconds = st.floats(0.0, 100.0)
scripts = st.builds(
    FaultScript,
    commands=st.lists(
        st.builds(CommandFault, command=st.just("sacct"), does=st.sampled_from(Answer))
    ).map(tuple),
    tasks=st.lists(
        st.builds(
            TaskFault,
            does=st.sampled_from(Event),
            task=st.none() | st.integers(0, 9),
            for_s=st.none() | seconds,
            files=st.lists(st.sampled_from(["a", "b"])).map(tuple),
        )
    ).map(tuple),
    history=st.lists(st.builds(OldJob, job_id=st.just("7_1"), name=st.just("n"))).map(tuple),
    minute_s=seconds,
)


@given(scripts)
def test_a_script_survives_as_data(script):
    assert FaultScript.from_dict(json.loads(json.dumps(asdict(script)))) == script


def test_a_script_is_read_from_toml(tmp_path):
    path = tmp_path / "script.toml"
    path.write_text(
        "kill_wait_s = 1.0\n"
        '[[commands]]\ncommand = "sacct"\ndoes = "fail"\nfirst = 2\ncount = -1\n'
        '[[tasks]]\ndoes = "late"\ntask = 3\nfor_s = 2.0\nfiles = ["status.json"]\n',
        encoding="utf-8",
    )
    assert FaultScript.load(path) == FaultScript(
        commands=(CommandFault("sacct", Answer.FAIL, first=2, count=-1),),
        tasks=(TaskFault(Event.LATE, task=3, for_s=2.0),),
        kill_wait_s=1.0,
    )


def test_all_problems_of_a_script_are_said(tmp_path):
    data = {
        "colour": "red",
        "commands": [{"command": "srun", "does": "fail"}, {"command": "sacct", "does": "melt"}],
        "tasks": [{"does": "melt", "when": 3}, "oom"],
        "history": [{"job_id": "1"}],
    }
    with pytest.raises(ConfigError) as caught:
        FaultScript.from_dict(data, "bad.toml")
    text = str(caught.value)
    for part in (
        "bad.toml: 7 problems",
        "colour: unknown key",
        "commands[0].command: is 'srun', allowed are sbatch",
        "commands[1].does: is 'melt', allowed are fail",
        "tasks[0].when: unknown key",
        "tasks[0].does: is 'melt', allowed are kill",
        "tasks[1]: expected a table, got 'oom'",
        "history[0].",
    ):
        assert part in text
    (tmp_path / "x.toml").write_text("[", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        FaultScript.load(tmp_path / "x.toml")


def test_which_calls_and_lives_a_fault_hits():
    fault = CommandFault("sacct", Answer.FAIL, first=2, count=2)
    assert [fault.hits("sacct", number) for number in (1, 2, 3, 4)] == [False, True, True, False]
    assert not fault.hits("squeue", 2)
    assert CommandFault("sacct", Answer.FAIL, count=-1).hits("sacct", 10_000)
    hit = TaskFault(Event.KILL, array=1, task=2)
    assert hit.hits(1, 2, 0)
    assert not hit.hits(1, 2, 1), "only the first life, unless said"
    assert not hit.hits(2, 2, 0)
    assert TaskFault(Event.KILL, restart=None).hits(9, 9, 9)
