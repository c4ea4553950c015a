"""What a user may do on a cluster, against what a profile asks: the rights part of doctor."""

from __future__ import annotations

from collections.abc import Iterator

from neurosweep.cli.checks import Finding
from neurosweep.cli.cluster_facts import ClusterFacts
from neurosweep.exec.profiles import Profile

AREA = "cluster"


def good(name: str, detail: str) -> Finding:
    """Return that all is well."""
    return Finding(AREA, name, "ok", detail)


def bad(name: str, detail: str, fix: str) -> Finding:
    """Return that something must be changed."""
    return Finding(AREA, name, "missing", detail, fix)


def doubtful(name: str, detail: str, fix: str) -> Finding:
    """Return that something may go wrong."""
    return Finding(AREA, name, "warning", detail, fix)


def right_checks(
    profile: Profile, cluster: ClusterFacts, partitions: list[str]
) -> Iterator[Finding]:
    """Compare account, quality of service and sizes of arrays with what the user may have.

    Parameters
    ----------
    profile, cluster
        What is compared.
    partitions
        Those of the profile that exist.
    """
    yield from _account_checks(profile, cluster)
    yield _array_check(profile, cluster)
    yield _queue_check(profile, cluster, partitions)


def _account_checks(profile: Profile, cluster: ClusterFacts) -> Iterator[Finding]:
    enforced = cluster.settings.get("AccountingStorageEnforce", "none").lower()
    accounts = sorted({row["account"] for row in cluster.associations if row.get("account")})
    if profile.account is None:
        yield good("account", f"your default; you have {', '.join(accounts) or 'none registered'}")
    elif not accounts:
        if enforced in ("none", "(null)", ""):
            yield good("account", f"{profile.account}; accounts are not enforced here")
        else:
            fix = "ask your administrator for an account, or leave the key out"
            yield doubtful("account", "sacctmgr lists no account of yours", fix)
    elif profile.account in accounts:
        yield good("account", profile.account)
    else:
        state = "warning" if enforced in ("none", "(null)", "") else "missing"
        fix = f"set account to one of: {', '.join(accounts)}"
        yield Finding(AREA, "account", state, f"{profile.account} is not one of yours", fix)
    if profile.qos is not None:
        if cluster.qualities and profile.qos not in cluster.qualities:
            fix = f"set qos to one of: {', '.join(cluster.qualities)}"
            yield bad("qos", f"there is no qos {profile.qos}", fix)
        else:
            yield good("qos", profile.qos)


def _array_check(profile: Profile, cluster: ClusterFacts) -> Finding:
    largest = cluster.settings.get("MaxArraySize", "")
    if not largest.isdecimal():
        return doubtful("arrays", "the cluster does not say MaxArraySize", "ask for it")
    if profile.max_array <= int(largest):
        return good("arrays", f"max_array = {profile.max_array} of at most {largest}")
    detail = f"max_array = {profile.max_array}, and MaxArraySize is {largest}"
    return bad("arrays", detail, f"set max_array = {largest}")


def _queue_check(profile: Profile, cluster: ClusterFacts, partitions: list[str]) -> Finding:
    """Compare a round with the number of jobs that a user may have queued and running."""
    limits = _submit_limits(profile, cluster, partitions)
    if not limits or "limits" not in cluster.settings.get("AccountingStorageEnforce", "").lower():
        return good("queue", "no limit on your tasks in the queue is known")
    most, where = min(limits)
    detail = f"at most {most} jobs of yours at a time, waiting ones counted ({where})"
    if profile.max_array <= most:
        return good("queue", detail)
    fix = (
        f"keep trials_per_round at {most} or less, all your studies together, or ask your "
        f"administrator for more; max_array = {most} says that you know"
    )
    return doubtful("queue", f"{detail}; sbatch refuses a larger round", fix)


def _submit_limits(
    profile: Profile, cluster: ClusterFacts, partitions: list[str]
) -> list[tuple[int, str]]:
    rows = [
        row
        for row in cluster.associations
        if profile.account in (None, row.get("account"))
        and row.get("partition") in (None, "", *partitions)
    ]
    named = [
        (row.get(field, ""), f"{name} of your account")
        for row in rows
        for field, name in (("maxsubmit", "MaxSubmit"), ("grpsubmit", "GrpSubmit"))
    ]
    qualities = {profile.qos or row.get("defaultqos") or row.get("qos", "") for row in rows}
    qualities |= {cluster.partitions[name].get("QoS", "") for name in partitions}
    named += [
        (cluster.qualities.get(name, ""), f"MaxSubmitPU of qos {name}")
        for name in sorted(qualities)
        if name
    ]
    return [(int(limit), where) for limit, where in named if limit.isdecimal()]
