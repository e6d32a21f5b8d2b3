"""The top items of a domain for a known user or for a history of item ids.

With --new-item, what an item that is in no data set is to the model, from its text alone: the items nearest to it and,
for a user or a history, the place where it would stand.

example: semacdr recommend runs/ml --user 42 --target-domain stories --k 10
         semacdr recommend runs/ml --history 50,172,181 --target-domain stories --json
         semacdr recommend runs/ml --user 42 --target-domain stories --new-item "A quiet film about two old friends"
         semacdr recommend runs/ml --target-domain stories --new-item "A quiet film about two old friends" --k 5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from semacdr.commands.item_list import item_list
from semacdr.commands.places import add_places, places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr recommend``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", metavar="ID", help="a user of the data set")
    who.add_argument("--history", metavar="ID,ID,...", help="item ids, oldest first; may be empty; @FILE: a line an id")
    parser.add_argument("--target-domain", metavar="D", help="domain to recommend from; all of them by default")
    parser.add_argument("--k", type=int, default=10, help="how many items, or neighbours (10)")
    parser.add_argument("--new-item", metavar="TEXT", help="place this new item instead")
    parser.add_argument(
        "--encoder", metavar="NAME", help="the text encoder of --new-item, if the table does not say where"
    )
    parser.add_argument(
        "--index", type=Path, metavar="DIR", help="an index of semacdr index; every item is scored without"
    )
    parser.add_argument(
        "--beam",
        type=int,
        metavar="WIDTH",
        help="decode semantic ids by a beam of this width (SemaCDRGen); a narrow one can find fewer than k",
    )
    add_places(parser)
    parser.add_argument("--json", action="store_true", help="JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Runs ``semacdr recommend``."""
    from semacdr.errors import InputError
    from semacdr.serving.recommender import RunRecommender

    if args.user is None and args.history is None and args.new_item is None:
        fix = "--history ID,ID,... or --user ID; only --new-item TEXT needs neither"
        raise InputError("recommend for whom? neither a history nor a user is given", fix=fix)
    if args.k < 1:
        raise InputError(f"--k {args.k} is not a positive number")
    if args.new_item is not None and args.index is not None:
        raise InputError(
            "--new-item looks into no index: it is scored among the items of the data set", fix="no --index"
        )
    if args.beam is not None and (args.index is not None or args.new_item is not None):
        raise InputError("--beam decodes the ids of the data set's items", fix="leave --index and --new-item out")
    recommender = RunRecommender.load(args.run, index=args.index, **places(args))
    history = None if args.history is None else item_list(args.history)
    domains = [args.target_domain] if args.target_domain else list(recommender.dataset.domains)
    answers = []
    for domain in domains:
        answer: dict[str, object] = {"target_domain": domain}
        if args.new_item is not None:
            new = recommender.new_item(args.new_item, domain, history, args.user, args.encoder, args.k)
            answer["new_item"] = new.as_dict()
        else:
            found = recommender.recommend(history, domain, args.k, args.user, args.beam)
            answer["items"] = [item.as_dict() for item in found]
        someone = history is not None or args.user is not None
        answer["thread_weights"] = recommender.thread_weights(history, domain, args.user) if someone else None
        answers.append(answer)
    if args.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
        return 0
    for answer in answers:
        _print(answer)
    return 0


def _print(answer: dict[str, object]) -> None:
    weights = answer["thread_weights"]
    tail = ""
    if isinstance(weights, dict):
        tail = "   threads: " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    print(f"{answer['target_domain']}{tail}")
    new = answer.get("new_item")
    items = answer.get("items")
    if isinstance(new, dict):
        if new["rank"] is not None:
            standing = f"place {new['rank']} of {new['candidates'] + 1}"
            print(f"  the new item would stand at {standing}, score {new['score']:.4f}")
        print("  its nearest items, with the cosine of their vectors:")
        items = new["neighbours"]
    if isinstance(items, list):
        if not items:
            print("  nothing left to recommend")
        for place, item in enumerate(items, 1):
            print(f"  {place:>2}  {item['score']:>9.4f}  {item['item_id']:<12} {item['title'] or ''}")
