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
from semacdr.evaluation.ratings import errors
from semacdr.evaluation.results import predictions_name, ranks_name

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
        effect_size: the mean of the users' mean differences over their standard deviation (Cohen's d of pairs).
        users: how many; ``targets`` they have.
    """

    mean: float
    other: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    effect_size: float
    users: int
    targets: int


def target_frames(runs: Sequence[Path], protocol: str, on: SplitName = "test") -> list[pd.DataFrame]:
    """The ranks, or predicted ratings, that ``semacdr evaluate`` left for the runs of one system, a frame a run.

    Raises:
        InputError: a run that is not evaluated under this protocol, or runs with different targets.
    """
    frames: list[pd.DataFrame] = []
    for run in runs:
        paths = (run / name for name in (ranks_name(protocol, on), predictions_name(protocol, on)))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            fix = f"semacdr evaluate {run} --protocol {protocol}"
            raise InputError(f"not evaluated under {protocol}", where=str(run), fix=fix)
        frames.append(pd.read_parquet(path))
        if not frames[0][list(TARGET)].equals(frames[-1][list(TARGET)]):
            raise InputError(f"other targets than in {runs[0]}", where=str(run), fix="compare runs on one split")
    if not frames:
        raise InputError("no run to compare")
    return frames


def frame_values(frame: pd.DataFrame, metrics: Sequence[str]) -> Float64Array:
    """(T, M) metric values of the targets of an evaluation; for ratings mse and mae, the errors of each.

    Raises:
        InputError: a metric that a target of this kind has no value of.
    """
    if "prediction" in frame:
        found = dict(zip(("mse", "mae"), errors(frame).T))
        wrong = [metric for metric in metrics if metric not in found]
        if wrong:
            raise InputError(f"a predicted rating has no {wrong[0]}", fix="valid: mse, mae")
        return np.stack([found[metric] for metric in metrics], axis=1)
    ranks = (frame["greater"].to_numpy(np.int32), frame["ties"].to_numpy(np.int32))
    return np.stack(list(metric_values(*ranks, metrics).values()), axis=1)


def target_values(
    runs: Sequence[Path], protocol: str, metric: str = "ndcg@10", on: SplitName = "test"
) -> tuple[pd.DataFrame, Float64Array]:
    """Per-target values of the runs of one system, as ``semacdr evaluate`` left them.

    Returns:
        the targets (user_id, item_id, domain), and (R, T) values: a row a run.

    Raises:
        InputError: a run that is not evaluated under this protocol, or runs with different targets.
    """
    frames = target_frames(runs, protocol, on)
    return frames[0][list(TARGET)], np.stack([frame_values(frame, [metric])[:, 0] for frame in frames])


def paired_test(
    values: Float64Array, other: Float64Array, user: Int64Array, resamples: int = RESAMPLES, seed: int = 0
) -> PairedTest:
    """Tests the difference between two systems on the same targets: one of :func:`paired_tests`."""
    return paired_tests(values[:, None], other, user, resamples, resamples, seed)[0]


def paired_tests(
    values: Float64Array,
    other: Float64Array,
    user: Int64Array,
    resamples: int = RESAMPLES,
    flips: int = RESAMPLES,
    seed: int = 0,
) -> list[PairedTest]:
    """Tests several systems against one on the same targets, with the same resamples for all.

    Args:
        values: (T, M) of the systems, seeds averaged.
        other: (T,) of the one.
        user: (T,) user of each target, as numbers.
        resamples: of the bootstrap.
        flips: of the permutation.
        seed: of both.
    """
    gap = values - other[:, None]
    everyone = np.ones((len(gap), 1), np.bool_)
    means = bootstrap_means(user.astype(np.int32), gap, everyone, resamples, seed)
    low, high = percentile_interval(means[:, 0])
    code = np.unique(user, return_inverse=True)[1]
    summed = np.stack([np.bincount(code, weights=column) for column in gap.T], axis=1).astype(np.float64)
    p_values = sign_flip_p_values(summed, flips, seed)
    users = len(summed)
    by_user = summed / np.bincount(code)[:, None]
    spread = by_user.std(axis=0, ddof=1) if users > 1 else np.zeros(gap.shape[1])
    effect = np.divide(by_user.mean(axis=0), spread, out=np.zeros(len(spread)), where=spread > 0)
    return [
        PairedTest(
            mean=float(values[:, at].mean()),
            other=float(other.mean()),
            difference=float(gap[:, at].mean()),
            ci_low=float(low[at]),
            ci_high=float(high[at]),
            p_value=float(p_values[at]),
            effect_size=float(effect[at]),
            users=users,
            targets=len(gap),
        )
        for at in range(gap.shape[1])
    ]


def sign_flip_p(gaps: Float64Array, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p value of a sum of differences: one of :func:`sign_flip_p_values`."""
    return float(sign_flip_p_values(gaps[:, None], resamples, seed)[0])


def sign_flip_p_values(gaps: Float64Array, resamples: int = RESAMPLES, seed: int = 0) -> Float64Array:
    """Two-sided p values of sums of differences, if the sign of each user's were a fair coin.

    Args:
        gaps: (U, M) each user's summed difference; the same flips serve every column.
        resamples: random flips; the observed signs count as one more, so that p is never 0.
        seed: of the flips.

    Returns:
        (M,) p values; 1 where nobody differs.
    """
    gaps = gaps[(gaps != 0).any(axis=1)]  # a flip changes nothing about the others
    seen = np.abs(gaps.sum(axis=0))
    slack = 1e-12 * np.abs(gaps).sum(axis=0)  # sums of the same numbers in another order
    random = np.random.default_rng(seed)
    as_far = np.zeros(gaps.shape[1])
    block = max(1, _VALUES_AT_ONCE // max(1, len(gaps)))
    for start in range(0, resamples, block):
        signs = random.integers(0, 2, (min(block, resamples - start), len(gaps)), dtype=np.int8) * 2 - 1
        as_far += (np.abs(signs.astype(np.float64) @ gaps) >= seen - slack).sum(axis=0)
    return (1 + as_far) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that may be held against one level for all tests of a family together.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is smaller than one before it, or over 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted
