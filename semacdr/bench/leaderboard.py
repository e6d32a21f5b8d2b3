"""Rows of a leaderboard: means and spread over seeds, intervals over users, cost, status."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd

from semacdr.bench.config import Published
from semacdr.bench.systems import System
from semacdr.data.schema import BoolArray
from semacdr.evaluation.coverage import is_coverage
from semacdr.evaluation.evaluate import ALL, RESAMPLES, subsets
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from semacdr.evaluation.paired import frame_values, target_frames
from semacdr.evaluation.ratings import rating_subsets

RMSE = "rmse"

COLUMNS = (
    "dataset",
    "split",
    "protocol",
    "subset",
    "model",
    "domain",
    "metric",
    "mean",
    "std",
    "ci_low",
    "ci_high",
    "seeds",
    "n_users",
    "n_targets",
    "trials",
    "train_seconds",
    "train_cpu_seconds",
    "peak_rss_bytes",
    "parameters",
    "device",
    "epochs",
    "huge_pages",
    "source",
    "status",
    "note",
)
"""Of every row, in this order; what a row has nothing to say on is null."""


def _row(**values: Any) -> dict[str, Any]:
    return {column: values.get(column) for column in COLUMNS}


def system_rows(system: System, protocol: str) -> list[dict[str, Any]]:
    """The rows of a system under one protocol: one for each subset, domain and metric.

    The mean is over seeds; ``std`` is the standard deviation over seeds (n - 1), null for one seed. The interval is
    that of the mean over users, each target's value averaged over seeds first: the central 95 % of a bootstrap.
    """
    by_run = [{_key(row): row for row in run} for run in system.rows(protocol)]
    intervals = _intervals(system, protocol, list(by_run[0].values())) if len(by_run) > 1 else {}
    common = {"model": system.label, "trials": system.trials, "note": system.note, **system.cost()}
    rows = []
    for key, first in by_run[0].items():
        if not all(key in run for run in by_run):  # coverage, which not every run was asked for
            continue
        means = [run[key]["mean"] for run in by_run]
        low, high = intervals.get(key, (first["ci_low"], first["ci_high"]))
        rows.append(
            _row(
                **{name: first[name] for name in ("split", "protocol", "subset", "domain", "metric")},
                dataset=system.dataset,
                mean=fmean(means),
                std=stdev(means) if len(means) > 1 else None,
                ci_low=low,
                ci_high=high,
                seeds=len(means),
                n_users=first["n_users"],
                n_targets=first["n_targets"],
                source="measured",
                status="ok",
                **common,
            )
        )
    return rows


def failed_row(dataset: str, label: str, seed: int, error: str, domain: str | None = None) -> dict[str, Any]:
    """The row of a cell that failed: no number, its error as the status."""
    said = {"source": "measured", "status": error, "note": f"seed {seed}"}
    return _row(dataset=dataset, model=label, domain=domain, seeds=0, **said)


def published_rows(published: Iterable[Published]) -> list[dict[str, Any]]:
    """Rows of numbers from elsewhere."""
    return [
        _row(
            dataset=entry.dataset,
            split="published",
            protocol=entry.protocol,
            subset=ALL,
            model=entry.model,
            domain=domain,
            metric=metric,
            mean=value[0] if isinstance(value, tuple) else value,
            std=value[1] if isinstance(value, tuple) else None,
            seeds=entry.seeds,
            source="published",
            status="ok",
            note=entry.cite,
        )
        for entry in published
        for domain, metrics in entry.values.items()
        for metric, value in metrics.items()
    ]


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["subset"], row["domain"], row["metric"]


def _intervals(
    system: System, protocol: str, rows: list[dict[str, Any]]
) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Of several seeds' mean, for each row of one of them."""
    frames = target_frames(system.runs, protocol)
    rows = [row for row in rows if not is_coverage(row["metric"])]  # no target has a value of its own
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    squares = ["mse" if metric == RMSE else metric for metric in metrics]  # a root has no value of one target
    values = np.mean([frame_values(frame, squares) for frame in frames], axis=0)
    groups = list(dict.fromkeys((row["subset"], row["domain"]) for row in rows))
    inside = _members(frames[0], groups)
    user = pd.factorize(frames[0]["user_id"])[0].astype(np.int32)
    resampled = bootstrap_means(user, values, inside, RESAMPLES)
    for column, metric in enumerate(metrics):
        if metric == RMSE:
            resampled[:, :, column] **= 0.5
    low, high = percentile_interval(resampled)
    return {
        (subset, domain, metric): (float(low[row, column]), float(high[row, column]))
        for row, (subset, domain) in enumerate(groups)
        for column, metric in enumerate(metrics)
    }


def _members(frame: pd.DataFrame, groups: list[tuple[str, str]]) -> BoolArray:
    """(T, G) which targets are in which subset and domain."""
    of_subset = rating_subsets(frame) if "prediction" in frame else subsets(frame, strict=True)
    domain = frame["domain"].to_numpy()
    return np.stack([of_subset[subset] & ((domain == place) | (place == ALL)) for subset, place in groups], axis=1)
