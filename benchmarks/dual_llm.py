"""The dual-LLM model: ranking, how far its two clouds of users agree, and users whose history is hidden.

Each cell is one run folder: a finished one is skipped, an unfinished one goes on where it stopped. What a cell came to
is kept in results/dual_llm_runs, so that another day or machine goes on from there. Test targets are ranked once, when
a training has ended. Settings were chosen on validation targets before the first cell.

    semacdr embed --dataset data/fks --out emb/fks
    OMP_NUM_THREADS=1 python benchmarks/dual_llm.py --dataset data/fks --embeddings emb/fks --work runs/dual
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semacdr import api
from semacdr.config import read_yaml
from semacdr.data.batches import history_batch
from semacdr.data.dataset import Dataset
from semacdr.data.splits import Split
from semacdr.evaluation.alignment import linear_cka, tsne_distance
from semacdr.evaluation.paired import paired_test, target_values
from semacdr.evaluation.results import ranks_name
from semacdr.files import read_json, write_json, write_text
from semacdr.models.dual_llm import DualLLM
from semacdr.progress import say
from semacdr.resources import find_config
from semacdr.run import build_model, load_run

RESULTS = Path(__file__).parent / "results"
CONFIG = Path("dual-llm/cpu/DualLLM.yaml")
SHARES = (50, 80, 100)
PROTOCOLS = ("full", "sampled-999")
METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
SETTINGS: dict[str, dict[str, Any]] = {
    "DualLLM": read_yaml(find_config(CONFIG)),
    "SASRec": {"embedding_dim": 64, "ffn_dim": 128, "learning_rate": 0.003, "epochs": 40},
    "Popularity": {},
}
TEXTS_ALONE = "DualLLM, texts alone"
SETTINGS[TEXTS_ALONE] = {**SETTINGS["DualLLM"], "item_channel": False}
MODELS = ("Popularity", "SASRec", "DualLLM")  # cheap ones first: a report of half the cells has its comparison
RANKING = (*MODELS, TEXTS_ALONE)


def cells(target_domain: str, seeds: list[int]) -> list[tuple[str, str, int]]:
    """(split, model, seed) of every run, the most wanted first."""
    splits = ["leave-one-out", *(f"transfer-{share}:{target_domain}" for share in reversed(SHARES))]
    wanted = [(split, model, seed) for seed in seeds for split in splits for model in MODELS]
    wanted += [("leave-one-out", TEXTS_ALONE, seed) for seed in seeds]
    return [cell for cell in wanted if cell[1] != "Popularity" or cell[2] == seeds[0]]


def folder(work: Path, split: str, model: str, seed: int) -> Path:
    return work / f"{split.replace(':', '-')}-{model.replace(', ', '-').replace(' ', '-')}-{seed}"


def protocols(split: str) -> tuple[str, ...]:
    return PROTOCOLS if split == "leave-one-out" else PROTOCOLS[:1]


def measures_alignment(split: str, model: str) -> bool:
    return model.startswith("DualLLM") and split == "leave-one-out"


def kept_file(results: Path, split: str, model: str, seed: int) -> Path:
    return results / "dual_llm_runs" / f"{folder(Path(), split, model, seed).name}.json"


def finished(args: argparse.Namespace, split: str, model: str, seed: int) -> bool:
    """Whether a cell's results are kept; those of a finished run folder are put there."""
    path, out = kept_file(args.results, split, model, seed), folder(args.work, split, model, seed)
    ranked = all((out / ranks_name(protocol, "test")).is_file() for protocol in protocols(split))
    if not path.is_file() and ranked and (not measures_alignment(split, model) or (out / "alignment.json").is_file()):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_kept(out)) + "\n")
    return path.is_file()


def _kept(out: Path) -> dict[str, Any]:
    """Metrics, cost, alignment and each target's ndcg@10; of users their place in the data set."""
    manifest, aligned = read_json(out / "run.json"), out / "alignment.json"
    targets, values = target_values([out], "full", "ndcg@10")
    place = {user: at for at, user in enumerate(Dataset.load(manifest["dataset"]).user_ids.tolist())}
    names = "\n".join(targets["user_id"] + "\t" + targets["item_id"])
    return {
        "result": manifest["result"],
        "metrics": read_json(out / "metrics.json"),
        "alignment": read_json(aligned) if aligned.is_file() else None,
        "targets": hashlib.sha256(names.encode()).hexdigest(),
        "users": [place[user] for user in targets["user_id"]],
        "ndcg@10": [round(float(value), 6) for value in values[0]],
    }


