"""``semacdr profile record``: a store as a record to be replayed."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import key_values


def add(action: Actions) -> None:
    """Adds its arguments."""
    record = action("record", "write a store's answers as a record: hashes and answers, nothing of the data set")
    record.add_argument("--store", required=True, type=Path, metavar="FILE")
    record.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .jsonl or .jsonl.gz file")
    record.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="goes into the first line")
    record.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.files import check_writable
    from semacdr.profiling.recorded import Record, read_record, write_record
    from semacdr.profiling.store import AnswerStore

    check_writable(args.out)
    notes = key_values(args.note, "--note", "licence=Apache-2.0")
    with AnswerStore(args.store, create=False) as store:
        prompts = sorted({row["prompt"] for row in store.answer_counts()})
    made = read_record(args.store)
    write_record(args.out, Record(made.model, made.revision, made.answers, {"prompts": prompts, **notes}))
    summary = {"out": str(args.out), "answers": len(made.answers), "bytes": args.out.stat().st_size}
    if args.json:
        print_json(summary)
        return
    print(f"{summary['answers']} answers, {summary['bytes']} bytes -> {args.out}")
