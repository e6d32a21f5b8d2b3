"""``semacdr profile export``: valid profiles of items or of users as parquet."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json


def add(action: Actions) -> None:
    """Adds its arguments."""
    export = action("export", "write the valid profiles as parquet: item_id (or user_id), view, text")
    export.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    export.add_argument("--store", required=True, type=Path, metavar="FILE")
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help="profiles.parquet")
    export.add_argument(
        "--users", action="store_true", help="the overall profiles of the users, not those of the items"
    )
    export.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.dataset import Dataset
    from semacdr.data.item_rows import ItemRows
    from semacdr.files import check_writable
    from semacdr.profiling.export import export_profiles, export_users
    from semacdr.profiling.store import AnswerStore

    check_writable(args.out)
    with AnswerStore(args.store, create=False) as store:
        if args.users:
            dataset = Dataset.load(args.dataset)
            subjects, total, counts = "users", dataset.num_users, export_users(dataset, store, args.out)
        else:
            items = ItemRows(args.dataset)
            subjects, total, counts = "items", items.num_items, export_profiles(items, store, args.out)
    if args.json:
        print_json({"out": str(args.out), subjects: total, "views": counts})
        return
    for view, count in counts.items():
        print(f"{view}: {count} of {total} {subjects} have a valid profile")
