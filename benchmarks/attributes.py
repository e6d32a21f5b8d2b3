"""Does a large model's answer on every item help SemaCDR? Content alone against content and attributes.

Both sides read one embedding table and have the same settings and seeds; they differ in ``views`` alone. Each run
folder is skipped when it is done and goes on where it stopped. Test targets are ranked once, when a training has ended.

    semacdr data convert --format urllm --input RAW --output data/ao
    semacdr profile import --dataset data/ao --store ao.sqlite --input RAW/llm_item_attributes.jsonl.gz \\
        --view attributes --model MODEL
    semacdr profile export --dataset data/ao --store ao.sqlite --out ao.parquet
    semacdr embed --dataset data/ao --profiles ao.parquet --out emb/ao
    python benchmarks/attributes.py --dataset data/ao --embeddings emb/ao --work runs/attributes
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from semacdr import api
from semacdr.evaluation.negatives import DEFAULT_SEED
from semacdr.evaluation.paired import paired_test, target_values
from semacdr.evaluation.results import ranks_name
from semacdr.files import read_json, write_json, write_text
from semacdr.progress import say

RESULTS = Path(__file__).parent / "results"
SIDES = {"content": ["content"], "content + attributes": ["content", "attributes"]}
PROTOCOLS = ("full", "sampled-999")
METRIC = "ndcg@10"
# Chosen for cost before any run: a sampled softmax and half the usual width; the same for both sides.
SETTINGS: dict[str, Any] = {
    "embedding_dim": 64,
    "ffn_dim": 128,
    "adapter_dim": 64,
    "dropout": 0.2,
    "num_negatives": 512,
    "batch_size": 64,
    "learning_rate": 0.002,
    "final_rate": 0.02,
    "patience": 2,
    "device": "cpu",
}
CAUTION = """\
What this can say and what not. 84 % of the attributes' words already stand in the items' titles and categories, and
none of them is free of its domain: they are short catalogue tags, of the kind that SemaCDR's domain-agnostic profiles
are meant to go beyond. So this bounds what profiles can bring from below; it is no verdict on them."""


def run_folder(work: Path, side: str, seed: int) -> Path:
    return work / f"{side.replace(' + ', '-')}-{seed}"


def finished(work: Path, seeds: list[int]) -> list[int]:
    """The seeds of which both sides are trained and ranked."""
    return [
        seed
        for seed in seeds
        if all((run_folder(work, side, seed) / ranks_name(p, "test")).is_file() for side in SIDES for p in PROTOCOLS)
    ]


def train_and_rank(args: argparse.Namespace) -> None:
    dataset, table = api.load(args.dataset), api.EmbeddingTable.load(args.embeddings)
    for seed in args.seeds:
        for side, views in SIDES.items():
            out = run_folder(args.work, side, seed)
            settings = {**SETTINGS, "epochs": args.epochs, "seed": seed, "views": views}
            say(f"== {side}, seed {seed}")
            api.train("SemaCDR", dataset, out, table, **settings)
            for protocol in PROTOCOLS:
                if not (out / ranks_name(protocol, "test")).is_file():
                    api.evaluate(out, protocol)
        report(args)


def report(args: argparse.Namespace) -> None:
    """Writes ``attributes.json`` and ``attributes.md`` from the seeds that are done on both sides."""
    seeds = finished(args.work, args.seeds)
    if not seeds:
        say("no seed is done on both sides yet")
        return
    runs = {side: [run_folder(args.work, side, seed) for seed in seeds] for side in SIDES}
    whole = {
        "dataset": read_json(args.dataset / "dataset.json")["name"],
        "embeddings": read_json(args.embeddings / "manifest.json")["views"],
        "settings": {**SETTINGS, "epochs": args.epochs},
        "seeds": seeds,
        "seeds_wanted": args.seeds,
        "negatives_seed": DEFAULT_SEED,
        "trainings": {side: [_training(run) for run in folders] for side, folders in runs.items()},
        "compared": [row for protocol in PROTOCOLS for row in _compare(runs, protocol)],
    }
    write_json(args.results / "attributes.json", whole)
    write_text(args.results / "attributes.md", markdown(whole))
    say(markdown(whole))


def _training(run: Path) -> dict[str, Any]:
    manifest = read_json(run / "run.json")
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "seed": manifest["training"]["seed"],
        "best_epoch": manifest["result"]["best_epoch"],
        "train_cpu_seconds": manifest["result"]["train_cpu_seconds"],
        "valid": [line[f"valid_{METRIC}"] for line in log],
    }


def _compare(runs: dict[str, list[Path]], protocol: str) -> list[dict[str, Any]]:
    """A row for all targets and one for each domain: means by seed, and the paired test of attributes minus content."""
    (targets, without), (others, having) = (target_values(folders, protocol, METRIC) for folders in runs.values())
    assert targets.equals(others)
    user = np.unique(targets["user_id"], return_inverse=True)[1]
    rows = []
    for domain in ("all", *sorted(set(targets["domain"]))):
        inside = np.ones(len(targets), bool) if domain == "all" else (targets["domain"] == domain).to_numpy()
        test = paired_test(having[:, inside].mean(0), without[:, inside].mean(0), user[inside])
        by_seed = {side: values[:, inside].mean(1).tolist() for side, values in zip(SIDES, (without, having))}
        rows.append({"protocol": protocol, "domain": domain, "metric": METRIC, "by_seed": by_seed, **asdict(test)})
    return rows


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def markdown(whole: dict[str, Any]) -> str:
    content, attributes = SIDES
    lines = [
        f"# SemaCDR on {whole['dataset']}: content alone against content and a large model's attributes",
        "",
        f"Test {METRIC}, seeds {', '.join(map(str, whole['seeds']))} of {len(whole['seeds_wanted'])} wanted; mean ± "
        "spread over seeds. The difference is attributes minus content over targets, whose values are averaged over "
        "seeds first, with a 95 % interval by bootstrap over users and a two-sided p by sign flips over users.",
        "",
        f"| protocol | domain | users | {content} | {attributes} | difference | 95 % | p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in whole["compared"]:
        lines.append(
            f"| {row['protocol']} | {row['domain']} | {row['users']} | {_spread(row['by_seed'][content])} "
            f"| {_spread(row['by_seed'][attributes])} | {row['difference']:+.4f} "
            f"| {row['ci_low']:+.4f} to {row['ci_high']:+.4f} | {row['p_value']:.4f} |"
        )
    lines += [
        "",
        "| training | seed | best epoch | validation " + METRIC + " after each epoch | CPU s |",
        "|---|---|---|---|---|",
    ]
    for side, trainings in whole["trainings"].items():
        for run in trainings:
            curve = ", ".join(f"{scores['all']:.4f}" for scores in run["valid"])
            cpu = run["train_cpu_seconds"]
            lines.append(f"| {side} | {run['seed']} | {run['best_epoch']} | {curve} | {cpu:.0f} |")
    views = ", ".join(
        f"{view} {count['with_text']} ({count['fallback']} of them content)"
        for view, count in whole["embeddings"].items()
    )
    lines += [
        "",
        "Settings of both sides: " + ", ".join(f"{name} {value}" for name, value in whole["settings"].items()) + ".",
        f"Items with a vector, by view: {views}.",
        "The best epoch on validation is kept; settings were fixed for cost before the first run; nothing was tuned.",
        "So few epochs of a small model are far from what SemaCDR reaches with time; both sides have the same.",
        "",
        CAUTION,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--embeddings", required=True, type=Path)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only write the report of what is done")
    args = parser.parse_args()
    if not args.report:
        train_and_rank(args)
    report(args)


if __name__ == "__main__":
    main()
