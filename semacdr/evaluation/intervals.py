"""Confidence intervals of means over targets, by resampling users."""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import Float64Array, Int32Array

USERS_AT_ONCE = 2_048


def bootstrap_means(
    user: Int32Array, values: Float64Array, inside: Float64Array, resamples: int = 1_000, seed: int = 0
) -> Float64Array:
    """Means under the Poisson bootstrap over users.

    A resample gives every user, with all its targets, a Poisson(1) weight: users are independent, the targets of one
    user are not. The same weights serve every column, so differences between columns are paired.

    Args:
        user: (T,) user of each target.
        values: (T, M) metric values.
        inside: (T, S) 1 where a target belongs to a subset, else 0.
        resamples: R.
        seed: of the weights.

    Returns:
        (R, S, M) mean of each metric over each subset; NaN where a resample holds none of the subset.
    """
    members, code = np.unique(user, return_inverse=True)
    targets, metrics = values.shape
    subsets = inside.shape[1]
    # Per user: the number of its targets in each subset, then the sums of each metric over them.
    columns = np.concatenate([inside, (inside[:, :, None] * values[:, None, :]).reshape(targets, -1)], axis=1)
    per_user = np.zeros((len(members), columns.shape[1]))
    np.add.at(per_user, code, columns)
    random = np.random.default_rng(seed)
    totals = np.zeros((resamples, columns.shape[1]))
    for first in range(0, len(members), USERS_AT_ONCE):
        some = per_user[first : first + USERS_AT_ONCE]
        totals += random.poisson(1.0, (len(some), resamples)).astype(np.float64).T @ some
    counts, sums = totals[:, :subsets, None], totals[:, subsets:].reshape(resamples, subsets, metrics)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def percentile_interval(means: Float64Array, level: float = 0.95) -> tuple[Float64Array, Float64Array]:
    """The central ``level`` of the resampled means along axis 0: its lower and upper end."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return low, high
