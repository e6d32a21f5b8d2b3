"""``semacdr profile gc``: removes what no current profile uses."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json


def add(action: Actions) -> None:
    """Adds its arguments."""
    gc = action("gc", "remove answers and parses that no current profile uses; not while a run writes to the store")
    gc.add_argument("--store", required=True, type=Path, metavar="FILE")
    gc.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    gc.add_argument(
        "--imported", action="store_true", help="also imported answers, which only their file can bring back"
    )
    gc.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.profiling.garbage import collect
    from semacdr.profiling.store import AnswerStore

    with AnswerStore(args.store, create=False) as store:
        found = collect(store, dry_run=args.dry_run, imported=args.imported)
    if args.json:
        print_json(found)
        return
    for group in found["removed"]:
        print(f"  {group['view']}  {group['prompt']}  {group['model']} {group['revision']}: {group['answers']} answers")
    verb = "would go" if args.dry_run else "removed"
    print(f"{verb}: {found['answers']} answers ({found['bytes']} bytes of text), {found['parses']} parses")
    if found["imported_kept"]:
        print(f"kept: {found['imported_kept']} imported answers that no profile uses; --imported includes them")
