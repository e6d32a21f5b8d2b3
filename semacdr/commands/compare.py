"""Compares evaluated runs: means and intervals, and paired tests of the best against the others, Holm-corrected.

Runs that differ by their seed alone are one system; each target's metric is averaged over its seeds, then systems are
compared over users: a sign-flip permutation test, a bootstrap interval of the difference, and an effect size. Nothing
is evaluated here: a run that lacks a protocol is named, with the command that evaluates it.

example: semacdr compare runs/semacdr-0 runs/semacdr-1 runs/sasrec-0 --protocol full --metric ndcg@10
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr compare``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, each evaluated")
    parser.add_argument("--protocol", metavar="P,...", help="which to compare under (default: all that all runs have)")
    parser.add_argument("--metric", metavar="M", help="of the tests (default: ndcg@10, of ratings mse)")
    parser.add_argument("--json", action="store_true", help="rows and tests as JSON, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Runs ``semacdr compare``."""
    from semacdr.bench.compare import compare, systems_of
    from semacdr.bench.markdown import tables
    from semacdr.commands.nested import print_json
    from semacdr.errors import InputError
    from semacdr.evaluation.ratings import RATING

    systems = systems_of(args.runs)
    if len(systems) < 2:
        raise InputError("these runs are one system: they differ by their seed at most", fix="name another run")
    protocols = None if args.protocol is None else [name.strip() for name in args.protocol.split(",")]

    def lead(protocol: str) -> str:
        return args.metric or ("mse" if protocol.startswith(RATING) else "ndcg@10")

    rows, tests = compare(systems, lead, protocols)
    if args.json:
        print_json({"rows": rows, "tests": tests})
    else:
        print(tables(rows, tests, lead), end="")
