"""Indexes the item vectors of a run for top-k search, and says how often it finds what exact search finds.

Kinds: exact (needs no faiss), flat (exact, by faiss), ivf-pq (small and fast, approximate) and hnsw (fastest,
approximate). faiss comes with semacdr[ann] (CPU) or semacdr[gpu], never both. Settings of a kind are key=value pairs,
for example probes=32 or search_breadth=256. Without an index, semacdr recommend scores every item.

example: semacdr index runs/ml --kind hnsw
         semacdr recommend runs/ml --index runs/ml/index --user 42
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from semacdr.commands.places import add_places, places
from semacdr.progress import duration, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr index``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--kind", metavar="K", help="exact (default), flat, ivf-pq or hnsw")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the index goes; RUN/index by default")
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the kind")


def run(args: argparse.Namespace) -> int:
    """Builds the index and prints its recall."""
    from semacdr.config import parse_pairs
    from semacdr.faiss_library import load_faiss
    from semacdr.run import load_run
    from semacdr.serving.build_index import build_index
    from semacdr.serving.index_settings import index_settings

    values = parse_pairs(args.settings)
    if args.kind is not None:
        values["kind"] = args.kind
    settings = index_settings(values)
    if settings.kind != "exact":
        load_faiss()  # what is missing is said before the run is loaded
    loaded = load_run(args.run, **places(args))
    summary = build_index(loaded, args.out or args.run / "index", settings)
    if summary["skipped"]:
        say(f"skipped: {summary['out']} already holds this index")
    if args.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return 0
    recall = summary["recall"]
    for name, engine in summary["engines"].items():
        found = recall["domains"].get(name)
        share = "no unseen item to measure by" if found is None else f"recall@{recall['k']} {found:.4f}"
        print(f"{name}: {engine}, {share}")
    print(
        f"{summary['items']} items, {summary['dim']} dimensions, recall over {recall['users']} users against exact, "
        f"{duration(summary['seconds'])} -> {summary['out']}"
    )
    return 0
