"""A profile against what a cluster says about itself."""

from typing import Any

import pytest

from neurosweep.cli.checks import Finding
from neurosweep.cli.cluster_checks import profile_checks, request_words
from neurosweep.cli.cluster_facts import ClusterFacts, ask, gpus_of, minutes_of
from neurosweep.exec.profiles import Profile

CONFIG = """Configuration data as of 2026-01-01T00:00:00
AccountingStorageEnforce = none
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = lab
MaxArraySize            = 1001
PreemptType             = preempt/partition_prio
SlurmctldParameters     = preempt_send_user_signal
SLURM_VERSION           = 23.11.4
"""
PARTITIONS = "\n".join(
    f"PartitionName={name} Default={default} GraceTime={grace} MaxTime={limit} TotalNodes=4 "
    f"PreemptMode={mode} State={state}"
    for name, default, grace, limit, mode, state in (
        ("cpu", "YES", "0", "1-00:00:00", "OFF", "UP"),
        ("gpu", "NO", "30", "00:30:00", "REQUEUE", "UP"),
        ("old", "NO", "0", "UNLIMITED", "OFF", "DRAIN"),
    )
)
CPU_NODES = "4|16|64000|(null)|mixed|(null)|c[1-4]\n"
GPU_NODES = (
    "2|32|256000|gpu:a100:4(S:0-1),nvme:1|idle~|a100,fast|g[1-2]\n"
    "1|32|256000|gpu:v100:2|down*|v100|g3\n"
)


