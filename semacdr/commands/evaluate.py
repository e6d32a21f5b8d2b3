"""Ranks the held-out targets of a run, or predicts its held-out ratings, and prints metrics with intervals.

The protocols: full (all items of the target's domain, seen ones left out; the default), full-cold (of these the ones
without training events, for a run with split=cold-item), full-all (every item of every domain, as RecBole ranks),
sampled-999 and sampled-100 (that many unseen items of the target's domain). Several can be given. The interval of a
mean is the central 95 % of a bootstrap over users. Writes metrics.json, metrics_long.json and
ranks-PROTOCOL-SPLIT.parquet (one row a target) into the run folder.

--coverage 10,100 adds the share of a domain's items that stand in the first 10 and 100 of at least one user's list
under protocol full.

A run of a rating model has protocol rating: mse, mae and rmse of the held-out ratings, from reviews of the training
part. rating-own-review lets a pair's own review be read, which leaks the label.

example: semacdr evaluate runs/food --protocol full,sampled-999
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from semacdr.commands.places import add_places, places

if TYPE_CHECKING:
    from semacdr.evaluation.evaluate import Result
    from semacdr.run import LoadedRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr evaluate``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, as semacdr train writes it")
    parser.add_argument(
        "--protocol",
        action="append",
        metavar="P",
        help="full, full-cold, full-all, sampled-999, sampled-100; several with commas",
    )
    parser.add_argument(
        "--split", choices=("test", "valid"), default="test", help="the held-out targets (default: test)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the negatives of a sampled protocol (default: 0)")
    parser.add_argument(
        "--coverage", metavar="K,...", help="also the share of items in the first K of any list, under protocol full"
    )
    add_places(parser)
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1")
    parser.add_argument("--json", action="store_true", help="print {protocol: {domain: {metric: value}}} alone")


def run(args: argparse.Namespace) -> None:
    """Evaluates, writes and prints."""
    from semacdr.errors import InputError
    from semacdr.evaluation.results import format_table, write_results
    from semacdr.rating_run import is_rating_run
    from semacdr.run import read_run

    rating = is_rating_run(args.run)
    asked = ",".join(args.protocol or ["rating" if rating else "full"])
    names = list(dict.fromkeys(name.strip() for name in asked.split(",")))
    if args.coverage and (rating or "full" not in names):
        raise InputError("--coverage goes with protocol full", fix="add full to --protocol, or leave --coverage out")
    results = _ratings(args, names) if rating else _rankings(args, names)
    write_results(args.run, read_run(args.run), results, args.seed)
    if args.json:
        print(json.dumps({result.protocol.name: result.metrics for result in results}, indent=2))
    else:
        print("\n\n".join(format_table(result) for result in results))


def _rankings(args: argparse.Namespace, names: list[str]) -> list[Result]:
    """The results of a ranking model, one a protocol."""
    from semacdr.evaluation.coverage import parse_ks
    from semacdr.evaluation.evaluate import evaluate
    from semacdr.evaluation.protocols import check_targets, get_protocol
    from semacdr.progress import Progress

    protocols = [get_protocol(name) for name in names]
    tops = parse_ks(args.coverage) if args.coverage else []
    loaded = _loaded(args)
    count = loaded.split.train_count[loaded.split.examples(args.split).target]
    for protocol in protocols:  # a wrong one ends it before the work for the others
        check_targets(protocol, count)
    results = []
    for protocol in protocols:
        targets = len(count)
        progress = Progress(targets, f"evaluate under {protocol.name}", f"{args.split} targets")
        results.append(
            evaluate(
                loaded.model,
                loaded.dataset,
                loaded.split,
                protocol,
                on=args.split,
                seed=args.seed,
                progress=progress,
                coverage_at=tops if protocol.name == "full" else (),
            )
        )
    return results


def _loaded(args: argparse.Namespace) -> LoadedRun:
    """The run, of a model of ours or of RecBole's own."""
    from semacdr.models.recbole_own import is_own
    from semacdr.run import load_run, read_run

    if is_own(read_run(args.run)["model"]):
        from semacdr.recbole.own_model import load_run as load_own

        return load_own(args.run, args.dataset, args.device)
    return load_run(args.run, device=args.device, **places(args))


def _ratings(args: argparse.Namespace, names: list[str]) -> list[Result]:
    """The results of a rating model, one a protocol."""
    from semacdr.evaluation.ratings import OWN_REVIEW, evaluate_ratings, get_rating_protocol
    from semacdr.progress import Progress, say
    from semacdr.rating_run import load_rating_run

    protocols = [get_rating_protocol(name).name for name in names]
    loaded = load_rating_run(args.run, args.dataset, args.device)
    if loaded.model.reads_own_review:
        say(f"{loaded.manifest['model']} reads the very review that was written with a rating: it recommends nothing")
    elif OWN_REVIEW in protocols:
        say(f"{OWN_REVIEW}: the review of the rating that is asked for may be read, so the label leaks")
    results = []
    for name in protocols:
        progress = Progress(len(loaded.data.rows(args.split)), f"evaluate under {name}", f"{args.split} ratings")
        results.append(evaluate_ratings(loaded.model, loaded.dataset, loaded.data, name, args.split, progress=progress))
    return results
