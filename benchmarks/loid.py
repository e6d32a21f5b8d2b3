"""LoID on small review sets: do plug-ins of other domains help, and how much does a leaking review?

Each target and seed: the mean, biases, LoID without a plug-in, with one, with two, and the faithful form, in which the
pair's own review may be read. The seed is that of the split, too. Finished runs are skipped, a killed one goes on; the
results are written after each. Test ratings are read once, when a training has ended.

    semacdr data convert --format table --input RAW --output data/reviews
    python benchmarks/loid.py --dataset data/reviews --work runs/loid

``--sweep rank``, ``--sweep triplet_weight`` or ``--sweep k`` runs the paper's values of one setting instead, from a
config (``--config loid/paper/LoID.yaml``), for whoever owns its data.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from semacdr.config import parse_pairs, read_yaml
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from semacdr.evaluation.ratings import OWN_REVIEW, PROTOCOLS, RATING, errors, evaluate_ratings
from semacdr.evaluation.results import table_name, write_results
from semacdr.files import read_json, write_json, write_text
from semacdr.progress import say
from semacdr.rating_run import load_rating_run
from semacdr.resources import find_config
from semacdr.run import read_run
from semacdr.training.plugins import pretrain_plugin
from semacdr.training.rating import train_rating

RESULTS = Path(__file__).parent / "results"
TARGETS = ("fashion", "magazines")
SOURCES = ("all_beauty", "gift_cards")
# Chosen for cost on two cores; the learning rate by the validation part of magazines, seed 0, without a trained LoRA.
COMMON: dict[str, Any] = {"precision": "bf16", "device": "cpu", "warmup_steps": 10, "final_rate": 0.1, "patience": 3}
PLUGIN = {**COMMON, "rank": 8, "max_tokens": 48, "batch_size": 32, "learning_rate": 1e-3, "epochs": 5}
LOID = {**COMMON, "rank": 8, "max_tokens": 32, "k": 3, "batch_size": 16, "learning_rate": 3e-4}
EPOCHS = {"fashion": 8, "magazines": 4}
PLAIN, FAITHFUL = "LoID", "LoID, faithful"
SWEEPS: dict[str, tuple[float, ...]] = {
    "rank": (16, 24, 32, 40, 48),
    "triplet_weight": (0.2, 0.3, 0.4, 0.5),
    "k": (3, 5, 7, 10),
}


def variants(plugins: dict[str, Path]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of a variant -> model and its settings."""
    paths = [str(plugins[source]) for source in SOURCES]
    return {
        "predicting the mean": ("GlobalMean", {}),
        "biases": ("Biases", {}),
        PLAIN: ("LoID", LOID),
        f"LoID({SOURCES[0]})": ("LoID", {**LOID, "plugins": paths[:1]}),
        f"LoID({' & '.join(SOURCES)})": ("LoID", {**LOID, "plugins": paths}),
        FAITHFUL: ("LoID", {**LOID, "faithful": True}),
    }


def run_cell(dataset: Path, out: Path, model: str, settings: dict[str, Any], leaks: bool) -> Path:
    """Trains and evaluates one run; done work is kept."""
    train_rating(model, dataset, out, settings)
    if not (out / "evaluation.json").is_file():
        loaded = load_rating_run(out)
        names = (RATING, OWN_REVIEW) if leaks else (RATING,)
        results = [evaluate_ratings(loaded.model, loaded.dataset, loaded.data, name) for name in names]
        write_results(out, loaded.manifest, results, 0)
    return out


def folder_of(work: Path, target: str, variant: str, seed: int) -> Path:
    plain = "".join(letter if letter.isalnum() else "-" for letter in variant.lower()).strip("-")
    return work / target / f"{plain}-{seed}"


def squared_errors(run: Path, protocol: str) -> pd.DataFrame:
    """The pairs of a run with their squared error."""
    frame = pd.read_parquet(run / table_name(PROTOCOLS[protocol], "test"))
    return frame.assign(squared=errors(frame)[:, 0], absolute=errors(frame)[:, 1])


def summary(runs: list[Path], protocol: str, against: list[Path] | None) -> dict[str, Any]:
    """Means over the seeds, with the interval of a bootstrap over users, who may stand in several seeds' test parts."""
    frames = [squared_errors(run, protocol) for run in runs]
    both = pd.concat(frames, ignore_index=True)
    values = [both["squared"].to_numpy()]
    if against:
        plain = pd.concat([squared_errors(run, RATING) for run in against], ignore_index=True)
        assert (plain[["user_id", "item_id"]] == both[["user_id", "item_id"]]).all().all()
        values.append(both["squared"].to_numpy() - plain["squared"].to_numpy())
    user = pd.factorize(both["user_id"])[0].astype(np.int32)
    inside = np.ones((len(both), 1), np.bool_)
    low, high = percentile_interval(bootstrap_means(user, np.stack(values, 1), inside))
    by_seed = [float(frame["squared"].mean()) for frame in frames]
    row: dict[str, Any] = {
        "mse": float(np.mean(by_seed)),
        "std": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        "ci_low": float(low[0, 0]),
        "ci_high": float(high[0, 0]),
        "mae": float(both["absolute"].mean()),
        "rmse": float(both["squared"].mean() ** 0.5),
        "by_seed": by_seed,
        "pairs": len(both),
        "users": int(user.max()) + 1,
    }
    if against:
        row["against_plain"] = {
            "difference": float(values[1].mean()),
            "ci_low": float(low[0, 1]),
            "ci_high": float(high[0, 1]),
        }
    return row


