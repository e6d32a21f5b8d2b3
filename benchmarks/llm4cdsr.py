"""LLM4CDSR corrected and as published, beside SASRec with the same loss on the same data.

Each call trains and ranks the cells of one data set, one after the other, and writes the table of all data sets that
have been run so far. A run folder that is done is skipped, another goes on where it stopped. Test targets are ranked
once, when a training has ended; every choice below was made on validation.

    semacdr data convert --format abxi --input RAW --output data/fks
    semacdr embed --dataset data/fks --out emb/fks
    semacdr embed --dataset data/fks --profiles users.parquet --out emb/fks-users
    python benchmarks/llm4cdsr.py --dataset data/fks --embeddings emb/fks --user-embeddings emb/fks-users \\
        --work runs/llm4cdsr --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semacdr import api
from semacdr.evaluation.paired import paired_test, target_values
from semacdr.evaluation.results import ranks_name
from semacdr.files import read_json, write_json, write_text
from semacdr.progress import say

RESULTS = Path(__file__).parent / "results"
PROTOCOLS = ("full", "sampled-999", "sampled-100")
METRIC = "ndcg@10"
SIZE: dict[str, Any] = {
    "embedding_dim": 64,
    "ffn_dim": 64,  # as wide as the vectors, as in the published code
    "num_heads": 1,
    "max_seq_len": 50,
    "final_rate": 0.02,
    "device": "cpu",
}
BCE: dict[str, Any] = {"loss": "bce", "learning_rate": 0.002}
SOFTMAX: dict[str, Any] = {"loss": "softmax", "learning_rate": 0.002}


@dataclass(frozen=True)
class Cell:
    """One row of the table: a model with its settings, with or without profiles of users."""

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    profiles: bool = False


ADAPTER = {"adapter_dim": 128, "user_adapter_dim": 128, "views": ["content"]}
CELLS = {
    "SASRec, bce": Cell("SASRec", BCE),
    "LLM4CDSR, bce": Cell("LLM4CDSR", {**BCE, **ADAPTER}),
    "LLM4CDSR faithful, bce": Cell("LLM4CDSR", {**BCE, **ADAPTER, "faithful": True}),
    "LLM4CDSR, bce, profiles": Cell("LLM4CDSR", {**BCE, **ADAPTER}, profiles=True),
    "LLM4CDSR faithful, bce, profiles": Cell("LLM4CDSR", {**BCE, **ADAPTER, "faithful": True}, profiles=True),
    "SASRec, softmax": Cell("SASRec", SOFTMAX),
    "LLM4CDSR, softmax": Cell("LLM4CDSR", {**SOFTMAX, **ADAPTER}),
    "LLM4CDSR faithful, softmax": Cell("LLM4CDSR", {**SOFTMAX, **ADAPTER, "faithful": True}),
    "LLM4CDSR, softmax, profiles": Cell("LLM4CDSR", {**SOFTMAX, **ADAPTER}, profiles=True),
}
PAIRS = [
    ("LLM4CDSR, bce", "SASRec, bce"),
    ("LLM4CDSR, softmax", "SASRec, softmax"),
    ("LLM4CDSR, bce", "LLM4CDSR faithful, bce"),
    ("LLM4CDSR, softmax", "LLM4CDSR faithful, softmax"),
    ("LLM4CDSR faithful, bce", "SASRec, bce"),
    ("LLM4CDSR, bce, profiles", "LLM4CDSR, bce"),
    ("LLM4CDSR faithful, bce, profiles", "LLM4CDSR faithful, bce"),
    ("LLM4CDSR, softmax, profiles", "LLM4CDSR, softmax"),
]

NOTES = """\
One thread. Each protocol has one list of candidates for all threads: the published
evaluator, whose threads rank different negatives, is not reproduced. On food_kitchen_small, whose domains have fewer
than 999 items, sampled-999 is full. Other metrics, validation curves and settings stand in `llm4cdsr.json`; the command
is in `benchmarks/llm4cdsr.py`.

