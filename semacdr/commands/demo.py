"""The whole path on embedded data and models: data set, profiles, embeddings, training, evaluation, recommendations.

Every step is printed as the command that a user would type. Results: leaderboard.json, leaderboard.md, metrics.json
and one run folder a model. A second demo reuses what is there.

example: semacdr demo --out runs/demo
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr demo``."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")


def run(args: argparse.Namespace) -> int:
    """Runs ``semacdr demo``."""
    from semacdr.demo import run_demo

    run_demo(args.out)
    return 0