def curve(run: Path) -> list[dict[str, float]]:
    """Training loss and validation error by epoch."""
    log = run / "metrics.jsonl"
    if not log.is_file():
        return []
    lines = pd.read_json(log, lines=True)
    return [
        {"epoch": int(epoch), "loss": round(float(loss), 4), "valid_mse": round(float(valid["all"]), 4)}
        for epoch, loss, valid in zip(lines["epoch"], lines["loss"], lines["valid_mse"])
    ]


def cost(run: Path) -> dict[str, Any]:
    manifest = read_run(run)
    return {key: manifest["result"].get(key) for key in ("train_cpu_seconds", "peak_rss_bytes", "trained_parameters")}


def collect(work: Path, plugins: dict[str, Path], seeds: list[int]) -> dict[str, Any]:
    """All that is finished."""
    rows, curves, costs = [], {}, {}
    for target in TARGETS:
        done: dict[str, list[Path]] = {}
        for variant in variants(plugins):
            runs = [folder_of(work, target, variant, seed) for seed in seeds]
            done[variant] = [run for run in runs if (run / "evaluation.json").is_file()]
            for run in done[variant]:
                curves[f"{target}/{run.name}"] = curve(run)
                costs[f"{target}/{run.name}"] = cost(run)
        for variant, runs in done.items():
            plain = done[PLAIN] if len(done[PLAIN]) == len(runs) and variant != PLAIN else None
            if not runs:
                continue
            head = {"target": target, "variant": variant, "seeds": len(runs)}
            rows.append({**head, "protocol": RATING, **summary(runs, RATING, plain)})
            if variant == FAITHFUL:
                rows.append({**head, "protocol": OWN_REVIEW, **summary(runs, OWN_REVIEW, plain)})
    pre = {
        source: {"curve": curve(path), **cost(path)}
        for source, path in plugins.items()
        if (path / "run.json").is_file()
    }
    return {
        "runs": [len(costs), len(TARGETS) * len(variants(plugins)) * len(seeds)],
        "settings": {"loid": LOID, "epochs": EPOCHS, "plugin": PLUGIN},
        "rows": rows,
        "plugins": pre,
        "costs": costs,
        "curves": {name: points for name, points in curves.items() if points},
    }


def table(found: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = ["# LoID on amazon2018_reviews_small", "", __doc__.strip().split("\n\n")[1], ""]
    finished, planned = found["runs"]
    if finished < planned:
        lines += [f"Unfinished: {finished} of {planned} runs are here.", ""]
    for target in TARGETS:
        rows = [row for row in found["rows"] if row["target"] == target]
        if not rows:
            continue
        lines += [
            f"## {target}",
            "",
            "| model | protocol | seeds | mse [95 %] | sd over seeds | mae | mse - LoID's |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            other = row.get("against_plain")
            less = f"{other['difference']:+.3f} [{other['ci_low']:+.3f}, {other['ci_high']:+.3f}]" if other else ""
            spread = "" if row["std"] is None else f"{row['std']:.3f}"
            lines.append(
                f"| {row['variant']} | {row['protocol']} | {row['seeds']} | {row['mse']:.3f} [{row['ci_low']:.3f}, "
                f"{row['ci_high']:.3f}] | {spread} | {row['mae']:.3f} | {less} |"
            )
        lines += ["", f"{rows[0]['pairs']} test ratings of {rows[0]['users']} users over the seeds.", ""]
    return "\n".join(lines)


def write(work: Path, plugins: dict[str, Path], seeds: list[int]) -> None:
    found = collect(work, plugins, seeds)
    write_json(RESULTS / "loid.json", found)
    notes = RESULTS / "loid_notes.md"
    write_text(RESULTS / "loid.md", table(found) + (notes.read_text() if notes.is_file() else ""))


def experiments(dataset: Path, work: Path, seeds: list[int]) -> None:
    plugins = {source: work / "plugins" / source for source in SOURCES}
    for source, path in plugins.items():
        pretrain_plugin(dataset, source, path, PLUGIN)
    for seed in seeds:
        for target in TARGETS:
            for variant, (model, settings) in variants(plugins).items():
                place = {"domain": target, "seed": seed, "split_seed": seed}
                if model == "LoID":
                    place["epochs"] = EPOCHS[target]
                say(f"{target}, seed {seed}: {variant}")
                out = folder_of(work, target, variant, seed)
                run_cell(dataset, out, model, {**settings, **place}, variant == FAITHFUL)
                write(work, plugins, seeds)


def sweep(dataset: Path, work: Path, name: str, config: Path, pairs: list[str]) -> None:
    """Runs the paper's values of one setting and prints validation errors: a choice is made on nothing else."""
    values = {**read_yaml(find_config(config)), **parse_pairs(pairs)}
    for value in SWEEPS[name]:
        out = train_rating("LoID", dataset, work / f"{name}-{value}", {**values, name: value})
        print(f"{name}={value}: valid mse {read_json(out / 'run.json')['result']['valid_mse']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--report", action="store_true", help="train nothing, write the results of what is finished")
    parser.add_argument("--sweep", choices=SWEEPS)
    parser.add_argument("--config", type=Path, default=Path("loid/paper/LoID.yaml"))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings of a sweep, with domain=")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.sweep:
        sweep(args.dataset, args.work, args.sweep, args.config, args.set)
    elif args.report:
        write(args.work, {source: args.work / "plugins" / source for source in SOURCES}, args.seeds)
    else:
        experiments(args.dataset, args.work, args.seeds)


if __name__ == "__main__":
    main()
