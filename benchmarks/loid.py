"""LoID on small review sets: do plug-ins of other domains help, and how much does a leaking review?

Each target and seed: the mean, biases, LoID without a plug-in, with one, with two, and the faithful form, in which the
pair's own review may be read. The seed is that of the split, too. Finished runs are skipped, a killed one goes on; the
results are written after each. What a run came to is kept in results/loid_runs, so that another day or machine goes on
from there without its run folders. Test ratings are read once, when a training has ended.

    semacdr data convert --format table --input RAW --output data/reviews
    python benchmarks/loid.py --dataset data/reviews --work runs/loid

``--sweep rank``, ``--sweep triplet_weight`` or ``--sweep k`` runs the paper's values of one setting instead, from a
config (``--config loid/paper/LoID.yaml``), for whoever owns its data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from semacdr.config import parse_pairs, read_yaml
from semacdr.data.dataset import Dataset
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
EPOCHS = {"fashion": 8, "magazines": 2}  # about equally many steps
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
    return work / target / f"{plain(variant)}-{seed}"


def plain(variant: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in variant.lower()).strip("-")


def keep(run: Path, target: str, variant: str, seed: int) -> Path:
    """Puts what a finished run came to into a small file: errors of its test pairs, learning curve, cost.

    Of users it has their place in the data set, which says nothing without the data.
    """
    path = kept_file(target, variant, seed)
    if path.is_file() or not (run / "evaluation.json").is_file():
        return path
    protocols = {}
    for protocol in read_json(run / "evaluation.json")["protocols"]:
        frame = pd.read_parquet(run / table_name(PROTOCOLS[protocol], "test"))
        found = errors(frame)
        protocols[protocol] = {"squared": found[:, 0].tolist(), "absolute": found[:, 1].tolist()}
    names = "\n".join(frame["user_id"] + "\t" + frame["item_id"])
    place = {user: at for at, user in enumerate(Dataset.load(read_run(run)["dataset"]).user_ids.tolist())}
    kept = {
        "pairs": hashlib.sha256(names.encode()).hexdigest(),
        "users": [place[user] for user in frame["user_id"]],
        "protocols": protocols,
        "curve": curve(run),
        "cost": cost(run),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(kept, indent=None) + "\n")
    return path


def kept_file(target: str, variant: str, seed: int) -> Path:
    return RESULTS / "loid_runs" / target / f"{plain(variant)}-{seed}.json"


def summary(runs: list[dict[str, Any]], protocol: str, against: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Means over the seeds, with the interval of a bootstrap over users, who may stand in several seeds' test parts."""

    def joined(kept: list[dict[str, Any]], name: str, value: str) -> np.ndarray:
        return np.concatenate([run["protocols"][name][value] for run in kept])

    squared, absolute = (joined(runs, protocol, value) for value in ("squared", "absolute"))
    values = [squared]
    if against:
        assert [run["pairs"] for run in against] == [run["pairs"] for run in runs]
        values.append(squared - joined(against, RATING, "squared"))
    user = pd.factorize(np.concatenate([run["users"] for run in runs]))[0].astype(np.int32)
    inside = np.ones((len(user), 1), np.bool_)
    low, high = percentile_interval(bootstrap_means(user, np.stack(values, 1), inside))
    by_seed = [float(np.mean(run["protocols"][protocol]["squared"])) for run in runs]
    row: dict[str, Any] = {
        "mse": float(np.mean(by_seed)),
        "std": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        "ci_low": float(low[0, 0]),
        "ci_high": float(high[0, 0]),
        "mae": float(absolute.mean()),
        "rmse": float(squared.mean() ** 0.5),
        "by_seed": by_seed,
        "pairs": len(user),
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
        files = {
            variant: {seed: keep(folder_of(work, target, variant, seed), target, variant, seed) for seed in seeds}
            for variant in variants(plugins)
        }
        kept = {
            variant: {seed: read_json(path) for seed, path in found.items() if path.is_file()}
            for variant, found in files.items()
        }
        for variant, there in kept.items():
            for seed, run in there.items():
                name = f"{target}/{plain(variant)}-{seed}"
                curves[name], costs[name] = run["curve"], run["cost"]
        whole = [seed for seed in seeds if all(seed in there for there in kept.values())]  # rows compare like with like
        done = {variant: [there[seed] for seed in whole] for variant, there in kept.items()}
        for variant, runs in done.items():
            against = done[PLAIN] if variant != PLAIN else None
            if not runs:
                continue
            head = {"target": target, "variant": variant, "seeds": len(runs)}
            rows.append({**head, "protocol": RATING, **summary(runs, RATING, against)})
            if variant == FAITHFUL:
                rows.append({**head, "protocol": OWN_REVIEW, **summary(runs, OWN_REVIEW, against)})
    before = read_json(RESULTS / "loid.json")["plugins"] if (RESULTS / "loid.json").is_file() else {}
    here = {
        source: {"curve": curve(path), **cost(path)}
        for source, path in plugins.items()
        if (path / "run.json").is_file()
    }
    return {
        "runs": [len(costs), len(TARGETS) * len(variants(plugins)) * len(seeds)],
        "settings": {"loid": LOID, "epochs": EPOCHS, "plugin": PLUGIN},
        "rows": rows,
        "plugins": {**before, **here},
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
    for seed in seeds:
        for target in TARGETS:
            for variant, (model, settings) in variants(plugins).items():
                if kept_file(target, variant, seed).is_file():
                    continue
                for source, path in plugins.items() if "plugins" in settings else ():
                    pretrain_plugin(dataset, source, path, PLUGIN)
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
