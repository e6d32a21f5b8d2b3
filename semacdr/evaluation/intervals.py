"""Confidence intervals of means over targets, by resampling users."""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import BoolArray, Float64Array, Int32Array

USERS_AT_ONCE = 2_048


def bootstrap_means(
    user: Int32Array, values: Float64Array, inside: BoolArray, resamples: int = 1_000, seed: int = 0
) -> Float64Array:
    """Means under the Poisson bootstrap over users.

    A resample gives every user, with all its targets, a Poisson(1) weight: users are independent, the targets of one
    user are not. The same weights serve every column, so differences between columns are paired.

    Args:
        user: (T,) user of each target.
        values: (T, M) metric values.
        inside: (T, S) whether a target belongs to a subset.
        resamples: R.
        seed: of the weights.

    Returns:
        (R, S, M) mean of each metric over each subset; NaN where a resample holds none of the subset.
    """
    members, code = np.unique(user, return_inverse=True)
    by_user = np.argsort(code, kind="stable")
    ends = np.searchsorted(code[by_user], np.arange(len(members)), side="right")
    metrics, subsets = values.shape[1], inside.shape[1]
    random = np.random.default_rng(seed)
    totals = np.zeros((resamples, subsets * (1 + metrics)))
    for first in range(0, len(members), USERS_AT_ONCE):
        last = min(first + USERS_AT_ONCE, len(members))
        rows = by_user[ends[first - 1] if first else 0 : ends[last - 1]]
        member = inside[rows].astype(np.float64)
        # For each target whether it counts in each subset, then its value of each metric there; summed for each user.
        columns = np.concatenate([member, (member[:, :, None] * values[rows, None]).reshape(len(rows), -1)], axis=1)
        starts = np.flatnonzero(np.diff(code[rows], prepend=-1))
        weights = random.poisson(1.0, (last - first, resamples)).astype(np.float64)
        totals += weights.T @ np.add.reduceat(columns, starts, axis=0)
    counts, sums = totals[:, :subsets, None], totals[:, subsets:].reshape(resamples, subsets, metrics)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def percentile_interval(means: Float64Array, level: float = 0.95) -> tuple[Float64Array, Float64Array]:
    """The central ``level`` of the resampled means along axis 0: its lower and upper end."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return low, high
