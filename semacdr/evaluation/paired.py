"""Whether one system ranks better than another: paired over users, seeds averaged first.

Each target's metric is averaged over the seeds of a system, so that the spread over seeds is not mistaken for one over
users; seeds are few, and their spread is shown apart. The targets of one user are not independent and move together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data.schema import Float64Array, Int64Array, SplitName
from semacdr.errors import InputError
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.results import ranks_name

TARGET = ("user_id", "item_id", "domain")
RESAMPLES = 10_000
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """A difference of means and how sure it is.

    Attributes:
        mean: of system A, and ``other`` of system B, over targets.
        difference: A minus B.
        ci_low: lower end of the central 95 % of the difference, by bootstrap over users, as ``ci_high`` is the upper.
        p_value: two-sided, by a sign-flip permutation over users.
        users: how many; ``targets`` they have.
    """

    mean: float
    other: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    users: int
    targets: int


def target_values(
    runs: Sequence[Path], protocol: str, metric: str = "ndcg@10", on: SplitName = "test"
) -> tuple[pd.DataFrame, Float64Array]:
    """Per-target values of the runs of one system, as ``semacdr evaluate`` left them.

    Returns:
        the targets (user_id, item_id, domain), and (R, T) values: a row a run.

    Raises:
        InputError: a run that is not evaluated under this protocol, or runs with different targets.
    """
    values = []
    targets: pd.DataFrame | None = None
    for run in runs:
        path = run / ranks_name(protocol, on)
        if not path.is_file():
            fix = f"semacdr evaluate {run} --protocol {protocol}"
            raise InputError(f"not evaluated under {protocol}", where=str(run), fix=fix)
        frame = pd.read_parquet(path)
        mine = frame[list(TARGET)]
        if targets is not None and not targets.equals(mine):
            raise InputError(f"other targets than in {runs[0]}", where=str(run), fix="compare runs on one split")
        targets = mine
        ranks = (frame["greater"].to_numpy(np.int32), frame["ties"].to_numpy(np.int32))
        values.append(metric_values(*ranks, [metric])[metric])
    if targets is None:
        raise InputError("no run to compare")
    return targets, np.stack(values)


def paired_test(
    values: Float64Array, other: Float64Array, user: Int64Array, resamples: int = RESAMPLES, seed: int = 0
) -> PairedTest:
    """Tests the difference between two systems on the same targets.

    Args:
        values: (T,) of system A, seeds averaged.
        other: (T,) of system B.
        user: (T,) user of each target, as numbers.
        resamples: of the bootstrap, and sign flips of the permutation.
        seed: of both.
    """
    gap = values - other
    everyone = np.ones((len(gap), 1), np.bool_)
    low, high = percentile_interval(bootstrap_means(user.astype(np.int32), gap[:, None], everyone, resamples, seed))
    code = np.unique(user, return_inverse=True)[1]
    return PairedTest(
        mean=float(values.mean()),
        other=float(other.mean()),
        difference=float(gap.mean()),
        ci_low=float(low[0, 0]),
        ci_high=float(high[0, 0]),
        p_value=sign_flip_p(np.bincount(code, weights=gap).astype(np.float64), resamples, seed),
        users=int(code.max()) + 1,
        targets=len(gap),
    )


def sign_flip_p(gaps: Float64Array, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p value of a sum of differences, if the sign of each user's were a fair coin.

    Args:
        gaps: (U,) each user's summed difference.
        resamples: random flips; the observed signs count as one more, so that p is never 0.
        seed: of the flips.
    """
    gaps = gaps[gaps != 0]  # a flip changes nothing about them
    if not len(gaps):
        return 1.0
    seen = abs(gaps.sum())
    slack = 1e-12 * np.abs(gaps).sum()  # sums of the same numbers in another order
    random = np.random.default_rng(seed)
    as_far = 0
    block = max(1, _VALUES_AT_ONCE // len(gaps))
    for start in range(0, resamples, block):
        signs = random.integers(0, 2, (min(block, resamples - start), len(gaps)), dtype=np.int8) * 2 - 1
        as_far += int((np.abs(signs @ gaps) >= seen - slack).sum())
    return (1 + as_far) / (1 + resamples)
