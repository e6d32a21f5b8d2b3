"""Turns item texts into vectors: one table a view.

Views: content (title, brand, categories, genres, year, price, description), and each view of a profiles file. An item
without a valid profile takes its content vector in that view, and is counted. An interrupted run goes on where it
stopped; a finished table of the same inputs is left as it is. Profiles of users give a table of users instead, with a
zero vector for a user without one.

Example:
  semacdr embed --dataset runs/data --profiles runs/profiles.parquet --out runs/table
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from semacdr.progress import duration, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``semacdr embed``."""
    parser.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="a data set folder")
    parser.add_argument(
        "--profiles", type=Path, metavar="FILE", help="a file from semacdr profile export, of items or users"
    )
    parser.add_argument(
        "--encoder",
        default="embedded",
        metavar="NAME",
        help="a local sentence-transformers folder or a hub name, which is downloaded; default: the small embedded one",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the table goes")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts per batch (default 64)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Builds the table and prints what it holds."""
    from semacdr.data.dataset import Dataset
    from semacdr.embedding.build import build_table, read_profiles
    from semacdr.embedding.encoder import SentenceEncoder
    from semacdr.errors import InputError

    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: at least 1")
    dataset = Dataset.load(args.dataset)
    profiles = None if args.profiles is None else read_profiles(args.profiles)
    summary = build_table(dataset, SentenceEncoder(args.encoder), args.out, profiles, args.batch_size)
    if summary["skipped"]:
        say(f"skipped: {args.out} already holds this table")
    if args.json:
        print(json.dumps(summary, indent=2))
        return 0
    for view, count in summary["views"].items():
        fallback = f", {count['fallback']} of them content for want of a profile" if count["fallback"] else ""
        subject = summary["subject"]
        print(f"{view}: {count['with_text']} of {count[subject]} {subject} have a vector{fallback}")
    print(
        f"{summary['distinct_texts']} distinct texts, {summary['text_dim']} dimensions, "
        f"{duration(summary['seconds'])} ({duration(summary['cpu_seconds'])} of CPU) -> {args.out}"
    )
    return 0
