"""Turns item vectors into semantic ids: a few codes, shared by items of like meaning in all domains, and a last token.

Residual k-means (--method rq-kmeans) or a residual-quantised autoencoder (rq-vae) gives each item its codes. Items with
equal codes are told apart by the last token, after Sinkhorn's algorithm has spread them if so wanted. The same inputs
and settings give the same ids, and a folder that holds them already is left as it is. Further settings are key=value
pairs, for example pca=64 steps=1000.

example: semacdr ids --embeddings runs/table --dataset runs/data --out runs/ids
         semacdr ids --embeddings runs/table --out runs/ids --method rq-vae --collisions sinkhorn steps=1000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from semacdr.progress import duration, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``semacdr ids``."""
    parser.add_argument("--embeddings", required=True, type=Path, metavar="DIR", help="embedding table of the items")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the ids go")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="data set folder, for domains and titles")
    parser.add_argument("--views", metavar="V,V,...", help="views of the table to join; all by default")
    parser.add_argument("--levels", type=int, metavar="N", help="codes of an item (3)")
    parser.add_argument("--codes", type=int, metavar="N", help="entries of each level's codebook (256)")
    parser.add_argument("--method", metavar="M", help="rq-kmeans (default) or rq-vae")
    parser.add_argument("--collisions", metavar="C", help="token (default) or sinkhorn")
    parser.add_argument("--seed", type=int, metavar="N", help="of every random choice (0)")
    parser.add_argument(
        "--no-titles", action="store_true", help="no titles of the data set in what is kept and printed"
    )
    parser.add_argument("--json", action="store_true", help="print the statistics as JSON")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="further settings")


def run(args: argparse.Namespace) -> int:
    """Makes the ids and prints their statistics."""
    from semacdr.config import parse_pairs
    from semacdr.data.dataset import Dataset
    from semacdr.embedding.build_ids import build_ids
    from semacdr.embedding.id_input import table_input
    from semacdr.embedding.id_settings import id_settings
    from semacdr.embedding.table import EmbeddingTable

    values = parse_pairs(args.settings)
    for name in ("levels", "codes", "method", "collisions", "seed"):
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    if args.views is not None:
        values["views"] = [view.strip() for view in args.views.split(",") if view.strip()]
    if args.no_titles:
        values["titles"] = False
    settings = id_settings(values)
    dataset = None if args.dataset is None else Dataset.load(args.dataset)
    given = table_input(EmbeddingTable.load(args.embeddings), settings.views)
    found = build_ids(given, args.out, settings, dataset)
    if found["skipped"]:
        say(f"skipped: {args.out} already holds these ids")
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    levels = range(len(found["codes"]))
    rows = {"codes": found["codes"], "used": found["used"], "reconstruction error": found["reconstruction_error"]}
    rows |= {f"utilisation ({name})": values for name, values in found["utilisation"].items()}
    rows |= {f"entropy, bits ({name})": values for name, values in found["entropy_bits"].items()}
    if "shared_codes" in found:
        rows["codes of several domains"] = found["shared_codes"]
        rows["items in such codes"] = found["items_in_shared_codes"]
    width = max(map(len, rows))
    lines = [" " * width + "".join(f"  level {level + 1}" for level in levels)]
    for name, values in rows.items():
        lines.append(
            f"{name:<{width}}" + "".join(f"{value:>9.3f}" if _real(value) else f"{value:>9}" for value in values)
        )
    rate = found["collision_rate"]["all"]
    lines.append(
        f"collisions: {rate['before']:.2%} of the items by their nearest codes, {rate['after']:.2%} before the last "
        f"token, which has {found['last_token_size']} values"
    )
    of_domains = [f"{name} {there['after']:.2%}" for name, there in found["collision_rate"].items() if name != "all"]
    if of_domains:
        lines.append(f"collisions before the last token: {', '.join(of_domains)}")
    if found["without_vector"]:
        lines.append(
            f"{found['without_vector']} of {found['items']} items have no vector and only a last token of their own; "
            f"the others need {found['last_token_size_with_vector']} values of it"
        )
    for example in found.get("examples", ()):
        lines.append(f"code {example['code']} of level 1")
        for name, titles in example["titles"].items():
            lines.append(f"  {name} ({example['items'][name]}): " + "; ".join(titles))
    lines.append(f"{found['items']} ids, {duration(found['seconds'])} -> {found['out']}")
    return lines


def _real(value: object) -> bool:
    return isinstance(value, float)
