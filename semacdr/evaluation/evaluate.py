"""The evaluation of a model on held-out targets: means, subsets, intervals, and the ranks of every user.

A mean over domain ``all`` is the mean over all targets, whatever their domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, Int64Array, SplitName
from semacdr.data.splits import Examples, Split
from semacdr.errors import InputError
from semacdr.evaluation.coverage import FULL, coverage, covered_items, metric_name
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from semacdr.evaluation.metrics import DEFAULT_METRICS, metric_values
from semacdr.evaluation.negatives import DEFAULT_SEED, negative_lists
from semacdr.evaluation.pairs import ranges
from semacdr.evaluation.protocols import Protocol, get_protocol
from semacdr.evaluation.ranker import rank
from semacdr.models.base import Recommender
from semacdr.progress import Progress

ALL = "all"
RESAMPLES = 1_000
# Upper ends of the buckets, by training events of the target and by the user's events in the target's domain.
ITEM_BUCKETS = (0, 5, 20)
USER_BUCKETS = (0, 2, 5)


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        dataset: name of the data set.
        split: how the data were divided, for example ``leave-one-out``.
        on: ``valid`` or ``test``.
        protocol: which items competed.
        model: name of the model.
        statistics: one row for each subset, domain and metric.
        per_user: one row for each target: ``user_id, item_id, domain, greater, ties, candidates, history_length,
            domain_history_length, item_train_count, strict``.
    """

    dataset: str
    split: str
    on: SplitName
    protocol: Protocol
    model: str
    statistics: list[dict[str, Any]]
    per_user: pd.DataFrame

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """``{domain: {metric: mean}}`` over all users, the domain ``all`` first."""
        means: dict[str, dict[str, float]] = {}
        for row in self.statistics:
            if row["subset"] == ALL:
                means.setdefault(row["domain"], {})[row["metric"]] = row["mean"]
        return means

    def rows(self) -> list[dict[str, Any]]:
        """Rows in the shape of a leaderboard's; ``std`` is the spread over seeds, which one run does not have."""
        named = {"dataset": self.dataset, "split": self.split, "on": self.on, "protocol": self.protocol.name}
        return [
            {
                **named,
                "subset": row["subset"],
                "model": self.model,
                "domain": row["domain"],
                "metric": row["metric"],
                "mean": row["mean"],
                "std": None,
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "seeds": 1,
                "n_users": row["n_users"],
                "n_targets": row["n_targets"],
                "candidates_min": row["candidates_min"],
                "candidates_max": row["candidates_max"],
                "source": "measured",
                "status": "ok",
            }
            for row in self.statistics
        ]


def evaluate(
    model: Recommender,
    dataset: Dataset,
    split: Split,
    protocol: str | Protocol = "full",
    on: SplitName = "test",
    metrics: Sequence[str] = DEFAULT_METRICS,
    seed: int = DEFAULT_SEED,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
    coverage_at: Sequence[int] = (),
) -> Result:
    """Ranks the held-out targets of a split and sums up.

    Args:
        model: a trained model.
        dataset: the data.
        split: how they were divided for the training of the model.
        protocol: which items compete.
        on: ``test``, to be read once, or ``valid``, on which choices are made.
        metrics: see :func:`semacdr.evaluation.metrics.metric_values`.
        seed: of the negatives of a sampled protocol.
        resamples: of the bootstrap over users.
        progress: counts the targets that are ranked, and is closed.
        coverage_at: the k of coverage@k, which takes a second pass; under protocol ``full`` alone.

    Raises:
        InputError: an unknown protocol or metric, no target, targets that the protocol cannot rank, or coverage under
            another protocol.
        SemacdrError: the model gives scores that are not numbers.
    """
    protocol = get_protocol(protocol)
    metric_values(np.zeros(0, np.int32), np.zeros(0, np.int32), metrics)  # a wrong name ends it before the work
    if coverage_at and protocol != FULL:
        raise InputError(f"coverage is of the whole list, and protocol {protocol.name} has another", fix="full")
    examples = split.examples(on)
    if not len(examples):
        raise InputError(f"no {on} targets to rank under {split.name}", where=dataset.name)
    negatives = None
    if protocol.num_negatives is not None:
        negatives = negative_lists(dataset, examples, on, protocol, seed)
    ranks = rank(
        model, examples, dataset.item_domain, protocol, negatives, progress=progress, train_count=split.train_count
    )
    if progress:
        progress.close()
    target_domain = dataset.item_domain[examples.target]
    per_user = pd.DataFrame(
        {
            "user_id": dataset.user_ids[examples.user],
            "item_id": dataset.item_ids[examples.target],
            "domain": np.array(dataset.domains, dtype=object)[target_domain],
            "greater": ranks.greater,
            "ties": ranks.ties,
            "candidates": ranks.candidates,
            "history_length": (examples.stop - examples.start).astype(np.int32),
            "domain_history_length": _domain_history(dataset, examples).astype(np.int32),
            "item_train_count": split.train_count[examples.target].astype(np.int32),
            "strict": examples.strict,
        }
    )
    values = np.stack(list(metric_values(ranks.greater, ranks.ties, metrics).values()), axis=1)
    statistics = _statistics(dataset, examples, per_user, metrics, values, resamples)
    statistics += _coverage(model, dataset, examples, coverage_at, statistics)
    return Result(dataset.name, split.name, on, protocol, type(model).__name__, statistics, per_user)


