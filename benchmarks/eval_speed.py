"""What an evaluation under full ranking costs: counting in blocks against dense scores and torch.topk.

Both rank the same random vectors with the same batches of histories, each in a process of its own with one thread, the
order alternated. ``dense`` fills a (batch, items) array, puts minus infinity on seen items and takes the top 20, as
evaluators commonly do; ``count`` is ``semacdr.evaluation.ranker.rank``. CPU seconds are medians; memory is the growth
of the peak over the process with its data loaded. Writes eval_speed.json and eval_speed.md.

example: OMP_NUM_THREADS=1 python benchmarks/eval_speed.py --users 2000 8000 --items 4000 16000 64000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CONTENDERS = ("dense", "count")
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MIB = 1 << 20
DENSE_BATCH = 256
TOP = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[2_000, 8_000])
    parser.add_argument("--items", type=int, nargs="+", default=[4_000, 16_000, 64_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker, args.users[0], args.items[0], args.dim)))
        return
    cells = [compare(users, items, args.dim, args.repeats) for users in args.users for items in args.items]
    whole = {"machine": machine(), "dim": args.dim, "repeats": args.repeats, "top": TOP, "cells": cells}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "eval_speed.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    text = markdown(whole)
    (args.out / "eval_speed.md").write_text(text, encoding="utf-8")
    print(text)


def compare(users: int, items: int, dim: int, repeats: int) -> dict[str, Any]:
    """One cell of the grid: both contenders, in alternating order."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for repeat in range(repeats):
        for name in CONTENDERS if repeat % 2 == 0 else CONTENDERS[::-1]:
            command = [sys.executable, __file__, "--worker", name]
            command += ["--users", str(users), "--items", str(items), "--dim", str(dim)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **THREADS})
            runs[name].append(json.loads(done.stdout))
    cell: dict[str, Any] = {"users": users, "items": items, "runs": runs}
    for name in CONTENDERS:
        cell[name] = {
            "cpu_s": statistics.median(run["cpu_s"] for run in runs[name]),
            "growth_bytes": statistics.median(run["growth_bytes"] for run in runs[name]),
        }
    cell["cpu_ratio"] = cell["dense"]["cpu_s"] / cell["count"]["cpu_s"]
    cell["memory_ratio"] = cell["dense"]["growth_bytes"] / max(cell["count"]["growth_bytes"], 1)
    cell["hr_difference"] = abs(runs["dense"][0]["hr"] - runs["count"][0]["hr"])
    print(f"{users} users, {items} items: dense / count = {cell['cpu_ratio']:.2f} in CPU", file=sys.stderr)
    return cell


def measure(name: str, users: int, items: int, dim: int) -> dict[str, Any]:
    """Ranks once to warm up and once for the clock."""
    import numpy as np
    import torch

    from semacdr.config import Settings
    from semacdr.data.batches import Batch
    from semacdr.data.dataset import Catalogue
    from semacdr.data.splits import Examples
    from semacdr.models.base import VectorRecommender

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Config(Settings):
        max_seq_len: int = 50

    class RandomVectors(VectorRecommender):
        def item_vectors(self) -> torch.Tensor:
            return item_vectors

        def user_vectors(self, batch: Batch) -> torch.Tensor:
            return user_vectors[batch.items[:, 0]]

    random = np.random.default_rng(0)
    length = random.integers(2, 40, users)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    events = random.integers(1, items + 1, offsets[-1]).astype(np.int32)
    everyone = np.arange(users, dtype=np.int32)
    stop = offsets[1:] - 1
    examples = Examples(events, offsets[:-1], stop, everyone, events[stop], np.ones(users, np.bool_))
    item_domain = np.concatenate([[-1], np.zeros(items)]).astype(np.int8)
    ids = np.arange(items + 1).astype(str).astype(object)
    item_vectors, user_vectors = torch.randn(items + 1, dim), torch.randn(items + 1, dim)
    model = RandomVectors(Config(), Catalogue(ids, item_domain, ("only",), np.zeros(items + 1, np.int64)))
    ranking = {"dense": hits_by_topk, "count": hits_by_counting}[name]
    ranking(model, examples.select(np.arange(64)), item_domain)
    before = reset_peak_rss()
    started, cpu = time.perf_counter(), time.process_time()
    hits = ranking(model, examples, item_domain)
    spent = time.process_time() - cpu
    return {
        "cpu_s": spent,
        "wall_s": time.perf_counter() - started,
        "growth_bytes": peak_rss() - before,
        "hr": hits / users,
        "load_average": os.getloadavg()[0],
    }


def hits_by_counting(model: Any, examples: Any, item_domain: Any) -> int:
    from semacdr.evaluation.ranker import rank

    return int((rank(model, examples, item_domain).greater < TOP).sum())


def hits_by_topk(model: Any, examples: Any, item_domain: Any) -> int:
    import torch

    from semacdr.data.batches import example_batches
    from semacdr.evaluation.pairs import seen_pairs

    hits = 0
    model.eval().prepare()
    everything = torch.arange(1, len(item_domain))
    for rows, batch in example_batches(examples, item_domain, DENSE_BATCH, model.max_seq_len):
        scores = model.score(model.encode(batch), everything)  # (B, N)
        row, item = seen_pairs(examples.select(rows), len(item_domain) - 1)
        scores[torch.from_numpy(row), torch.from_numpy(item) - 1] = float("-inf")
        top = scores.topk(TOP, dim=1).indices + 1
        hits += int((top == torch.from_numpy(examples.target[rows]).long().unsqueeze(1)).sum())
    return hits


def reset_peak_rss() -> int:
    """Makes the peak what is resident now (Linux), and returns it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_rss()


def peak_rss() -> int:
    """Peak resident memory of this process alone, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def machine() -> dict[str, Any]:
    import torch

    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].split(":")[1].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def markdown(whole: dict[str, Any]) -> str:
    where = whole["machine"]
    lines = [
        "# Ranking all items: counting in blocks against dense scores and top-k",
        "",
        f"D = {whole['dim']}, one thread, {where['cpu']}, torch {where['torch']}, median of {whole['repeats']} runs "
        f"each in a process of its own. Both give hr@{TOP}; counting also gives the exact rank and its ties.",
        "",
        "| users | items | dense CPU s | count CPU s | dense / count | dense MiB | count MiB | difference in hr |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in whole["cells"]:
        dense, count = cell["dense"], cell["count"]
        lines.append(
            f"| {cell['users']} | {cell['items']} | {dense['cpu_s']:.2f} | {count['cpu_s']:.2f} | "
            f"{cell['cpu_ratio']:.2f} | {dense['growth_bytes'] / MIB:.0f} | {count['growth_bytes'] / MIB:.0f} | "
            f"{cell['hr_difference']:.5f} |"
        )
    loads = [run["load_average"] for cell in whole["cells"] for runs in cell["runs"].values() for run in runs]
    lines += [
        "",
        f"MiB is what the ranking adds to the process's peak. Load average {min(loads):.1f} to {max(loads):.1f}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
