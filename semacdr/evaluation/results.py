"""The files that an evaluation leaves in a run folder, and the table that it prints.

metrics.json              ``{protocol: {domain: {metric: mean}}}``, over the protocols evaluated so far
metrics_long.json         rows like a leaderboard's, with subsets and intervals
ranks-PROTOCOL-ON.parquet one row a target; predictions-PROTOCOL-ON.parquet for ratings
evaluation.json           manifest: the run that was evaluated, and with what

Results on validation targets lie beside them, as ``metrics_valid.json`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from semacdr import __version__
from semacdr.data.schema import SplitName
from semacdr.evaluation.coverage import is_coverage
from semacdr.evaluation.evaluate import ALL, RESAMPLES, Result
from semacdr.evaluation.manifest import evaluation_name, protocols_of
from semacdr.evaluation.protocols import Protocol
from semacdr.files import file_sha256, fingerprint, read_json, write_atomic, write_json
from semacdr.run import WEIGHTS

FORMAT_VERSION = 1
TABLE_METRICS = ("ndcg@10", "hr@10", "mrr", "mse", "mae", "rmse")  # and coverage, where it was asked for
# Of a run's manifest: what a leaderboard row tells about the training.
TRAINING_COLUMNS = ("train_seconds", "train_cpu_seconds", "peak_rss_bytes", "parameters", "device")


def write_results(folder: Path, run: Mapping[str, Any], results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Writes results into a run folder, beside those of other protocols of the same run.

    Results of a run that has since been trained anew are dropped.

    Args:
        folder: the run folder.
        run: its manifest.
        results: of one part of the split, each of another protocol.
        seed: of the negatives.

    Returns:
        what ``metrics.json`` now holds.
    """
    on = results[0].on
    suffix = "" if on == "test" else f"_{on}"
    long_path, path = folder / f"metrics_long{suffix}.json", folder / f"metrics{suffix}.json"
    manifest_path = folder / evaluation_name(on)
    code = fingerprint({"run": dict(run), "weights": file_sha256(folder / WEIGHTS)})
    rows: list[dict[str, Any]] = []
    protocols: dict[str, Any] = {}
    before = read_json(manifest_path) if manifest_path.is_file() else None
    if isinstance(before, dict) and before.get("run") == code:
        new = {result.protocol.name for result in results}
        protocols = {name: entry for name, entry in protocols_of(before, manifest_path).items() if name not in new}
        rows = [row for row in read_json(long_path) if row["protocol"] in protocols]
    else:
        for old in (path for kind in ("ranks", "predictions") for path in folder.glob(f"{kind}-*-{on}.parquet")):
            old.unlink()
    # The manifest goes first and comes last, so that a kill in between leaves nothing that looks whole.
    manifest_path.unlink(missing_ok=True)
    training = {column: run.get("result", {}).get(column) for column in TRAINING_COLUMNS}
    for result in results:
        ranks = folder / table_name(result.protocol, on)
        write_atomic(ranks, partial(result.per_user.to_parquet, index=False))
        rows += [{**row, "trials": 1, **training} for row in result.rows()]
        protocols[result.protocol.name] = {
            "file": ranks.name,
            "negatives_seed": seed if result.protocol.num_negatives is not None else None,
            "coverage": sorted({row["metric"] for row in result.statistics if is_coverage(row["metric"])}),
        }
    metrics: dict[str, Any] = {}
    for row in rows:
        if row["subset"] == ALL:
            metrics.setdefault(row["protocol"], {}).setdefault(row["domain"], {})[row["metric"]] = row["mean"]
    write_json(long_path, rows)
    write_json(path, metrics)
    write_json(
        manifest_path,
        {
            "format_version": FORMAT_VERSION,
            "semacdr": __version__,
            "run": code,
            "on": on,
            "bootstrap_resamples": RESAMPLES,
            "protocols": protocols,
        },
    )
    return metrics


def format_table(result: Result) -> str:
    """The overall means and those of each domain, then the subsets, each with its 95 % interval over users."""
    there = list(dict.fromkeys(row["metric"] for row in result.statistics))
    shown = [name for name in TABLE_METRICS if name in there] + [name for name in there if is_coverage(name)]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in result.statistics:
        line = cells.setdefault((row["subset"], row["domain"]), {"users": str(row["n_users"])})
        interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.4f}, {row['ci_high']:.4f}]"
        line[row["metric"]] = f"{row['mean']:.4f}{interval}"
    order = sorted(cells, key=lambda name: name[0] != ALL)  # stable: the subsets keep their order
    label = {name: name[1] if name[0] == ALL else f"{name[0]}, {name[1]}" for name in order}
    wide = max([len(text) for text in label.values()], default=0)
    lines = [
        f"{result.model} on {result.dataset}, {result.split}, {result.on}: {result.protocol.name}",
        f"{'':{wide}}  {'users':>7}" + "".join(f"  {metric:<24}" for metric in shown).rstrip(),
    ]
    for name in order:
        numbers = "".join(f"  {cells[name].get(metric, ''):<24}" for metric in shown).rstrip()
        lines.append(f"{label[name]:{wide}}  {cells[name]['users']:>7}{numbers}")
    return "\n".join([*lines, *_fewer(result)])


def _fewer(result: Result) -> list[str]:
    """A line for each domain that has fewer negatives than the protocol asks for."""
    wanted = result.protocol.num_negatives
    rows = {row["domain"]: row for row in result.statistics if row["subset"] == ALL and row["domain"] != ALL}
    return [
        f"{domain}: only {row['candidates_min']} to {row['candidates_max']} negatives, all unseen items there are"
        for domain, row in rows.items()
        if wanted is not None and row["candidates_min"] < wanted
    ]


def ranks_name(protocol: str, on: SplitName) -> str:
    """File name of the per-user ranks."""
    return f"ranks-{protocol}-{on}.parquet"


def table_name(protocol: Protocol, on: SplitName) -> str:
    """File name of the ranks, or of the predictions of a rating model."""
    return predictions_name(protocol.name, on) if protocol.rates else ranks_name(protocol.name, on)


def predictions_name(protocol: str, on: SplitName) -> str:
    """File name of predicted ratings."""
    return f"predictions-{protocol}-{on}.parquet"
