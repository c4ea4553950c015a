"""The checks behind ``neurosweep doctor --on slurm:PROFILE``: does a profile fit its cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurosweep.cli.checks import Finding
from neurosweep.cli.cluster_facts import ClusterFacts, NodeGroup, minutes_of
from neurosweep.cli.cluster_rights import AREA, bad, doubtful, good, right_checks
from neurosweep.exec.profiles import Profile

_MB = 1024


def profile_checks(profile: Profile, cluster: ClusterFacts) -> Iterator[Finding]:
    """Compare a profile with what its cluster says; nothing is submitted.

    Parameters
    ----------
    profile
        What the user wrote down.
    cluster
        What SLURM answers.
    """
    if not cluster.settings:
        fix = "log in to a login node, check SLURM_CONF, or ask your administrator"
        yield bad("controller", "does not answer: `scontrol show config` failed", fix)
        return
    version = cluster.settings.get("SLURM_VERSION", "of an unknown version")
    name = cluster.settings.get("ClusterName", "unnamed")
    yield good("controller", f"cluster {name}, SLURM {version}")
    partitions = _partitions(profile, cluster)
    if isinstance(partitions, Finding):
        yield partitions
    else:
        yield from _partition_checks(profile, cluster, partitions)
        yield from _node_checks(profile, cluster.nodes(",".join(partitions)))
    yield from right_checks(profile, cluster, [] if isinstance(partitions, Finding) else partitions)
    yield _accounting_check(cluster)
    if not isinstance(partitions, Finding):
        yield _preemption_check(profile, cluster, partitions)
    yield _slots_check(profile)
    yield _request_check(profile, cluster)


def _partitions(profile: Profile, cluster: ClusterFacts) -> list[str] | Finding:
    known = ", ".join(cluster.partitions) or "none"
    if profile.partition is None:
        default = cluster.default_partition()
        if default is None:
            fix = f"set partition to one of: {known}"
            return bad("partition", "the profile names none and the cluster has no default", fix)
        return [default]
    names = [name.strip() for name in profile.partition.split(",")]
    absent = [name for name in names if name not in cluster.partitions]
    if absent:
        fix = f"set partition to one of: {known}"
        return bad("partition", f"there is no partition {', '.join(absent)}", fix)
    return names


def _partition_checks(
    profile: Profile, cluster: ClusterFacts, names: list[str]
) -> Iterator[Finding]:
    known = ", ".join(cluster.partitions)
    for name in names:
        row = cluster.partitions[name]
        state = row.get("State", "UP")
        if state == "UP":
            yield good("partition", f"{name} is up, {row.get('TotalNodes', '?')} nodes")
        else:
            fix = f"wait until it is up again, or set partition to another of: {known}"
            yield bad("partition", f"{name} is {state}", fix)
        limit = minutes_of(row.get("MaxTime", "UNLIMITED"))
        wanted = profile.minutes
        if limit is None:
            yield good("time limit", f"{name} has none")
        elif wanted is not None and wanted > limit:
            detail = f"minutes = {wanted}, and {name} allows {limit:g}"
            fix = f"set minutes = {int(limit)}" + (
                ": with requeue = true a longer trial saves, is requeued, and goes on"
                if profile.requeue
                else ", or requeue = true so that a longer trial goes on after its end"
            )
            yield bad("time limit", detail, fix)
        else:
            more = 2 if profile.requeue else 1
            asked = f"the study's trial_minutes + {more}" if wanted is None else f"{wanted} min"
            yield good("time limit", f"{asked} of at most {limit:g} min on {name}")


def _node_checks(profile: Profile, nodes: list[NodeGroup]) -> Iterator[Finding]:
    num = sum(group.count for group in nodes)
    usable = sum(group.count for group in nodes if group.usable)
    if usable < num:
        states = ", ".join(f"{g.names} {g.state}" for g in nodes if not g.usable)
        state = "warning" if usable else "missing"
        fix = "ask your administrator; until then fewer trials run at a time"
        yield Finding(AREA, "nodes", state, f"{usable} of {num} can run jobs ({states})", fix)
    else:
        yield good("nodes", f"all {num} can run jobs")
    if not nodes:
        return
    wanted_mb = None if profile.mem_gb is None else profile.mem_gb * _MB
    for name, key, wanted, most in (
        ("cores", "cores", float(profile.cores), float(max(g.cores for g in nodes))),
        ("memory", "mem_gb", wanted_mb, float(max(g.memory_mb for g in nodes))),
    ):
        unit, scale = ("", 1.0) if name == "cores" else (" GB", float(_MB))
        room = f"{most / scale:.4g}{unit}"
        if wanted is not None and wanted > most:
            detail = f"a task takes {wanted / scale:g}{unit}, the largest node has {room}"
            value = int(most) if name == "cores" else int(most / scale * 10) / 10
            yield bad(name, detail, f"set {key} = {value} or less")
        else:
            asked = "the cluster's default" if wanted is None else f"{wanted / scale:g}{unit}"
            yield good(name, f"a task takes {asked}, the largest node has {room}")
    yield _gpu_check(profile, nodes)
    fitting = [group for group in nodes if _fits(profile, group)]
    if fitting:
        tasks = sum(group.count * _tasks_on(profile, group) for group in fitting)
        where = ", ".join(group.names for group in fitting)
        yield good("fit", f"{tasks} tasks at a time at most, on {where}")
    else:
        fix = "lower cores, mem_gb or gpus until one node has all of them together"
        yield bad("fit", "no node has cores, memory, GPUs and features of a task together", fix)


def _gpu_check(profile: Profile, nodes: list[NodeGroup]) -> Finding:
    kinds: dict[str, int] = {}
    for group in nodes:
        for kind, count in group.gpus.items():
            kinds[kind] = max(kinds.get(kind, 0), count)
    there = ", ".join(f"{count} x {kind or 'gpu'}" for kind, count in kinds.items())
    if not profile.gpus and profile.gpu_type is not None:
        detail = f"gpu_type = {profile.gpu_type} and gpus = 0: trials run without a GPU"
        return doubtful("gpus", detail, "set gpus = 1 or more, or leave gpu_type out")
    if not profile.gpus:
        return good("gpus", f"none asked for; a node has {there or 'none'}")
    if not kinds:
        fix = "choose a partition with GPUs, or set gpus = 0"
        return bad("gpus", "the nodes of this partition have none", fix)
    if profile.gpu_type is not None and profile.gpu_type not in kinds:
        named = ", ".join(kind for kind in kinds if kind)
        fix = f"set gpu_type to one of: {named}" if named else "leave gpu_type out"
        return bad("gpus", f"there is no type {profile.gpu_type}; a node has {there}", fix)
    most = kinds[profile.gpu_type] if profile.gpu_type else max(kinds.values())
    if profile.gpus > most:
        detail = f"a task takes {profile.gpus}, a node has {there}"
        return bad("gpus", detail, f"set gpus = {most} or less")
    return good("gpus", f"a task takes {profile.gpus}, a node has {there}")


def _tasks_on(profile: Profile, group: NodeGroup) -> int:
    shares = [group.cores // profile.cores]
    if profile.mem_gb:
        shares.append(int(group.memory_mb // (profile.mem_gb * _MB)))
    if profile.gpus:
        kinds = group.gpus
        num = kinds.get(profile.gpu_type, 0) if profile.gpu_type else sum(kinds.values())
        shares.append(num // profile.gpus)
    return min(shares)


def _fits(profile: Profile, group: NodeGroup) -> bool:
    plain = profile.constraint is not None and profile.constraint.replace("_", "").isalnum()
    if plain and profile.constraint not in group.features:
        return False
    return group.usable and _tasks_on(profile, group) >= 1


def _accounting_check(cluster: ClusterFacts) -> Finding:
    code, text = cluster.run(["sacct", "-X", "-n", "-P", "-S", "now-1minutes", "-o", "JobID"])
    if code == 0 and not cluster.settings.get("AccountingStorageType", "").endswith("none"):
        return good("accounting", "sacct answers")
    said = text.splitlines()[0][:200] if text else "this cluster stores no accounting"
    fix = (
        "ask your administrator; without it the end of a task that left no status is seen "
        "only while squeue still shows it, and hours are the tasks' own"
    )
    return doubtful("accounting", said, fix)


def _preemption_check(profile: Profile, cluster: ClusterFacts, names: list[str]) -> Finding:
    settings = cluster.settings
    modes = {cluster.partitions[name].get("PreemptMode", "OFF").upper() for name in names}
    if settings.get("PreemptType", "preempt/none") == "preempt/none" or modes <= {"OFF"}:
        return good("preemption", "jobs of this partition are not preempted")
    mode = ", ".join(sorted(modes))
    graces = sorted({cluster.partitions[name].get("GraceTime", "0") for name in names})
    warned = "preempt_send_user_signal" in settings.get("SlurmctldParameters", "")
    detail = f"mode {mode}, grace time {'/'.join(graces)} s"
    if "REQUEUE" in modes and not profile.requeue:
        fix = "requeue = true saves the work: SLURM starts the same task again, and it goes on"
        return doubtful("preemption", f"{detail}; requeue = false", fix)
    if graces == ["0"]:
        fix = "ask your administrator for a GraceTime; work since the last save is lost until then"
        return doubtful("preemption", f"{detail}: a task has no time to save", fix)
    if not warned:
        fix = "ask for SlurmctldParameters=preempt_send_user_signal, which warns tasks earlier"
        return doubtful("preemption", f"{detail}, and the only warning is SIGTERM", fix)
    return good("preemption", f"{detail}; a task is warned, saves, and goes on after it")


def _slots_check(profile: Profile) -> Finding:
    if profile.slots_file is None:
        return good("slots file", "none: drivers do not know of each other")
    folder = Path(profile.slots_file).expanduser().parent
    if folder.is_dir():
        return good("slots file", profile.slots_file)
    fix = f"make the folder, on a file system that all login nodes share: mkdir -p {folder}"
    return bad("slots file", f"{folder} does not exist", fix)


def request_words(profile: Profile) -> list[str]:
    """Return the options of sbatch for what one task of a profile asks."""
    words = [f"--cpus-per-task={profile.cores}", "--ntasks=1"]
    named = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "time": profile.minutes,
        "mem": None if profile.mem_gb is None else f"{round(profile.mem_gb * _MB)}M",
    }
    words += [f"--{name}={value}" for name, value in named.items() if value is not None]
    if profile.gpus:
        kind = f"{profile.gpu_type}:" if profile.gpu_type else ""
        words.append(f"--gres=gpu:{kind}{profile.gpus}")
    for name, value in profile.sbatch.items():
        words.append(f"--{name}" if value is True else f"--{name}={value}")
    return words


def _request_check(profile: Profile, cluster: ClusterFacts) -> Finding:
    words = ["sbatch", "--test-only", *request_words(profile), "--wrap=true"]
    code, text = cluster.run(words)
    said = text.removeprefix("sbatch: ").splitlines()[-1][:200] if text else ""
    if code == 0:
        return good("request", said or "sbatch would take it")
    fix = f"change what it names; try it with: {' '.join(words)}"
    return bad("request", f"sbatch refuses one task: {said}", fix)