Sizes, dropout and epochs were fixed for cost, the same for all cells of a data set. The rate, 0.002, was taken from
validation on food_kitchen_small with LLM4CDSR, bce (trainings at 0.001 and 0.005 were behind when they were cut short);
faithful was given no choice of its own. The best epoch on validation is kept. On food_kitchen_abxi the softmax pair was
ranked once before, with 8 epochs (full: SASRec .0277, LLM4CDSR .0334); it was given more because the last epoch had
been the best on validation. Where that is so again, more would have helped again, SASRec perhaps more than LLM4CDSR.
Peak memory is that of the process, whose allocator keeps what earlier steps and cells have freed: an upper bound. A
paired test takes the seeds that both sides have.

In rows with profiles 297 of 1,600 users have one, written by SmolLM2-135M-Instruct over vLLM: the first 300 users, 10
clusters, `semacdr profile users --limit 300 --prompts user/cluster/v1.j2 user/overall/v1.j2`. Of faithful with bce and
without profiles two of three seeds never got better than after their first epoch and were stopped after eleven: what
profiles seem to add there is mostly that this did not happen with them."""


def run_folder(work: Path, dataset: str, cell: str, seed: int) -> Path:
    return work / dataset / f"{cell.replace(', ', '-').replace(' ', '-')}-{seed}"


def ranked(folder: Path) -> bool:
    return all((folder / ranks_name(protocol, "test")).is_file() for protocol in PROTOCOLS)


def train_and_rank(args: argparse.Namespace) -> None:
    dataset, table = api.load(args.dataset), api.EmbeddingTable.load(args.embeddings)
    users = None if args.user_embeddings is None else api.EmbeddingTable.load(args.user_embeddings, "users")
    names = ("epochs", "patience", "eval_every", "dropout", "batch_size")
    extra = {name: getattr(args, name) for name in names}
    wanted = {name: CELLS[name] for name in args.cells or CELLS}
    for seed in args.seeds:
        for name, cell in wanted.items():
            if cell.profiles and users is None:
                continue
            out = run_folder(args.work, dataset.name, name, seed)
            settings = {**SIZE, **extra, **cell.settings, "seed": seed}
            if settings["loss"] == "softmax":
                settings["num_negatives"] = args.num_negatives
            say(f"== {dataset.name}: {name}, seed {seed}")
            api.train(
                cell.model,
                dataset,
                out,
                table if cell.model == "LLM4CDSR" else None,
                users if cell.profiles else None,
                **settings,
            )
            for protocol in PROTOCOLS:
                if not (out / ranks_name(protocol, "test")).is_file():
                    api.evaluate(out, protocol)
            report(args, dataset.name, settings)


def report(args: argparse.Namespace, dataset: str, settings: dict[str, Any]) -> None:
    """Puts the data set's part into the results and writes them all; what is not in the work folder stays as it was."""
    path = args.results / "llm4cdsr.json"
    everything = read_json(path) if path.is_file() else {}
    done = {
        name: [folder for seed in range(10) if ranked(folder := run_folder(args.work, dataset, name, seed))]
        for name in CELLS
    }
    shared = {key: settings[key] for key in (*SIZE, "epochs", "patience", "eval_every", "dropout", "batch_size")}
    before = everything.get(dataset, {"cells": {}, "pairs": []})
    cells = {**before["cells"], **{name: cell_rows(folders) for name, folders in done.items() if folders}}
    tests = {(a, b): pair_rows(a, b, done) for a, b in PAIRS}
    old = {pair: [row for row in before["pairs"] if (row["a"], row["b"]) == pair] for pair in PAIRS}
    everything[dataset] = {
        "settings": shared,
        "num_negatives": args.num_negatives,
        "cells": {name: cells[name] for name in CELLS if name in cells},
        "pairs": [row for pair in PAIRS for row in tests[pair] or old[pair]],
    }
    write_json(path, everything)
    write_text(args.results / "llm4cdsr.md", markdown(everything))


