"""Indexes the item vectors of a run for top-k search, and says how often it finds what exact search finds.

Kinds: exact (needs no faiss), flat (exact, by faiss), ivf-pq (small and fast, approximate) and hnsw (fastest,
approximate). faiss comes with semacdr[ann] (CPU) or semacdr[gpu], never both. Settings of a kind are key=value pairs,
for example probes=32 or search_breadth=256. Without an index, semacdr recommend scores every item.

--add puts items that came after the training into an index that is there, from their texts alone: a file with a line
{"item_id": "...", "domain": "...", "text": "..."} for each, or with title, brand, categories and so on as in the data
set's items in place of text. --remove takes items out. Neither trains nor rebuilds, and both can be called again: what
is done is left.

example: semacdr index runs/ml --kind hnsw
         semacdr recommend runs/ml --index runs/ml/index --user 42
         semacdr index runs/ml --add today.jsonl --remove 17,42
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from semacdr.commands.item_list import item_list
from semacdr.commands.places import add_places, places
from semacdr.progress import duration, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr index``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--kind", metavar="K", help="exact (default), flat, ivf-pq or hnsw")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the index goes; RUN/index by default")
    parser.add_argument("--add", type=Path, metavar="FILE", help="items to add to the index that is there, JSON lines")
    parser.add_argument(
        "--remove", metavar="ID,ID,...", help="items to take out of the index that is there; @FILE: a line an id"
    )
    parser.add_argument("--encoder", metavar="NAME", help="the text encoder of --add, if the run does not say where")
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the kind")


def run(args: argparse.Namespace) -> int:
    """Builds the index and prints its recall, or changes its items."""
    from semacdr.config import parse_pairs
    from semacdr.errors import InputError
    from semacdr.faiss_library import load_faiss
    from semacdr.run import load_run
    from semacdr.serving.build_index import build_index
    from semacdr.serving.index_settings import index_settings

    changes = args.add is not None or args.remove is not None
    if changes and (args.kind is not None or args.settings):
        raise InputError("--add and --remove change an index that is there", fix="leave its kind and settings out")
    if args.encoder is not None and args.add is None:
        raise InputError("--encoder is for --add", fix="leave --encoder out")
    out = args.out or args.run / "index"
    if changes:
        return _change(args, out)
    values = parse_pairs(args.settings)
    if args.kind is not None:
        values["kind"] = args.kind
    settings = index_settings(values)
    if settings.kind != "exact":
        load_faiss()  # what is missing is said before the run is loaded
    loaded = load_run(args.run, **places(args))
    summary = build_index(loaded, out, settings)
    if summary["skipped"]:
        say(f"skipped: {summary['out']} already holds this index")
    if args.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return 0
    recall = summary["recall"]
    for name, engine in summary["engines"].items():
        found = recall["domains"].get(name)
        share = "no unseen item to measure by" if found is None else f"recall@{recall['k']} {found:.4f}"
        print(f"{name}: {engine}, {share}")
    print(
        f"{summary['items']} items, {summary['dim']} dimensions, recall over {recall['users']} users against exact, "
        f"{duration(summary['seconds'])} -> {summary['out']}"
    )
    say(f"next: semacdr recommend {args.run} --index {summary['out']} --user ID")
    return 0


def _change(args: argparse.Namespace, out: Path) -> int:
    from semacdr.errors import InputError
    from semacdr.files import locked
    from semacdr.run import load_run
    from semacdr.serving.build_index import run_fingerprint
    from semacdr.serving.index import SearchIndex
    from semacdr.serving.new_items import change_items, place_items, read_new_items

    items = read_new_items(args.add) if args.add is not None else []
    named = list(dict.fromkeys(item_list(args.remove or "")))
    if not items and not named:
        raise InputError(
            "nothing to add and nothing to remove", fix="--add FILE with a line an item, --remove ID,ID,..."
        )
    run = load_run(args.run, **places(args))
    owner = run_fingerprint(run.path, run.manifest)
    vectors = place_items(run, SearchIndex.load(out, owner), items, named, args.encoder)
    with locked(out, lambda: say(f"{out}: waiting for another change of it")):
        index = SearchIndex.load(out, owner)  # again: another call may have changed it meanwhile
        change = change_items(index, items, vectors, named)
        if change.added or change.removed:
            index.save(out)
    if args.json:
        print(json.dumps({"out": str(out), **asdict(change), "items": len(index)}, indent=2, ensure_ascii=False))
    else:
        before = f", {change.done_before} done before" if change.done_before else ""
        print(f"{change.added} items added, {change.removed} removed{before}, {len(index)} in the index -> {out}")
    return 0
