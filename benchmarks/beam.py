"""What a beam loses: SemaCDRGen's top ten by beams of several widths against all items scored.

    OMP_NUM_THREADS=1 python benchmarks/beam.py RUN --widths 8,32,128 [--users 1000]

RUN is a finished run of SemaCDRGen. For the same test targets both ways: ndcg@10 and hr@10 under full ranking (a
target outside a beam's ten counts as missed), the share of the exact ten that a beam finds, and CPU milliseconds a
user, users one at a time as ``semacdr recommend`` asks. A row for each width in results/beam.json and results/beam.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semacdr.data.batches import example_batches
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.files import read_json, write_json, write_text
from semacdr.models.semacdr_gen import SemaCDRGen
from semacdr.progress import Progress
from semacdr.run import load_run

RESULTS = Path(__file__).parent / "results"
K = 10


def exact_ten(model: SemaCDRGen, batch: Any, candidates: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """(1, 10) the best items of a domain by scoring all of them, those left out that were seen."""
    scores = model.score(model.encode(batch), candidates)[0]
    scores[torch.isin(candidates, seen)] = float("-inf")
    return candidates[scores.topk(min(K, len(scores))).indices][None]


def measure(run: Path, widths: list[int], users: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row for exhaustive scoring and one for each width."""
    loaded = load_run(run)
    model, data = loaded.model, loaded.dataset
    if not isinstance(model, SemaCDRGen):
        raise InputError(f"{loaded.manifest['model']} decodes no semantic ids", where=str(run))
    examples = make_split(data, loaded.manifest["training"]["split"]).test
    chosen = np.sort(np.random.default_rng(seed).permutation(len(examples))[: users or len(examples)])
    examples = examples.select(chosen)
    ways: list[int | None] = [None, *widths]
    place = {way: np.zeros(len(examples), np.int64) for way in ways}  # of the target, from 1; 0 for missed
    found, spent = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    members = [torch.from_numpy(np.flatnonzero(data.item_domain == at)) for at in range(len(data.domains))]
    progress = Progress(len(examples), "beam", "users")
    model.eval()
    with torch.no_grad():
        model.prepare()
        for rows, batch in example_batches(examples, data.item_domain, 1, model.max_seq_len):
            (row,), best = rows, torch.empty(0)
            assert batch.target_domain is not None
            seen = torch.from_numpy(examples.history(row).astype(np.int64))[None]  # the whole of it, not what is read
            for way in ways:
                started = time.process_time()
                if way is None:
                    best = ten = exact_ten(model, batch, members[int(batch.target_domain)], seen)
                else:
                    ten, _ = model.beam(batch, K, way, seen)
                spent[way] += time.process_time() - started
                found[way] += float(torch.isin(best, ten).float().mean())
                hit = (ten[0] == int(examples.target[row])).nonzero()
                place[way][row] = int(hit[0, 0]) + 1 if len(hit) else 0
            progress.update(1)
    progress.close()
    return [
        {
            "dataset": data.name,
            "items": data.num_items,
            "width": way,
            "users": len(examples),
            "ndcg@10": float(np.where(place[way] > 0, 1 / np.log2(np.maximum(place[way], 1) + 1), 0).mean()),
            "hr@10": float((place[way] > 0).mean()),
            "recall@10 of the exact ten": found[way] / len(examples),
            "cpu_ms": round(1000 * spent[way] / len(examples), 2),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        }
        for way in ways
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "# Beam against exhaustive scoring",
        "",
        "SemaCDRGen, test targets, full ranking without what the user had, users one at a time; command in",
        "`benchmarks/beam.py`.",
        "",
        "| data set (items) | users | beam | ndcg@10 | hr@10 | of the exact ten | CPU ms a user | threads |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        lines.append(
            f"| {row['dataset']} ({row['items']:,}) | {row['users']} | {row['width'] or 'all items'} "
            f"| {row['ndcg@10']:.4f} | {row['hr@10']:.4f} | {row['recall@10 of the exact ten']:.3f} | {row['cpu_ms']} "
            f"| {row['threads']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--widths", default="8,32,128", help="comma-separated (default: %(default)s)")
    parser.add_argument("--users", type=int, default=1000, help="drawn test targets, 0 for all (default: %(default)s)")
    args = parser.parse_args()
    try:
        made = measure(args.run, [int(width) for width in args.widths.split(",")], args.users)
    except (InputError, ValueError) as error:
        parser.error(str(error))
    file = RESULTS / "beam.json"
    old = read_json(file) if file.is_file() else []
    rows = [row for row in old if row["dataset"] != made[0]["dataset"]] + made
    write_json(file, rows)
    write_text(RESULTS / "beam.md", markdown(rows))
    print(markdown(made))


if __name__ == "__main__":
    main()