def cell_rows(folders: list[Path]) -> dict[str, Any]:
    """Metrics of each protocol and domain over the seeds, and what the trainings cost."""
    runs = [read_json(folder / "run.json") for folder in folders]
    metrics: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        found = [read_json(folder / "metrics.json")[protocol] for folder in folders]
        metrics[protocol] = {
            domain: {
                metric: {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else None}
                for metric in (METRIC, "hr@10")
                for values in [[each[domain][metric] for each in found]]
            }
            for domain in found[0]
        }
    keys = ("valid_ndcg@10", "best_epoch", "epochs", "train_cpu_seconds", "peak_rss_bytes", "parameters")
    result = [{key: run["result"][key] for key in keys} for run in runs]
    logs = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders]
    curves = [[round(line["valid_ndcg@10"]["all"], 5) for line in log] for log in logs]
    rate = runs[0]["training"]["learning_rate"]
    return {
        "seeds": [run["training"]["seed"] for run in runs],
        "learning_rate": rate,
        "config": runs[0]["config"],
        "metrics": metrics,
        "runs": result,
        "valid": curves,
    }


def pair_rows(a: str, b: str, done: dict[str, list[Path]]) -> list[dict[str, Any]]:
    """Paired tests of two cells over the seeds that both have, all domains together and each alone."""
    seeds = [{folder.name.rsplit("-", 1)[1]: folder for folder in done[name]} for name in (a, b)]
    both = sorted(seeds[0].keys() & seeds[1].keys())
    rows = []
    for protocol in PROTOCOLS if both else ():
        (targets, values), (_, other) = (target_values([side[seed] for seed in both], protocol) for side in seeds)
        user = pd.factorize(targets["user_id"])[0].astype(np.int64)
        for domain in ("all", *sorted(targets["domain"].unique())):
            at = (targets["domain"] == domain).to_numpy() if domain != "all" else np.ones(len(user), np.bool_)
            test = paired_test(values.mean(0)[at], other.mean(0)[at], user[at])
            rows.append({"a": a, "b": b, "protocol": protocol, "domain": domain, "seeds": len(both), **asdict(test)})
    return rows


def markdown(everything: dict[str, Any]) -> str:
    lines = ["# LLM4CDSR corrected and as published, beside SASRec with the same loss", ""]
    lines += [f"Test {METRIC}, mean over seeds ± their spread. {NOTES}"]
    for name, part in everything.items():
        domains = list(next(iter(part["cells"].values()))["metrics"]["full"])
        heads = [f"{protocol} {domain}" for protocol in PROTOCOLS for domain in domains]
        lines += ["", f"## {name}", "", f"| | n | {' | '.join(heads)} | best epoch | CPU s | peak MiB |"]
        lines.append("|---" * (len(heads) + 5) + "|")
        for cell, found in part["cells"].items():
            values = [show(found["metrics"][protocol][domain][METRIC]) for protocol in PROTOCOLS for domain in domains]
            runs = found["runs"]
            best = ", ".join(str(run["best_epoch"]) for run in runs)
            cost = statistics.mean(run["train_cpu_seconds"] for run in runs)
            peak = max(run["peak_rss_bytes"] for run in runs) / 2**20
            lines.append(f"| {cell} | {len(runs)} | {' | '.join(values)} | {best} | {cost:.0f} | {peak:.0f} |")
        lines += ["", "| A | B | protocol | domain | A - B | 95 % | p |", "|---" * 7 + "|"]
        for row in part["pairs"]:
            if row["protocol"] == "sampled-100":
                continue
            interval = f"{row['ci_low']:+.4f} to {row['ci_high']:+.4f}"
            first = f"| {row['a']} | {row['b']} | {row['protocol']} | {row['domain']} "
            lines.append(f"{first}| {row['difference']:+.4f} | {interval} | {row['p_value']:.4f} |")
        settings = ", ".join(f"{key} {value}" for key, value in part["settings"].items())
        lines += ["", f"Settings of every cell: {settings}; softmax with {part['num_negatives'] or 'all'} negatives."]
    return "\n".join(lines) + "\n"


def show(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.4f}" + ("" if value["std"] is None else f" ± {value['std']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--user-embeddings", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where the run folders go")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), metavar="CELL", help="all by default")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--eval-every", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--num-negatives", type=int, default=0, help="of the softmax; 0 for all of the domain")
    train_and_rank(parser.parse_args())


if __name__ == "__main__":
    main()
