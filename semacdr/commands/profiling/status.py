"""``semacdr profile status``: what a store holds."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from semacdr.commands.nested import Actions, print_json


def add(action: Actions) -> None:
    """Adds its arguments."""
    status = action("status", "what a store holds: valid and invalid profiles by kind, answers by attempt")
    status.add_argument("--store", required=True, type=Path, metavar="FILE")
    status.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.profiling.store import AnswerStore

    with AnswerStore(args.store, create=False) as store:
        profiles, answers = store.status(), store.answer_counts()
        imports = [asdict(record) for record in store.imports()]
    if args.json:
        print_json({"profiles": profiles, "answers": answers, "imports": imports})
        return
    print("profiles")
    totals: dict[tuple[str, str], int] = {}
    for row in profiles:
        totals[row["dataset"], row["view"]] = totals.get((row["dataset"], row["view"]), 0) + row["items"]
    for row in profiles:
        share = row["items"] / totals[row["dataset"], row["view"]]
        print(
            f"  {row['dataset']}  {row['view']}  {row['kind']}: {row['items']} ({share:.1%})  "
            f"{row['prompt']}  {row['model']}"
        )
    print("answers")
    for row in answers:
        print(
            f"  {row['view']}  attempt {row['attempt'] + 1}: {row['answers']}  {row['tokens']} tokens  "
            f"{row['prompt']}  {row['model']} ({row['engine']})"
        )
    if imports:
        print("imports")
    for row in imports:
        notes = "".join(f"  {key}={value}" for key, value in row["details"]["notes"].items())
        print(
            f"  {row['dataset']}  {row['view']}  {row['file']} ({row['sha256'][:12]}), {row['imported_at']}: "
            f"{row['details']['valid']} valid of {row['details']['rows']}  {row['model']} {row['revision']}{notes}"
        )