def _coverage(
    model: Recommender, dataset: Dataset, examples: Examples, ks: Sequence[int], others: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each domain and k; a share of a catalogue has no interval over users."""
    if not ks:
        return []
    covered = covered_items(model, examples, dataset.item_domain, ks)
    shares = coverage(covered, dataset.item_domain, dataset.domains, dataset.item_domain[examples.target])
    alike = {row["domain"]: row for row in others if row["subset"] == ALL}
    return [
        {**alike[domain], "metric": metric_name(k), "mean": share, "ci_low": None, "ci_high": None}
        for domain, values in shares.items()
        for k, share in zip(ks, values)
    ]


def subsets(per_user: pd.DataFrame, strict: bool) -> dict[str, BoolArray]:
    """Which targets belong to which subset: all, strict, and the cold buckets of items and of users.

    Args:
        per_user: see :class:`Result`.
        strict: whether the data tell later days apart, so that the strict subset means something.
    """
    members: dict[str, BoolArray] = {ALL: np.ones(len(per_user), np.bool_)}
    if strict:
        members["strict"] = per_user["strict"].to_numpy(np.bool_)
    members |= buckets("item", per_user["item_train_count"].to_numpy(), ITEM_BUCKETS)
    members |= buckets("user", per_user["domain_history_length"].to_numpy(), USER_BUCKETS)
    return members


def buckets(label: str, count: Int64Array, ends: Sequence[int]) -> dict[str, BoolArray]:
    """Which counts fall between the ends, by name: ``item 0``, ``item 1-5``, ``item 6-20``, ``item >20``."""
    members: dict[str, BoolArray] = {}
    lower = 0
    for end in ends:
        members[f"{label} {lower}-{end}" if lower < end else f"{label} {end}"] = (count >= lower) & (count <= end)
        lower = end + 1
    members[f"{label} >{ends[-1]}"] = count >= lower
    return members


def _domain_history(dataset: Dataset, examples: Examples) -> Int64Array:
    """(T,) events of the history in the target's domain."""
    row, at = ranges(examples.start, examples.stop)
    same = dataset.item_domain[examples.items[at]] == dataset.item_domain[examples.target][row]
    return np.bincount(row[same], minlength=len(examples))


def _statistics(
    dataset: Dataset,
    examples: Examples,
    per_user: pd.DataFrame,
    metrics: Sequence[str],
    values: np.ndarray,
    resamples: int,
) -> list[dict[str, Any]]:
    """One row for each subset, domain and metric that has a target."""
    domain = dataset.item_domain[examples.target]
    places = {ALL: np.ones(len(domain), np.bool_)}
    places |= {name: domain == index for index, name in enumerate(dataset.domains)}
    named = {
        (subset, place): inside & there
        for subset, inside in subsets(per_user, dataset.time_unit == "day").items()
        for place, there in places.items()
        if (inside & there).any()
    }
    means = bootstrap_means(examples.user, values, np.stack(list(named.values()), axis=1), resamples)
    low, high = percentile_interval(means)
    candidates = per_user["candidates"].to_numpy()
    return [
        {
            "subset": subset,
            "domain": place,
            "metric": metric,
            "mean": float(values[inside, column].mean()),
            "ci_low": float(low[row, column]),
            "ci_high": float(high[row, column]),
            "n_users": len(np.unique(examples.user[inside])),
            "n_targets": int(inside.sum()),
            "candidates_min": int(candidates[inside].min()),
            "candidates_max": int(candidates[inside].max()),
        }
        for row, ((subset, place), inside) in enumerate(named.items())
        for column, metric in enumerate(metrics)
    ]