class Cluster:
    """Answer as a cluster does, with changes."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.asked: list[list[str]] = []
        self.answers = {
            "config": (0, CONFIG),
            "partition": (0, PARTITIONS),
            "assoc": (0, "lab||normal,high|||normal\nteaching||normal|||normal\n"),
            "qos": (0, "normal|\nhigh|30\n"),
            "sacct": (0, ""),
            "sbatch": (0, "sbatch: Job 7 to start at 2026-01-01T00:00:00"),
        } | answers

    def __call__(self, words: list[str]) -> tuple[int, str]:
        self.asked.append(words)
        if words[0] == "sinfo":
            return 0, GPU_NODES if "gpu" in words else CPU_NODES
        key = next((word for word in words if word in self.answers), words[0])
        return self.answers[key]


def findings(cluster: Cluster | None = None, **profile: Any) -> dict[str, Finding]:
    found = profile_checks(Profile(**profile), ClusterFacts(cluster or Cluster()))
    return {finding.name: finding for finding in found}


def test_a_profile_that_fits_is_ok_throughout() -> None:
    found = findings(partition="gpu", gpus=2, gpu_type="a100", cores=8, mem_gb=40.0, minutes=30)
    assert {f.name for f in found.values() if f.state != "ok"} == {"nodes"}
    assert "g3 down*" in found["nodes"].detail
    assert found["fit"].detail == "4 tasks at a time at most, on g[1-2]"
    assert "is warned, saves" in found["preemption"].detail
    assert "2026-01-01" in found["request"].detail
    assert all(not f.fix for f in found.values() if f.state == "ok")


def test_the_default_partition_is_taken() -> None:
    found = findings(mem_gb=32.0)
    assert found["partition"].detail == "cpu is up, 4 nodes"
    assert found["fit"].detail == "4 tasks at a time at most, on c[1-4]"
    assert "not preempted" in found["preemption"].detail


@pytest.mark.parametrize(
    ("profile", "name", "state", "text"),
    [
        ({"partition": "gpus"}, "partition", "missing", "one of: cpu, gpu, old"),
        ({"partition": "old"}, "partition", "missing", "another of: cpu, gpu, old"),
        ({"partition": "gpu", "minutes": 45}, "time limit", "missing", "minutes = 30: with requ"),
        (
            {"partition": "gpu", "minutes": 45, "requeue": False},
            "time limit",
            "missing",
            "or requeue = true",
        ),
        ({"cores": 17}, "cores", "missing", "set cores = 16 or less"),
        ({"mem_gb": 63.0}, "memory", "missing", "set mem_gb = 62.5 or less"),
        ({"gpus": 1}, "gpus", "missing", "choose a partition with GPUs"),
        ({"partition": "gpu", "gpus": 5}, "gpus", "missing", "set gpus = 4 or less"),
        (
            {"partition": "gpu", "gpus": 1, "gpu_type": "h100"},
            "gpus",
            "missing",
            "set gpu_type to one of: a100, v100",
        ),
        ({"constraint": "fast"}, "fit", "missing", "lower cores"),
        ({"account": "else"}, "account", "warning", "one of: lab, teaching"),
        ({"qos": "low"}, "qos", "missing", "one of: normal, high"),
        ({"max_array": 5000}, "arrays", "missing", "set max_array = 1001"),
        ({"slots_file": "/no/such/slots"}, "slots file", "missing", "mkdir -p /no/such"),
        ({"partition": "gpu", "requeue": False}, "preemption", "warning", "requeue = true"),
    ],
)
def test_what_does_not_fit_says_what_to_change(
    profile: dict[str, Any], name: str, state: str, text: str
) -> None:
    finding = findings(**profile)[name]
    assert finding.state == state
    assert text in finding.fix


def test_a_type_of_gpu_without_any_is_doubtful() -> None:
    found = findings(partition="gpu", gpu_type="a100")["gpus"]
    assert (found.state, found.fix) == ("warning", "set gpus = 1 or more, or leave gpu_type out")


def test_the_time_that_follows_from_the_study_is_what_is_asked() -> None:
    assert "trial_minutes + 2 of" in findings(partition="gpu")["time limit"].detail
    assert "trial_minutes + 1 of" in findings(partition="gpu", requeue=False)["time limit"].detail


def test_enforced_accounts_and_personal_limits_bind() -> None:
    config = CONFIG.replace("Enforce = none", "Enforce = associations,limits")
    strict = Cluster(config=(0, config), assoc=(0, "lab||normal|200||\n"))
    assert findings(strict, account="else")["account"].state == "missing"
    unknown = findings(Cluster(config=(0, config), assoc=(1, "down")), account="lab")
    assert unknown["account"].state == "warning"


@pytest.mark.parametrize(
    ("profile", "assoc", "partition", "text"),
    [
        ({}, "lab||normal|200||normal", "", "at most 200 jobs of yours"),
        ({}, "lab||normal|200|50|normal", "", "at most 50 jobs of yours"),
        ({"account": "lab"}, "lab|||200||\nother|||5||", "", "at most 200 jobs of yours"),
        ({}, "lab|cpu||200||\nlab|gpu||5||", "", "at most 200 jobs of yours"),
        ({"qos": "high"}, "lab||normal,high|||normal", "", "(MaxSubmitPU of qos high)"),
        ({}, "lab||normal,high|||high", "", "(MaxSubmitPU of qos high)"),
        ({}, "lab||normal|||normal", "high", "(MaxSubmitPU of qos high)"),
    ],
)
def test_rounds_larger_than_a_user_may_queue_are_warned_of(
    profile: dict[str, Any], assoc: str, partition: str, text: str
) -> None:
    config = CONFIG.replace("Enforce = none", "Enforce = associations,limits,qos")
    partitions = PARTITIONS.replace("Default=YES", f"Default=YES QoS={partition or 'N/A'}")
    answers = {"assoc": (0, assoc + "\n"), "partition": (0, partitions)}
    finding = findings(Cluster(config=(0, config), **answers), **profile)["queue"]
    assert finding.state == "warning"
    assert text in finding.detail
    assert "trials_per_round" in finding.fix
    assert (
        findings(Cluster(config=(0, config), **answers), **profile, max_array=5)["queue"].fix == ""
    )


def test_limits_that_nobody_enforces_bind_nobody() -> None:
    lax = Cluster(assoc=(0, "lab||normal|200||normal\n"))
    assert findings(lax)["queue"].state == "ok"


def test_preemption_without_warning_or_time_is_doubtful() -> None:
    silent = Cluster(config=(0, CONFIG.replace("preempt_send_user_signal", "(null)")))
    assert "only warning is SIGTERM" in findings(silent, partition="gpu")["preemption"].detail
    hasty = Cluster(partition=(0, PARTITIONS.replace("GraceTime=30", "GraceTime=0")))
    assert "no time to save" in findings(hasty, partition="gpu")["preemption"].detail


def test_no_accounting_is_a_warning_and_a_refusal_is_quoted() -> None:
    refuses = (1, "sbatch: error: x\nallocation failure: Invalid account")
    found = findings(Cluster(sacct=(1, "Problem talking to the database"), sbatch=refuses))
    assert (found["accounting"].state, found["request"].state) == ("warning", "missing")
    assert found["request"].detail.endswith("allocation failure: Invalid account")


def test_a_controller_that_does_not_answer_ends_the_checks() -> None:
    cluster = Cluster(config=(1, "unable to contact"))
    assert list(findings(cluster)) == ["controller"]
    assert len(cluster.asked) == 1, "a question whose answer is known is not asked"


def test_the_request_holds_what_the_profile_asks() -> None:
    profile = Profile(partition="gpu", gpus=1, gpu_type="a100", mem_gb=2.5, sbatch={"nice": 10})
    words = request_words(profile)
    assert {"--partition=gpu", "--gres=gpu:a100:1", "--mem=2560M", "--nice=10"} <= set(words)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("UNLIMITED", None),
        ("30", 30.0),
        ("30:30", 30.5),
        ("01:30:00", 90.0),
        ("1-12:00:00", 2160.0),
        ("2-0", 2880.0),
    ],
)
def test_time_limits_are_read(text: str, minutes: float | None) -> None:
    assert minutes_of(text) == minutes


def test_gpus_are_read() -> None:
    assert gpus_of("(null)") == {}
    assert gpus_of("gpu:2") == {"": 2}
    assert gpus_of("gpu:a100:4(S:0-1),nvme:1,gpu:v100:2") == {"a100": 4, "v100": 2}


def test_commands_answer_or_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(["sh", "-c", "echo out; echo err >&2"]) == (0, "out")
    assert ask(["sh", "-c", "echo err >&2"]) == (0, "err")
    assert ask(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "err")
    monkeypatch.setenv("SBATCH_PARTITION", "of-somebody-else")
    assert ask(["sh", "-c", "echo $SBATCH_PARTITION."]) == (0, ".")
    code, text = ask(["no-such-command-of-slurm"])
    assert code == 127
    assert "no-such-command-of-slurm" in text
