"""``semacdr profile show``: all about the profiles of one item or one user."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import prompt_arguments
from semacdr.commands.profiling.users import histories_of, history_arguments
from semacdr.errors import InputError
from semacdr.progress import say


def add(action: Actions) -> None:
    """Adds its arguments."""
    show = action("show", "one item or user: prompt, answer, parse and keys")
    show.add_argument("item", nargs="?", metavar="ITEM", help="an item id")
    show.add_argument("--user", metavar="ID", help="a user id in place of an item's: the clusters, then the profile")
    show.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    show.add_argument("--store", required=True, type=Path, metavar="FILE")
    prompt_arguments(show)
    asked = show.add_argument_group("with --user, as semacdr profile users had them: show the prompts too")
    history_arguments(asked, required=False)
    show.add_argument("--json", action="store_true", help="machine-readable, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.dataset import Dataset
    from semacdr.profiling.prompts import Vocabulary, load_prompts
    from semacdr.profiling.show import show_item, show_user
    from semacdr.profiling.store import AnswerStore

    if (args.item is None) == (args.user is None):
        raise InputError("one item or one user is shown", fix="ITEM, or --user ID")
    if args.user is None and (args.embeddings or args.clusters or args.titles):
        raise InputError("--embeddings, --clusters and --titles go with --user", fix="leave them out")
    dataset = Dataset.load(args.dataset)
    with AnswerStore(args.store, create=False) as store:
        prompts = load_prompts(args.prompts) if args.prompts else []
        if args.user is None:
            shown = show_item(dataset, store, prompts, Vocabulary.load(args.vocabulary), args.item, args.kind)
        else:
            histories = histories_of(args, dataset, new=False)[0] if args.embeddings else None
            shown = show_user(dataset, store, prompts, args.user, histories)
    if args.json:
        print_json(shown)
        return
    for entry in shown:
        _print(entry, args.user)
    if args.user is not None and args.embeddings is None:
        say("the prompts are shown with --embeddings DIR, the table that semacdr profile users had")


def _print(entry: dict[str, Any], user: str | None) -> None:
    whose = "" if user is None else f" {entry['item_id']}"
    print(f"== {entry['view']}{whose}: {entry['kind']}  ({entry['prompt']}, {entry['model']} {entry['revision']})")
    for message in entry.get("messages", []):
        print(f"[{message['role']}] {message['content']}")
    if not entry.get("prompt_unchanged", True):
        print("(the prompt above has changed since this answer was made)")
    if entry["other_text"]:
        now = "text than the item has" if user is None else "history than is known of the user"
        print(f"(the answer below was asked about another {now} now)")
    for attempt in entry.get("attempts", []):
        if attempt["answer_key"] != entry["answer_key"]:
            print(f"[earlier answer: {attempt['kind']}] {attempt['answer']}")
    print(f"[answer, attempt {(entry['attempt'] or 0) + 1}] {entry.get('prefix', '')}{entry['answer'] or ''}")
    print(f"[parse] {entry['text'] or ''}")
    print(f"[keys] answer {entry['answer_key']}  parse {entry['parse_key']}")
