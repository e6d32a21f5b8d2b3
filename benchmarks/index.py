"""Top-k search over many item vectors: exact blocks, faiss flat, IVF-PQ and HNSW.

The vectors are made, with the spread of real ones: a mixture whose centres and whose covariance spectrum around them
are those of an embedding table (``--embeddings``), or by default a power law, eigenvalue i proportional to i^-0.8, and
cluster sizes proportional to rank^-0.7, centres twice as far apart as members lie from them. Queries are members of
the same clusters. Each kind runs in a process of its own: build time, the growth of the process's peak memory over
its data, p50 and p99 of single queries and of blocks of 1,000, recall@10 against exact, the same of single queries
whose ten best items are seen and must not come back, and how many answers an engine left to a search of everything.
Writes index.json and index.md after every kind and goes on from them: what was measured on such a machine with such
vectors is not measured again; what another one measured is left alone.

example: OMP_NUM_THREADS=2 python benchmarks/index.py --items 100000 1000000
         OMP_NUM_THREADS=2 python benchmarks/index.py --items 20000 --out somewhere
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
KINDS = ("exact", "flat", "ivf-pq", "hnsw")
MIB = 1 << 20
QUERIES, BLOCK, TOP = 1_000, 1_000, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--embeddings", type=Path, help="a table whose spread the vectors take, its first view")
    parser.add_argument("--singles", type=int, default=300, help="single queries timed")
    parser.add_argument("--blocks", type=int, default=5, help="blocks of 1,000 queries timed")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args.worker, args.data, args.singles, args.blocks)))
        return
    spread = "power law" if args.embeddings is None else args.embeddings.name
    head = {"machine": machine(), "dim": args.dim, "clusters": args.clusters, "spread": spread}
    head |= {"singles": args.singles, "blocks": args.blocks}
    done = measured(args.out, head)
    for items in args.items:
        left = [kind for kind in args.kinds if kind not in done.get(items, {})]
        if left:
            with tempfile.TemporaryDirectory() as folder:
                make(Path(folder), items, args.dim, args.clusters, args.embeddings)
                for kind in left:
                    done.setdefault(items, {})[kind] = one(kind, folder, args)
                    write(args.out, head, done)
    print(write(args.out, head, done))


def measured(out: Path, head: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Items -> kind -> numbers, of an earlier call on such a machine with such vectors."""
    if not (out / "index.json").is_file():
        return {}
    whole = json.loads((out / "index.json").read_text(encoding="utf-8"))
    other = [name for name, value in head.items() if whole.get(name) != value]
    if other:
        raise SystemExit(f"{out}/index.json was measured with another {', '.join(other)}: give --out, or delete it")
    return {cell["items"]: cell["kinds"] for cell in whole["cells"]}