def run_cell(args: argparse.Namespace, split: str, model: str, seed: int) -> None:
    out = folder(args.work, split, model, seed)
    if finished(args, split, model, seed):
        return
    say(f"== {split}, {model}, seed {seed}")
    settings = {**SETTINGS[model], "seed": seed, "split": split, "device": "cpu"}
    table = args.embeddings if model.startswith("DualLLM") else None
    loaded = None if table is None else api.EmbeddingTable.load(table)
    api.train(model.partition(",")[0], api.load(args.dataset), out, loaded, **settings)
    for protocol in protocols(split):
        if not (out / ranks_name(protocol, "test")).is_file():
            api.evaluate(out, protocol)
    if measures_alignment(split, model):
        write_json(out / "alignment.json", alignment(args, out, seed))


def alignment(args: argparse.Namespace, out: Path, seed: int) -> dict[str, Any]:
    """CKA and t-SNE distance of the overlap users' two vectors, from their training events, before and after."""
    run = load_run(out, embeddings=args.embeddings)
    torch.manual_seed(seed)  # the very weights that training began with
    fresh = build_model("DualLLM", run.manifest["config"], run.dataset, run.split, run.table).eval()
    found = {}
    for when, model in (("before", fresh), ("after", run.model)):
        assert isinstance(model, DualLLM)
        started = time.perf_counter()
        a, b = user_clouds(model, run.dataset, run.split)
        order = np.random.default_rng(0).permutation(len(a))
        found[when] = {
            "users": len(a),
            "cka": linear_cka(a, b),
            "cka_permuted": linear_cka(a, b[order]),
            "tsne_distance": tsne_distance(a, b),
            "tsne_distance_permuted": tsne_distance(a, b[order]),
            "seconds": round(time.perf_counter() - started, 1),
        }
    return found


