"""``semacdr profile show``: all about the profiles of one item."""

from __future__ import annotations

import argparse
from pathlib import Path

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import prompt_arguments


def add(action: Actions) -> None:
    """Adds its arguments."""
    show = action("show", "one item: prompt, answer, parse and keys")
    show.add_argument("item", metavar="ITEM", help="an item id")
    show.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    show.add_argument("--store", required=True, type=Path, metavar="FILE")
    prompt_arguments(show)
    show.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.prompts import Vocabulary, load_prompts
    from semacdr.profiling.run import show_item
    from semacdr.profiling.store import AnswerStore

    dataset = Dataset.load(args.dataset)
    with AnswerStore(args.store, create=False) as store:
        prompts, vocabulary = load_prompts(args.prompts) if args.prompts else [], Vocabulary.load(args.vocabulary)
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
        if entry["other_text"]:
            print("(the answer below was asked about another text than the item has now)")
        for attempt in entry.get("attempts", []):
            if attempt["answer_key"] != entry["answer_key"]:
                print(f"[earlier answer: {attempt['kind']}] {attempt['answer']}")
        print(f"[answer, attempt {(entry['attempt'] or 0) + 1}] {entry.get('prefix', '')}{entry['answer'] or ''}")
        print(f"[parse] {entry['text'] or ''}")
        print(f"[keys] answer {entry['answer_key']}  parse {entry['parse_key']}")
