"""``semacdr profile status``: what a store holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json
from semacdr.progress import duration


def add(action: Actions) -> None:
    """Adds its arguments."""
    status = action("status", "what a store holds: valid and invalid profiles by kind, answers by attempt")
    status.add_argument("--store", required=True, type=Path, metavar="FILE")
    status.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.profiling.status import store_status
    from semacdr.profiling.store import AnswerStore

    with AnswerStore(args.store, create=False) as store:
        status = store_status(store)
    if args.json:
        print_json(status)
        return
    print("profiles")
    for row in status["views"]:
        print(
            f"  {row['dataset']}  {row['view']}  valid: {row['valid']} ({row['valid_share']:.1%}) of {row['items']}  "
            f"{row['prompt']}  {row['model']}"
        )
        _print_kinds(row["failures"])
    print("answers")
    for row in status["answers"]:
        print(
            f"  {row['view']}  attempt {row['attempt'] + 1}: {row['answers']}  {row['tokens']} tokens  "
            f"{row['prompt']}  {row['model']} ({row['engine']})"
        )
        _print_kinds({kind: count for kind, count in row["kinds"].items() if kind != "valid"})
    if status["imports"]:
        print("imports")
    for row in status["imports"]:
        notes = "".join(f"  {key}={value}" for key, value in row["details"]["notes"].items())
        print(
            f"  {row['dataset']}  {row['view']}  {row['file']} ({row['sha256'][:12]}), {row['imported_at']}: "
            f"{row['details']['valid']} valid of {row['details']['rows']}  {row['model']} {row['revision']}{notes}"
        )
    if status["runs"]:
        last = status["runs"][-1]
        print(
            f"last run  {last['finished']}  {last['view']}: {last['answers']} answers, "
            f"{last['prompt_tokens']} + {last['tokens']} tokens in {duration(last['seconds'])}"
        )


def _print_kinds(kinds: dict[str, int]) -> None:
    told = [f"{count} {kind}" for kind, count in kinds.items() if count]
    if told:
        print(f"    {', '.join(told)}")