def write(out: Path, head: dict[str, Any], done: dict[int, dict[str, Any]]) -> str:
    """Both files; the second as text."""
    cells = [
        {"items": items, "kinds": {k: done[items][k] for k in KINDS if k in done[items]}} for items in sorted(done)
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").write_text(json.dumps({**head, "cells": cells}, indent=2) + "\n", encoding="utf-8")
    text = markdown({**head, "cells": cells})
    (out / "index.md").write_text(text, encoding="utf-8")
    return text


def one(kind: str, folder: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", kind, "--data", folder]
    command += ["--singles", str(args.singles), "--blocks", str(args.blocks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"{kind}: built in {result['build_s']:.1f} s, recall {result['recall']:.4f}", file=sys.stderr)
    return result


def make(folder: Path, items: int, dim: int, clusters: int, embeddings: Path | None) -> None:
    """Writes (N, D) vectors, (Q, D) queries and the exact top of each query."""
    import numpy as np

    random = np.random.default_rng(0)
    centres, scale, share = (
        power_law(dim, clusters, random) if embeddings is None else estimated(embeddings, dim, clusters)
    )

    def draw(count: int) -> Any:
        member = random.choice(len(centres), count, p=share)
        out = np.empty((count, dim), np.float32)
        for start in range(0, count, 65_536):
            part = member[start : start + 65_536]
            out[start : start + len(part)] = centres[part] + random.normal(size=(len(part), dim)) * scale
        return out

    vectors, queries = draw(items), draw(QUERIES)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    np.save(folder / "truth.npy", truth(vectors, queries))


def power_law(dim: int, clusters: int, random: Any) -> tuple[Any, Any, Any]:
    """(C, D) centres, (D,) spread around them, (C,) shares."""
    import numpy as np

    scale = np.arange(1, dim + 1) ** -0.4  # a standard deviation: the root of the eigenvalue
    share = np.arange(1, clusters + 1) ** -0.7
    return 2 * scale * random.normal(size=(clusters, dim)), scale, share / share.sum()


def estimated(table: Path, dim: int, clusters: int) -> tuple[Any, Any, Any]:
    """The same, of the first view of a table: k-means centres and the spectrum around them, in principal axes."""
    import numpy as np
    from sklearn.cluster import KMeans

    from semacdr.embedding.table import EmbeddingTable

    found = EmbeddingTable.load(table)
    matrix = np.array(found.matrix(found.views[0]))
    matrix = matrix[matrix.any(axis=1)][:20_000].astype(np.float64)
    if matrix.shape[1] < dim:
        raise SystemExit(f"--dim {dim}: the table has {matrix.shape[1]} columns")
    axes = np.linalg.eigh(np.cov(matrix.T)).eigenvectors[:, ::-1][:, :dim]
    turned = matrix @ axes  # not centred: the mean of a table counts in its inner products
    fitted = KMeans(min(clusters, len(matrix) // 8), n_init=1, max_iter=10, random_state=0).fit(turned)
    inside = turned - fitted.cluster_centers_[fitted.labels_]
    return fitted.cluster_centers_, inside.std(axis=0), np.bincount(fitted.labels_) / len(matrix)


def truth(vectors: Any, queries: Any) -> Any:
    """(Q, 20) best rows by products in float64, best first, a block at a time."""
    import numpy as np

    count = 2 * TOP
    best, rows = np.full((len(queries), count), -np.inf), np.full((len(queries), count), -1, np.int64)
    wide = queries.astype(np.float64)
    for start in range(0, len(vectors), 4_096):
        block = vectors[start : start + 4_096].astype(np.float64)
        score = np.concatenate([best, wide @ block.T], axis=1)
        label = np.concatenate(
            [rows, np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))], 1
        )
        top = np.argpartition(-score, count - 1, axis=1)[:, :count]
        best, rows = np.take_along_axis(score, top, 1), np.take_along_axis(label, top, 1)
    return np.take_along_axis(rows, np.argsort(-best, axis=1), 1)


def measure(kind: str, folder: Path, singles: int, blocks: int) -> dict[str, Any]:
    """One kind: build, then search."""
    import numpy as np

    from semacdr.memory import peak_bytes, reset_peak
    from semacdr.serving.index import SearchIndex
    from semacdr.serving.index_settings import index_settings

    if kind != "exact":
        from semacdr.faiss_library import load_faiss

        load_faiss()
    vectors, queries, right = (np.load(folder / f"{name}.npy") for name in ("vectors", "queries", "truth"))
    ids = [str(at) for at in range(len(vectors))]
    domain = np.zeros(len(vectors), np.int64)
    reset_peak()
    before, started, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    index = SearchIndex.build(ids, domain, vectors, ["only"], index_settings({"kind": kind}))
    built, built_cpu = time.perf_counter() - started, time.process_time() - cpu
    with tempfile.TemporaryDirectory() as out:
        index.shards[0].engine.save(Path(out) / "engine")
        disk = sum(path.stat().st_size for path in Path(out).iterdir())
    index.search(queries[:8], TOP, exclude=[["0"]] * 8)  # warm, the lookup of ids too
    index.search(queries, TOP)
    seen = [[str(item) for item in row[:TOP]] for row in right.tolist()]
    single, hiding, block, rest = [], [], [], []
    for at in range(singles):
        query, own = queries[at % QUERIES][None], seen[at % QUERIES]
        begun = time.perf_counter()
        index.search(query, TOP)
        single.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        rest += index.search(query, TOP, exclude=[own])
        hiding.append(time.perf_counter() - begun)
    for _ in range(blocks):
        begun = time.perf_counter()
        found = index.search(queries[:BLOCK], TOP)
        block.append(time.perf_counter() - begun)

    def recall(answers: Any, wanted: Any) -> float:
        return float(
            np.mean(
                [
                    len({int(hit.item_id) for hit in hits} & set(row)) / TOP
                    for hits, row in zip(answers, wanted.tolist())
                ]
            )
        )

    return {
        "build_s": built,
        "build_cpu_s": built_cpu,
        "growth_bytes": peak_bytes() - before,
        "engine_bytes": disk,
        "single_p50_s": float(np.percentile(single, 50)),
        "single_p99_s": float(np.percentile(single, 99)),
        "block_p50_s": float(np.percentile(block, 50)),
        "block_p99_s": float(np.percentile(block, 99)),
        "recall": recall(found, right[:, :TOP]),
        "seen_p50_s": float(np.percentile(hiding, 50)),
        "seen_p99_s": float(np.percentile(hiding, 99)),
        "seen_recall": recall(rest, right[np.arange(singles) % QUERIES, TOP:]),
        "rescued": index.rescued,
        "load_average": os.getloadavg()[0],
    }


def machine() -> dict[str, Any]:
    from importlib.metadata import version

    from semacdr.faiss_library import faiss_builds

    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].split(":")[1].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "faiss": ", ".join(f"{name} {version(name)}" for name in faiss_builds()) or "no faiss",
    }


def markdown(whole: dict[str, Any]) -> str:
    where = whole["machine"]
    lines = [
        "# Top-k search by inner product",
        "",
        f"D = {whole['dim']}, top {TOP}, {whole['clusters']} clusters, spread: {whole['spread']}; {where['cpu']}, "
        f"threads: {where['threads']}, torch {where['torch']}, {where['faiss']}. "
        "Each kind in a process of its own.",
        "",
        "| items | kind | build s (CPU) | peak MiB | engine MiB | 1 query p50 / p99 ms | 1,000 queries p50 / p99 s "
        "| recall@10 | 1 query, ten best seen: p50 / p99 ms | its recall@10 | rescued |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    loads = []
    for cell in whole["cells"]:
        for kind, got in cell["kinds"].items():
            loads.append(got["load_average"])
            single = f"{got['single_p50_s'] * 1e3:.2f} / {got['single_p99_s'] * 1e3:.2f}"
            hiding = f"{got['seen_p50_s'] * 1e3:.2f} / {got['seen_p99_s'] * 1e3:.2f}"
            block = f"{got['block_p50_s']:.2f} / {got['block_p99_s']:.2f}"
            lines.append(
                f"| {cell['items']:,} | {kind} | {got['build_s']:.1f} ({got['build_cpu_s']:.1f}) | "
                f"{got['growth_bytes'] / MIB:.0f} | {got['engine_bytes'] / MIB:.0f} | {single} | {block} | "
                f"{got['recall']:.4f} | {hiding} | {got['seen_recall']:.4f} | {got['rescued']} |"
            )
    lines += [
        "",
        "Peak MiB is what building and searching add to the process with its data loaded; every kind also keeps the "
        "vectors, of which it makes one copy. Engine MiB is what an engine keeps beside them. Rescued answers are "
        f"those for which all items were scored after all. Load average {min(loads):.1f} to {max(loads):.1f}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
