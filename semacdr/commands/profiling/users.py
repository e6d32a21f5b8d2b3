"""``semacdr profile users``: describes the users of a data set, cluster by cluster and then overall."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import attempt_arguments, engine_arguments, engine_recipes, positive
from semacdr.commands.profiling.items import view_line
from semacdr.commands.profiling.scale import scale_arguments, scaled_engine
from semacdr.errors import InputError
from semacdr.progress import duration, say

if TYPE_CHECKING:
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.clusters import Clusters
    from semacdr.profiling.users import Histories


def add(action: Actions) -> None:
    """Adds its arguments."""
    users = action("users", "describe the users of a data set from what they chose before any held-out target")
    users.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="a data set folder")
    history_arguments(users, required=True)
    engine_arguments(users)
    users.add_argument("--store", required=True, type=Path, metavar="FILE", help="where answers are kept")
    users.add_argument("--limit", type=positive, metavar="N", help="only the first N users of the data set")
    attempt_arguments(users)
    scale_arguments(users)
    users.add_argument("--dry-run", action="store_true", help="print the cost and stop")
    users.add_argument(
        "--prompts",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="templates of the views user_cluster and user_overall, or folders; default: those that ship here",
    )
    users.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def history_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, required: bool) -> None:
    """What a user's items are grouped by, and how many of a group are told."""
    parser.add_argument("--embeddings", required=required, type=Path, metavar="DIR", help="a table from semacdr embed")
    parser.add_argument("--view", default="content", metavar="VIEW", help="of the table (default content)")
    parser.add_argument(
        "--clusters",
        type=positive,
        metavar="N",
        help="groups of the catalogue's items (default 10), kept beside the store so that new items move none",
    )
    parser.add_argument(
        "--titles", type=positive, metavar="N", help="the latest of a cluster that are told (default 15)"
    )


def histories_of(args: argparse.Namespace, dataset: Dataset, *, new: bool) -> tuple[Histories, Clusters, Path]:
    """The histories that the arguments describe, their clusters, and the file that keeps those or is to keep them.

    Raises:
        InputError: no such table or view; or no clusters are kept, and ``new`` does not allow for any.
    """
    import numpy as np

    from semacdr.embedding.table import EmbeddingTable
    from semacdr.files import fingerprint
    from semacdr.profiling.clusters import CLUSTERS, fit_clusters, kept_clusters
    from semacdr.profiling.users import TITLES, Histories

    table = EmbeddingTable.load(args.embeddings)
    vectors, count = table.matrix(args.view), args.clusters or CLUSTERS
    key = fingerprint([dataset.name, table.manifest["encoder"], args.view, count])
    file = args.store.with_name(f"{args.store.name}.clusters-{key[:12]}.npy")
    clusters = kept_clusters(file)
    if clusters is None:
        if not new:
            fix = "--embeddings, --view and --clusters as semacdr profile users had them"
            raise InputError("no clusters of these items are kept here", where=str(file), fix=fix)
        clusters = fit_clusters(vectors, count)
    row = np.array([table.item_index.get(str(item), -1) for item in dataset.item_ids[1:]], dtype=np.int64)
    labels = np.r_[-1, np.where(row >= 0, clusters.of(vectors)[row], -1)]
    return Histories(dataset, labels, args.titles or TITLES), clusters, file


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.clusters import keep_clusters
    from semacdr.profiling.run import RunOptions
    from semacdr.profiling.store import AnswerStore
    from semacdr.profiling.user_run import plan_lines, profile_users
    from semacdr.profiling.users import UserPrompts

    histories, clusters, kept = histories_of(args, Dataset.load(args.dataset), new=True)
    with scaled_engine(args, engine_recipes(args)) as engine:
        prompts = UserPrompts.load(args.prompts, engine.structured)
        with AnswerStore(None if args.dry_run and not args.store.is_file() else args.store) as store:
            if not args.dry_run and not kept.is_file():
                keep_clusters(kept, clusters)
                say(f"{len(clusters.centres)} clusters of items -> {kept}")
            options = RunOptions(args.limit, args.attempts, dry_run=args.dry_run, retry_failed=args.retry_failed)
            summary = profile_users(histories, engine, store, prompts, options)
    if args.json:
        print_json(summary)
        return
    if args.dry_run:
        print(plan_lines(summary["plan"]))
        return
    for view, counts in summary["views"].items():
        print(view_line(view, counts))
    print(
        f"{summary['generated']} answers generated by {summary['model']} ({summary['engine']}), "
        f"{summary['tokens']} tokens, {duration(summary['seconds'])}"
    )
