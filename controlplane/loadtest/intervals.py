"""Confidence intervals that assume nothing of what is measured. Values in, values out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.special import betaincinv

#: How sure every interval here is to hold the truth.
CONFIDENCE = 0.95


def shares(counts: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """For each of the names an interval for its true share; all of them together hold the truth with CONFIDENCE at least.

    Clopper and Pearson's exact intervals: at least as sure as said for every number of requests and every share, 0 and 1
    included, where the usual approximations (Wilson's, Wald's) fall short for some. Bonferroni's correction for several
    names, so that a split of ten is not said to be wrong because one in twenty intervals always is.
    """
    total = sum(counts.values())
    alpha = (1 - CONFIDENCE) / max(1, len(counts))
    return {name: _clopper_pearson(count, total, alpha) for name, count in counts.items()}


def _clopper_pearson(count: int, total: int, alpha: float) -> tuple[float, float]:
    low = float(betaincinv(count, total - count + 1, alpha / 2)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 1 - alpha / 2)) if count < total else 1.0
    return low, high


def median(values: Sequence[float]) -> tuple[float, float, float] | None:
    """The median of the values, and an interval for the true one; None when there are too few (5) to be sure of any.

    From the order of the values alone: the k-th smallest and the k-th largest, where fewer than k of n tosses of a coin show
    heads with (1 − CONFIDENCE) / 2 at most. So it holds whatever the distribution, as long as the values are independent.
    """
    ordered = sorted(values)
    count = len(ordered)
    below, k = 0.0, 0
    while k < count and (below := below + math.comb(count, k) / 2**count) <= (1 - CONFIDENCE) / 2:
        k += 1
    if k == 0:
        return None
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle, ordered[k - 1], ordered[count - k]
