"""The report of a side-by-side run: ratios of cost, and quality at equal epochs, as JSON and as a table."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from semacdr.evaluation.intervals import bootstrap_means, percentile_interval

TITLES = {"ours": "semacdr SASRec", "rectools": "RecTools SASRec", "recbole": "RecBole SASRec, anomaly mode off"}
TARGETS = {
    ("cpu", "rectools"): "at least 5",
    ("memory", "rectools"): "at least 2",
    ("cpu", "recbole"): "at least 12",
}
MIB = 1 << 20


def report(results: Path, header: dict[str, Any], work: Path, users: np.ndarray) -> str:
    """Writes ``side_by_side.json`` and ``.md`` from all measurements of this data set; returns the latter."""
    parts = {path.stem: json.loads(path.read_text()) for path in sorted((results / "side_by_side").glob("*.json"))}
    mine = header["dataset"]["fingerprint"]
    parts = {
        name: part
        for name, part in parts.items()
        if part["job"]["dataset_fingerprint"] == mine and part["job"]["model"].items() <= header["model"].items()
    }
    cost = _costs(parts)
    quality = [
        {"training": name, "contender": part["job"]["contender"], "seed": part["job"]["seed"], **epoch}
        for name, part in parts.items()
        if part["job"]["kind"] == "train"
        for epoch in part["epochs"]
    ]
    whole = {**header, "cost": cost, "quality": quality, "compared": _compare(quality, work, users), "runs": parts}
    (results / "side_by_side.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    text = _markdown(whole)
    (results / "side_by_side.md").write_text(text, encoding="utf-8")
    return text


def _costs(parts: dict[str, Any]) -> dict[str, Any]:
    """Per contender the median over its timings, and what the others take of ours."""
    cost: dict[str, Any] = {}
    for contender in TITLES:
        timings = [
            part for part in parts.values() if part["job"]["contender"] == contender and part["job"]["kind"] == "time"
        ]
        if timings:
            seconds = [part["cpu_s_per_epoch"] for part in timings]
            cost[contender] = {
                "cpu_s_per_epoch": statistics.median(seconds),
                "cpu_s_per_epoch_range": [min(seconds), max(seconds)],
                "peak_rss_bytes": max(part["peak_rss_bytes"] for part in timings),
                "prep_cpu_s": statistics.median(part["prep_cpu_s"] for part in timings),
                "targets_per_epoch": timings[0]["targets_per_epoch"],
                "steps_per_epoch": timings[0]["steps_per_epoch"],
                "measured": timings[0]["measured"],
                "repeats": len(timings),
            }
    for contender, entry in cost.items():
        if "ours" in cost and contender != "ours":
            ours = cost["ours"]
            entry["cpu_over_ours"] = entry["cpu_s_per_epoch"] / ours["cpu_s_per_epoch"]
            entry["memory_over_ours"] = entry["peak_rss_bytes"] / ours["peak_rss_bytes"]
    return cost


def _compare(quality: list[dict[str, Any]], work: Path, users: np.ndarray) -> list[dict[str, Any]]:
    """Ours over RecTools in ndcg@10 after the same epochs: mean over our seeds, interval by bootstrap over users."""
    compared = []
    for other in (row for row in quality if row["contender"] == "rectools"):
        ours = [row for row in quality if row["contender"] == "ours" and row["epoch"] == other["epoch"]]
        for protocol in other["scores"] if ours else ():
            files = [work / row["training"] / f"epoch{row['epoch']}" / f"{protocol}.npy" for row in (*ours, other)]
            means = [row["scores"][protocol]["all"]["ndcg@10"] for row in (*ours, other)]
            if means[-1] == 0:
                continue
            entry = {
                "epoch": other["epoch"],
                "rectools": other["training"],
                "protocol": protocol,
                "ours_over_rectools": statistics.mean(means[:-1]) / means[-1],
                "range_over_our_seeds": [min(means[:-1]) / means[-1], max(means[:-1]) / means[-1]],
            }
            if all(file.is_file() for file in files):
                values = [np.load(file) for file in files]
                pair = np.stack([np.mean(values[:-1], axis=0), values[-1]], axis=1)  # (T, 2)
                resampled = bootstrap_means(users, pair, np.ones((len(pair), 1)))[:, 0]
                resampled = resampled[resampled[:, 1] > 0]
                low, high = percentile_interval(resampled[:, 0] / resampled[:, 1])
                entry["interval_95"] = [float(low), float(high)]
            compared.append(entry)
    return compared


def _markdown(whole: dict[str, Any]) -> str:
    """The JSON's numbers as tables."""
    machine, model = whole["machine"], whole["model"]
    seen = {f"{k} {v}" for part in whole["runs"].values() for k, v in part["versions"].items()}
    loads = [part["load_average"]["before"][0] for part in whole["runs"].values() if "load_average" in part]
    lines = [
        "# The same SASRec, side by side",
        "",
        f"Command: `{whole['command']}`",
        "",
        f"Data: {whole['dataset']['name']}. Machine: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / (1 << 30):.0f} GiB; one thread a process; load average at the start of the runs "
        f"{min(loads, default=0):.1f} to {max(loads, default=0):.1f}, so CPU seconds and ratios count.",
        "Settings: " + ", ".join(f"{key} {value}" for key, value in model.items()) + ".",
        f"Versions: {', '.join(sorted(seen))}.",
        "",
        "## Cost",
        "",
        "| contender | CPU s / epoch | range | x ours | peak MiB | x ours | prep CPU s | targets / epoch | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for contender, entry in whole["cost"].items():
        low, high = entry["cpu_s_per_epoch_range"]
        ratios = [
            f"{entry[name]:.1f}{_wanted(name, contender)}" if name in entry else "1"
            for name in ("cpu_over_ours", "memory_over_ours")
        ]
        lines.append(
            f"| {TITLES[contender]} | {entry['cpu_s_per_epoch']:.1f} | {low:.1f}-{high:.1f} | {ratios[0]} "
            f"| {entry['peak_rss_bytes'] / MIB:.0f} | {ratios[1]} | {entry['prep_cpu_s']:.1f} "
            f"| {entry['targets_per_epoch']} | {entry['repeats']} times {entry['measured']} |"
        )
    lines += [
        "",
        "A target is an event predicted from those before it. Contenders differ in how many of them an epoch holds: "
        "RecTools keeps a sequence's newest events alone and drops the rest, ours and RecBole's learn every event.",
        "",
        "## Quality on the test targets (hr@10 / ndcg@10)",
        "",
    ]
    if whole["quality"]:
        cells = [(p, d) for p, domains in whole["quality"][0]["scores"].items() for d in domains]
        lines += [
            "| training | epoch | loss | CPU s | " + " | ".join(f"{p} {d}" for p, d in cells) + " |",
            "|---" * (4 + len(cells)) + "|",
        ]
        for row in whole["quality"]:
            values = [row["scores"][p][d] for p, d in cells]
            lines.append(
                f"| {row['training']} | {row['epoch']} | {row['loss']:.3f} | {row['cpu_s']:.0f} | "
                + " | ".join(f"{v['hr@10']:.4f} / {v['ndcg@10']:.4f}" for v in values)
                + " |"
            )
    lines += ["", "ndcg@10 over all targets, ours (mean of seeds) / RecTools, after the same number of epochs:", ""]
    for entry in whole["compared"]:
        low, high = entry.get("interval_95", (float("nan"), float("nan")))
        lines.append(
            f"- {entry['protocol']}, {entry['epoch']} epochs, {entry['rectools']}: {entry['ours_over_rectools']:.3f} "
            f"(95 % over users {low:.3f} to {high:.3f})"
        )
    return "\n".join(lines) + "\n"


def _wanted(name: str, contender: str) -> str:
    target = TARGETS.get((name.split("_")[0], contender))
    return f" (target: {target})" if target else ""
