"""What huge pages change: CPU seconds and peak memory of one training, with torch's tensors in them and without.

    OMP_NUM_THREADS=1 python benchmarks/huge_pages.py --dataset DIR --set num_negatives=2048 --set epochs=1

Each training runs in a process of its own, with and without in turns; ratios are of the two of a pair. ``import
semacdr`` sets ``THP_MEM_ALLOC_ENABLE=1`` unless it is set (see there for why). The machine must allow it:
``/sys/kernel/mm/transparent_hugepage/enabled`` says ``madvise`` or ``always``. Results go to results/huge_pages.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from semacdr.config import parse_pairs

RESULTS = Path(__file__).resolve().parent / "results"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TRAIN = """
import json, resource, sys
from semacdr.training.trainer import train
model, dataset, out, embeddings, settings = sys.argv[1:]
run = train(model, dataset, out, embeddings=embeddings or None, settings=json.loads(settings))
result = json.loads((run / "run.json").read_text())["result"]
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "train_cpu_s": result["train_cpu_seconds"],
    "system_s": round(used.ru_stime, 1),
    "peak_gb": round(result["peak_rss_bytes"] / 1e9, 2),
    "valid": result["valid_ndcg@10"],
}))
"""


def measure(args: argparse.Namespace, huge: bool) -> dict[str, Any]:
    """One training in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            args.model,
            str(args.dataset),
            f"{folder}/run",
            str(args.embeddings or ""),
            json.dumps(parse_pairs(args.set)),
        ]
        environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": str(int(huge))}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"huge pages {'on' if huge else 'off'}: {result}", flush=True)
    return result


def main() -> None:
    """Measures the pairs and adds them to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a semacdr data set folder")
    parser.add_argument("--model", default="SASRec", help="(default: %(default)s)")
    parser.add_argument("--embeddings", type=Path, help="for models that read text")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the training")
    parser.add_argument("--pairs", type=int, default=3, help="(default: %(default)s)")
    args = parser.parse_args()
    pairs = []
    for at in range(args.pairs):
        order = (False, True) if at % 2 == 0 else (True, False)
        pair = {huge: measure(args, huge) for huge in order}
        pairs.append({"off": pair[False], "on": pair[True]})
    row = {
        "dataset": json.loads((args.dataset / "dataset.json").read_text())["name"],
        "model": args.model,
        "settings": args.set,
        "embeddings": args.embeddings is not None,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "kernel": KERNEL.read_text().strip() if KERNEL.is_file() else "unknown",
        "median_ratio": {
            name: round(median(pair["on"][name] / pair["off"][name] for pair in pairs), 3)
            for name in ("train_cpu_s", "system_s", "peak_gb")
        },
        "same_score": all(pair["on"]["valid"] == pair["off"]["valid"] for pair in pairs),
        "pairs": pairs,
    }
    file = RESULTS / "huge_pages.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    same = ("dataset", "model", "settings", "embeddings", "threads")
    rows = [other for other in rows if any(other[name] != row[name] for name in same)] + [row]
    file.write_text(json.dumps(rows, indent=2) + "\n")
    print(json.dumps(row["median_ratio"]), "same score" if row["same_score"] else "SCORES DIFFER")


if __name__ == "__main__":
    main()
