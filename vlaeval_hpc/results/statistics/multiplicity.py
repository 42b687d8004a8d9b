"""Many comparisons at once, and the highest of many numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each p: rejecting those below alpha errs anywhere in the family with at most alpha.

    Whatever the dependence between them. Source: S. Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def letters(order: Sequence[str], different: Collection[tuple[str, str]]) -> dict[str, str]:
    """Compact letter display: two names share a letter exactly where they are not `different`.

    `order` lists the names from the best: the first letters go to the first names. `different` holds each pair in
    either order. Beyond 26 letters come a2, b2 and so on.
    Source: H.-P. Piepho 2004, Journal of Computational and Graphical Statistics 13:456, doi:10.1198/1061860043515.
    """
    groups: list[frozenset[str]] = [frozenset(order)]
    for one, other in different:
        split = [part for g in groups for part in ([g - {one}, g - {other}] if {one, other} <= g else [g])]
        groups = []
        for group in sorted(set(split), key=len, reverse=True):  # a group within another says nothing more
            if not any(group <= kept for kept in groups):
                groups.append(group)
    rank = {name: number for number, name in enumerate(order)}
    groups.sort(key=lambda group: sorted(map(rank.__getitem__, group)))
    names = [chr(ord("a") + i % 26) + (str(i // 26 + 1) if i >= 26 else "") for i in range(len(groups))]
    return {name: "".join(n for n, group in zip(names, groups, strict=True) if name in group) for name in order}


def optimism(columns: Sequence[Sequence[float]]) -> float:
    """By how much the highest mean of `columns` is expected to exceed its true value, were all true values equal.

    The columns are several policies' results over the same episodes, in the same order. What varies is the residual
    once policy and episode are taken out (a two-way table without replicates), since an episode that is easy for all
    lifts no one above the others; times what the highest of k standard normals is expected to be. Where true values
    differ it is less, so this is a bound to be careful by, not a correction to subtract.
    Source: H. L. Harter 1961, Biometrika 48:151, doi:10.1093/biomet/48.1-2.151 (the highest of k).
    """
    import numpy as np
    from scipy.integrate import trapezoid
    from scipy.special import ndtr

    table = np.array(columns, dtype=np.float64)
    policies, episodes = table.shape
    if policies < 2 or episodes < 2:
        return 0.0
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    variance = float((residual**2).sum()) / ((policies - 1) * (episodes - 1))
    x = np.linspace(0.0, 9.0, 9001)
    highest = float(trapezoid(1 - ndtr(x) ** policies - ndtr(-x) ** policies, x))
    return highest * float(np.sqrt(variance / episodes))
