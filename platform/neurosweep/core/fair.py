"""Divide what there is among those who want it."""

from __future__ import annotations

from collections.abc import Mapping


def fair_shares(total: int, demands: Mapping[str, int]) -> dict[str, int]:
    """Divide slots so that nobody can have more without somebody who has less losing one.

    Parameters
    ----------
    total
        Slots to divide.
    demands
        Name to the slots it could use, in the order in which single slots are given away.

    Returns
    -------
    dict
        Name to its share; never above its demand, together never above `total`.
    """
    shares = dict.fromkeys(demands, 0)
    left = max(total, 0)
    while left:
        hungry = [name for name in demands if shares[name] < demands[name]]
        if not hungry:
            break
        each = max(left // len(hungry), 1)
        for name in hungry[:left]:
            given = min(each, demands[name] - shares[name], left)
            shares[name] += given
            left -= given
    return shares
