"""Item descriptions by a language model, generated again only where something changed.

Answers are kept in a store under the hash of what was asked (rendered prompt, model and revision, sampling, attempt).
Each item gets a domain-specific description and one without the words of its domain; an answer that breaks the prompt's
contract is retried, and then counted as invalid with a named reason.

For example:
  semacdr profile items --dataset data/films --engine transformers --store films.sqlite
  semacdr profile export --dataset data/films --store films.sqlite --out films-profiles.parquet
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from semacdr.commands.nested import actions_of, print_json
from semacdr.errors import InputError
from semacdr.progress import duration, say

_EXAMPLES = {
    "items": "examples:\n"
    "  semacdr profile items --dataset data/films --engine transformers --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine recorded --model ml-100k --store films.sqlite\n"
    "  semacdr profile items --dataset data/films --engine transformers --limit 4 --no-cache --compare ml-100k",
    "status": "example: semacdr profile status --store films.sqlite --json",
    "export": "example: semacdr profile export --dataset data/films --store films.sqlite --out films-profiles.parquet",
    "show": "example: semacdr profile show 42 --dataset data/films --store films.sqlite",
    "record": "example: semacdr profile record --store films.sqlite --out films.jsonl.gz --note licence=Apache-2.0",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    action = actions_of(parser, _EXAMPLES)

    items = action("items", "describe the items of a data set")
    items.add_argument("--dataset", required=True, type=Path, metavar="DIR", help="a data set folder")
    items.add_argument("--engine", default="transformers", metavar="E", help="transformers (default) or recorded")
    items.add_argument(
        "--model",
        metavar="M",
        help="transformers: a local folder or a hub name, which is downloaded; default: the small embedded model. "
        "recorded: a record file, a store, or the name of a record that ships here (ml-100k)",
    )
    items.add_argument("--store", type=Path, metavar="FILE", help="where answers are kept; needed unless --no-cache")
    items.add_argument("--limit", type=_positive, metavar="N", help="only the first N items of the catalogue")
    items.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="prompts per batch (default 32)")
    items.add_argument("--attempts", type=_positive, default=3, metavar="N", help="tries per item (default 3)")
    items.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    items.add_argument("--no-cache", action="store_true", help="keep nothing and reuse nothing: generate live")
    items.add_argument("--compare", metavar="RECORD", help="say how many answers equal those of a record")
    _prompt_arguments(items)

    status = action("status", "what a store holds: valid and invalid profiles by kind, answers by attempt")
    status.add_argument("--store", required=True, type=Path, metavar="FILE")

    export = action("export", "write the valid profiles as parquet: item_id, view, text")
    export.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    export.add_argument("--store", required=True, type=Path, metavar="FILE")
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help="profiles.parquet")

    show = action("show", "one item: prompt, answer, parse and keys")
    show.add_argument("item", metavar="ITEM", help="an item id")
    show.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    show.add_argument("--store", required=True, type=Path, metavar="FILE")
    _prompt_arguments(show)

    record = action("record", "write a store's answers as a record: hashes and answers, nothing of the data set")
    record.add_argument("--store", required=True, type=Path, metavar="FILE")
    record.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .jsonl or .jsonl.gz file")
    record.add_argument("--note", action="append", default=[], metavar="KEY=VALUE", help="goes into the first line")

    for made in (items, status, export, show, record):
        made.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def _prompt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompts",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="templates, or folders of which the newest is taken; default: both item views that ship here",
    )
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="kinds of things and their words (YAML)")
    parser.add_argument("--kind", metavar="KIND", help="what the items are (film, book, ...) where no domain says so")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def run(args: argparse.Namespace) -> int | None:
    """Runs one action."""
    actions = {"items": _items, "status": _status, "export": _export, "show": _show, "record": _record}
    return actions[args.action](args)


def _items(args: argparse.Namespace) -> None:
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.engines import make_engine
    from semacdr.profiling.prompts import Vocabulary, load_prompts
    from semacdr.profiling.recorded import find_record, read_record
    from semacdr.profiling.run import RunOptions, compare_with_record, profile_items
    from semacdr.profiling.store import AnswerStore

    if args.store is None and not args.no_cache:
        raise InputError("--store FILE is needed", fix="--store FILE, or --no-cache to keep nothing")
    dataset = Dataset.load(args.dataset)
    prompts, vocabulary = load_prompts(args.prompts), Vocabulary.load(args.vocabulary)
    vocabulary.check_kind(args.kind)
    record = read_record(find_record(args.compare)) if args.compare else None
    engine = make_engine(args.engine, args.model)
    options = RunOptions(args.limit, args.batch_size, args.attempts, args.kind, args.dry_run)
    nothing_written = args.no_cache or (args.dry_run and not args.store.is_file())
    with AnswerStore(None if nothing_written else args.store) as store:
        summary = profile_items(dataset, engine, store, prompts, vocabulary, options)
        if record is not None:
            summary["compare"] = compare_with_record(store, record)
    if args.json:
        print_json(summary)
        return
    for view, counts in summary["views"].items():
        print(_plan_line(view, counts) if args.dry_run else _view_line(view, counts))
    if not args.dry_run:
        print(
            f"{summary['generated']} answers generated by {summary['model']} ({summary['engine']}), "
            f"{summary['tokens']} tokens, {duration(summary['seconds'])}"
        )
    if record is not None:
        found = summary["compare"]
        print(f"{found['equal']} of {found['compared']} answers equal the record's")
        if found["equal"] < found["compared"]:
            say("in bfloat16 what else is in a batch changes an answer now and then; the record's batches were others")


def _plan_line(view: str, counts: dict[str, Any]) -> str:
    return (
        f"{view}: {counts['planned']} items, {counts['distinct']} different prompts, "
        f"{counts['to_generate']} to generate; {counts['no_text']} items without text"
    )


def _view_line(view: str, counts: dict[str, Any]) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts["invalid_kinds"].items())
    parts = [
        f"{view}: {counts['valid_share']:.1%} valid ({counts['valid']} of {counts['planned']})",
        f"{counts['invalid']} invalid{f' ({kinds})' if kinds else ''}",
        f"{counts['cached']} cached",
        f"{counts['generated']} generated, {counts['retried']} of them retries",
    ]
    if counts["missing"]:
        parts.append(f"{counts['missing']} missing from the record")
    if counts["no_text"]:
        parts.append(f"{counts['no_text']} items without text")
    return "; ".join(parts)


def _status(args: argparse.Namespace) -> None:
    from semacdr.profiling.store import AnswerStore

    with AnswerStore(args.store, create=False) as store:
        profiles, answers = store.status(), store.answer_counts()
    if args.json:
        print_json({"profiles": profiles, "answers": answers})
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


def _export(args: argparse.Namespace) -> None:
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.run import export_profiles
    from semacdr.profiling.store import AnswerStore

    dataset = Dataset.load(args.dataset)
    with AnswerStore(args.store, create=False) as store:
        counts = export_profiles(dataset, store, args.out)
    if args.json:
        print_json({"out": str(args.out), "items": dataset.num_items, "views": counts})
        return
    for view, count in counts.items():
        print(f"{view}: {count} of {dataset.num_items} items have a valid profile")


def _show(args: argparse.Namespace) -> None:
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.prompts import Vocabulary, load_prompts
    from semacdr.profiling.run import show_item
    from semacdr.profiling.store import AnswerStore

    dataset = Dataset.load(args.dataset)
    with AnswerStore(args.store, create=False) as store:
        prompts, vocabulary = load_prompts(args.prompts), Vocabulary.load(args.vocabulary)
        shown = show_item(dataset, store, prompts, vocabulary, args.item, args.kind)
    if args.json:
        print_json(shown)
        return
    for entry in shown:
        print(f"== {entry['view']}: {entry['kind']}  ({entry['prompt']}, {entry['model']} {entry['revision']})")
        for message in entry.get("messages", []):
            print(f"[{message['role']}] {message['content']}")
        if not entry.get("prompt_unchanged", True):
            print("(the prompt above has changed since this answer was made)")
        print(f"[answer, attempt {(entry['attempt'] or 0) + 1}] {entry.get('prefix', '')}{entry['answer'] or ''}")
        print(f"[parse] {entry['text'] or ''}")
        print(f"[keys] answer {entry['answer_key']}  parse {entry['parse_key']}")


def _record(args: argparse.Namespace) -> None:
    from semacdr.profiling.recorded import Record, read_record, write_record
    from semacdr.profiling.store import AnswerStore

    notes = {}
    for note in args.note:
        key, separator, text = note.partition("=")
        if not separator:
            raise InputError(f"--note {note!r} is not KEY=VALUE", fix="for example: --note licence=Apache-2.0")
        notes[key] = text
    with AnswerStore(args.store, create=False) as store:
        prompts = sorted({row["prompt"] for row in store.answer_counts()})
    made = read_record(args.store)
    write_record(args.out, Record(made.model, made.revision, made.answers, {"prompts": prompts, **notes}))
    summary = {"out": str(args.out), "answers": len(made.answers), "bytes": args.out.stat().st_size}
    if args.json:
        print_json(summary)
        return
    print(f"{summary['answers']} answers, {summary['bytes']} bytes -> {args.out}")
