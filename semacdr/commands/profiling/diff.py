"""``semacdr profile diff``: how two prompt versions, two models or two stores differ on the same items."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from semacdr.commands.nested import Actions, print_json
from semacdr.commands.profiling.common import positive, prompt_arguments
from semacdr.errors import InputError

if TYPE_CHECKING:
    from semacdr.profiling.diff import Question, Side


def add(action: Actions) -> None:
    """Adds its arguments."""
    diff = action("diff", "two prompt versions, two models or two stores on the same items, side by side")
    for name in ("A", "B"):
        diff.add_argument(
            name.lower(), metavar=name, help="a template (.j2), a store file, or a model of --store (NAME[@REVISION])"
        )
    diff.add_argument("--dataset", required=True, type=Path, metavar="DIR")
    diff.add_argument("--store", type=Path, metavar="FILE", help="has the answers, where A or B is no store itself")
    diff.add_argument(
        "--model", metavar="NAME", help="whose answers, where A and B are templates and there are several"
    )
    diff.add_argument("--limit", type=positive, metavar="N", help="only the first N items of the catalogue")
    diff.add_argument("--out", type=Path, metavar="FILE", help="the page to write (HTML)")
    diff.add_argument(
        "--most",
        type=positive,
        default=500,
        metavar="N",
        help="items told, a view: those that differ most (default 500)",
    )
    prompt_arguments(diff)
    diff.add_argument("--json", action="store_true", help="counts and texts, alone on stdout")


def run(args: argparse.Namespace) -> None:
    """Does it."""
    from semacdr.data.item_rows import ItemRows
    from semacdr.files import check_writable, write_text
    from semacdr.profiling.diff import Question, compare
    from semacdr.profiling.diff_page import page
    from semacdr.profiling.prompts import Vocabulary

    if args.out is None and not args.json:
        raise InputError("nothing to write", fix="--out diff.html, or --json")
    if args.out is not None:
        check_writable(args.out)
    vocabulary = Vocabulary.load(args.vocabulary)
    vocabulary.check_kind(args.kind)
    question = Question(ItemRows(args.dataset), vocabulary, args.kind, args.limit)
    with contextlib.ExitStack() as stores:  # they are read while the catalogue is
        a, b = (_side(args, name, question, stores) for name in (args.a, args.b))
        comparison = compare(a, b, question.rows, args.most, args.limit)
    if args.out is not None:
        write_text(args.out, page(comparison))
    if args.json:
        print_json(comparison)
        return
    for view, counts in comparison["counts"].items():
        valid = [counts[side]["kinds"].get("valid", 0) for side in ("a", "b")]
        print(f"{view}: {counts['items']} items, {counts['equal']} equal; valid: {valid[0]} and {valid[1]}")
    print(args.out)


def _side(args: argparse.Namespace, name: str, question: Question, stores: contextlib.ExitStack) -> Side:
    from semacdr.profiling.diff import kept_prompts, model_of, prompt_side, store_side
    from semacdr.profiling.prompts import load_prompt, load_prompts
    from semacdr.profiling.store import AnswerStore

    path = Path(name)
    template = path.suffix == ".j2"
    if path.is_file() and not template:
        return store_side(stores.enter_context(AnswerStore(path, create=False)), question)
    if args.store is None:
        raise InputError(f"{name!r} is no store, so a store is needed", fix="--store FILE")
    store = stores.enter_context(AnswerStore(args.store, create=False))
    if template:
        return prompt_side(store, [load_prompt(path)], model_of(store, args.model), question)
    identity = model_of(store, name)
    prompts = load_prompts(args.prompts) if args.prompts else kept_prompts(store, identity)
    return prompt_side(store, prompts, identity, question)