def user_clouds(model: DualLLM, dataset: Dataset, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) vectors of the users that have training events in both domains, a matrix for each of two domains."""
    train = split.train
    histories = [train.items[start:stop] for start, stop in zip(train.start, train.stop)]
    vectors, present = [], []
    for domain in range(2):
        # each domain by itself, so that a long history in one does not push the other out of the window
        own = [history[dataset.item_domain[history] == domain] for history in histories]
        parts = [history_batch(own[at : at + 256], [domain] * 256, model.max_seq_len) for at in range(0, len(own), 256)]
        made = [model.domain_vectors(part, domain) for part in parts]
        vectors.append(torch.cat([made_[0] for made_ in made]).numpy())
        present.append(torch.cat([made_[1] for made_ in made]).numpy())
    both = present[0] & present[1]
    return vectors[0][both], vectors[1][both]


def report(args: argparse.Namespace) -> None:
    wanted = cells(args.target_domain, args.seeds)
    done = [cell for cell in wanted if finished(args, *cell)]
    whole: dict[str, Any] = {
        "dataset": read_json(args.dataset / "dataset.json")["name"],
        "target_domain": args.target_domain,
        "settings": SETTINGS,
        "cells": [_cell(args, *cell) for cell in done],
        "missing": [
            f"{split}, {model}, seed {seed}" for split, model, seed in wanted if (split, model, seed) not in done
        ],
        "compared": [
            _compare(args, split, rival, done)
            for split in dict.fromkeys(cell[0] for cell in done)
            for rival in (*MODELS[:2], TEXTS_ALONE)
        ],
    }
    whole["compared"] = [row for row in whole["compared"] if row]
    write_json(args.results / "dual_llm.json", whole)
    write_text(args.results / "dual_llm.md", markdown(whole))
    say(markdown(whole))


def _cell(args: argparse.Namespace, split: str, model: str, seed: int) -> dict[str, Any]:
    kept = read_json(kept_file(args.results, split, model, seed))
    parts = {key: kept[key] for key in ("result", "metrics", "alignment")}
    return {"split": split, "model": model, "seed": seed, **parts}


def _compare(
    args: argparse.Namespace, split: str, rival: str, done: list[tuple[str, str, int]]
) -> dict[str, Any] | None:
    """DualLLM minus a rival under full ranking, on the same targets, seeds averaged."""
    mine, theirs = (
        [read_json(kept_file(args.results, *cell)) for cell in done if cell[:2] == (split, name)]
        for name in ("DualLLM", rival)
    )
    if not mine or not theirs:
        return None
    assert len({kept["targets"] for kept in (*mine, *theirs)}) == 1
    a, b = (np.mean([kept["ndcg@10"] for kept in side], axis=0) for side in (mine, theirs))
    user = np.unique(mine[0]["users"], return_inverse=True)[1]
    return {"split": split, "rival": rival, **asdict(paired_test(a, b, user))}


def _mean(cells: list[dict[str, Any]], protocol: str, domain: str, metric: str) -> str:
    values = [cell["metrics"][protocol][domain][metric] for cell in cells]
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def markdown(whole: dict[str, Any]) -> str:
    by: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in whole["cells"]:
        by.setdefault((cell["split"], cell["model"]), []).append(cell)
    lines = [f"# The dual-LLM model on {whole['dataset']}", "", "## Ranking, leave-one-out", ""]
    lines += [
        "| protocol | domain | model | seeds | " + " | ".join(METRICS) + " |",
        "|---" * (4 + len(METRICS)) + "|",
    ]
    for protocol in PROTOCOLS:
        for domain in _domains(by):
            for model in RANKING:
                found = by.get(("leave-one-out", model), [])
                if found:
                    values = " | ".join(_mean(found, protocol, domain, metric) for metric in METRICS)
                    lines.append(f"| {protocol} | {domain} | {model} | {len(found)} | {values} |")
    lines += [
        "",
        "Each domain has fewer unseen items than 999, so sampled-999 ranks against all of them and equals full.",
        "",
        "## Agreement of the users' two vectors",
        "",
        "From the training events of the users with both domains, without P. CKA: 1 is agreement. t-SNE distance: own "
        "pairs over random pairs, 1 is chance. The permuted value is what chance gives.",
        "",
        "| model | seed | when | users | CKA | permuted | t-SNE distance | permuted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in whole["cells"]:
        for when, row in (cell["alignment"] or {}).items():
            lines.append(
                f"| {cell['model']} | {cell['seed']} | {when} training | {row['users']} | {row['cka']:.3f} "
                f"| {row['cka_permuted']:.3f} | {row['tsne_distance']:.2f} | {row['tsne_distance_permuted']:.2f} |"
            )
    target = whole["target_domain"]
    lines += [
        "",
        f"## Transfer to {target}",
        "",
        f"The last event in {target} of a third of the users, with X % of their events there hidden, in training too; "
        "the same users and targets at every X. Full ranking; hidden items compete.",
        "",
        "| hidden | model | seeds | users | " + " | ".join(METRICS) + " |",
        "|---" * (4 + len(METRICS)) + "|",
    ]
    for share in SHARES:
        for model in MODELS:
            found = by.get((f"transfer-{share}:{target}", model), [])
            if found:
                values = " | ".join(_mean(found, "full", target, metric) for metric in METRICS)
                lines.append(f"| {share} % | {model} | {len(found)} | {_users(whole, found[0])} | {values} |")
    lines += ["", "## DualLLM against its rivals", ""]
    lines += [
        "ndcg@10, full, paired over users: seeds averaged first, 95 % by bootstrap, p by sign flips (not corrected).",
        "",
        "| split | rival | users | DualLLM | rival | difference | 95 % | p |",
        "|---" * 8 + "|",
    ]
    for row in whole["compared"]:
        lines.append(
            f"| {row['split']} | {row['rival']} | {row['users']} | {row['mean']:.4f} | {row['other']:.4f} "
            f"| {row['difference']:+.4f} | {row['ci_low']:+.4f} to {row['ci_high']:+.4f} | {row['p_value']:.4f} |"
        )
    lines += ["", "## Cost", "", "| split | model | seed | best epoch | CPU s | peak memory |", "|---" * 6 + "|"]
    for cell in whole["cells"]:
        result = cell["result"]
        lines.append(
            f"| {cell['split']} | {cell['model']} | {cell['seed']} | {result.get('best_epoch', '-')} "
            f"| {result['train_cpu_seconds']:.0f} | {result['peak_rss_bytes'] / 2**20:.0f} MiB |"
        )
    if whole["missing"]:
        lines += ["", "Not run yet: " + "; ".join(whole["missing"]) + "."]
    for model, settings in whole["settings"].items():
        if settings and model != TEXTS_ALONE:
            lines += ["", f"Settings of {model}: " + ", ".join(f"{k} {v}" for k, v in settings.items()) + "."]
    return "\n".join(lines) + "\n"


def _domains(by: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    cells = next((found for (split, _), found in by.items() if split == "leave-one-out"), [])
    return list(cells[0]["metrics"]["full"]) if cells else []


def _users(whole: dict[str, Any], cell: dict[str, Any]) -> int | str:
    rows = [row for row in whole["compared"] if row["split"] == cell["split"]]
    return rows[0]["users"] if rows else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--embeddings", required=True, type=Path, help="table of the items' titles")
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--target-domain", default="kitchen", help="of the transfer test: the sparser domain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="only write the report of what is done")
    args = parser.parse_args()
    if not args.report:
        for cell in cells(args.target_domain, args.seeds):
            process = get_context("spawn").Process(target=run_cell, args=(args, *cell))
            process.start()  # of its own, so that its peak of memory is not an earlier cell's
            process.join()
            if process.exitcode:
                sys.exit(1)
            report(args)
    report(args)


if __name__ == "__main__":
    main()
