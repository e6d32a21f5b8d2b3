"""Semantic ids of real catalogues: residual k-means against RQ-VAE, the last token against Sinkhorn; who shares codes.

For each data set and way: codes used, entropy, collisions, reconstruction error, and how far domains share codes.
Writes semantic_ids.json, semantic_ids.md and semantic_ids.svg. Ids that are there are taken as they are.

    semacdr embed --dataset data/fk --out emb/fk
    OMP_NUM_THREADS=1 python benchmarks/semantic_ids.py --data data/fk=emb/fk data/ao=emb/ao --work ids
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from semacdr import api
from semacdr.embedding.id_input import table_input
from semacdr.embedding.id_statistics import code_counts
from semacdr.files import read_json, write_json, write_text
from semacdr.progress import say

RESULTS = Path(__file__).parent / "results"
WAYS: dict[str, dict[str, Any]] = {
    "RQ-KMeans, token": {"method": "rq-kmeans"},
    "RQ-KMeans, Sinkhorn": {"method": "rq-kmeans", "collisions": "sinkhorn"},
    "RQ-VAE, token": {"method": "rq-vae"},
}
PLOTTED = ("RQ-KMeans, token", "RQ-VAE, token")
COLOURS = ("#2a6f97", "#c8553d")
PANEL, GAP, MARGIN = (220, 150), 34, 64


def main() -> None:
    """Makes what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="DATASET=EMBEDDINGS")
    parser.add_argument("--work", type=Path, required=True, help="where the ids go")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    for pair in args.data:
        data, _, embeddings = pair.partition("=")
        dataset, table = api.load(data), api.EmbeddingTable.load(embeddings)
        for way, settings in WAYS.items():
            say(f"{dataset.name}: {way}")
            out = args.work / dataset.name / way.replace(", ", "-")
            timed, cpu = out.with_suffix(".json"), time.process_time()
            fixed = {"levels": args.levels, "codes": args.codes, "seed": args.seed, "titles": False}
            ids = api.semantic_ids(table, out, dataset, **fixed, **settings)
            if not timed.is_file():
                write_json(timed, {"cpu_seconds": round(time.process_time() - cpu, 1)})
            names = list(dataset.domains)
            domain = np.array([names.index(name) if name in names else -1 for name in ids.domains], np.int64)
            there = table_input(table).vectors.any(axis=1)  # items without text have one code for all of them
            counts = code_counts(ids.codes[there, :-1], domain[there], ids.manifest["statistics"]["codes"], len(names))
            found.append(
                {
                    "dataset": dataset.name,
                    "way": way,
                    "settings": ids.manifest["settings"],
                    "kmeans": ids.manifest["kmeans"],
                    **read_json(timed),
                    **ids.manifest["statistics"],
                    "curve": [sharing_curve(level) for level in counts],
                    "domains": names,
                }
            )
    plain = [{key: value for key, value in row.items() if key != "curve"} for row in found]
    write_json(RESULTS / "semantic_ids.json", plain)
    write_text(RESULTS / "semantic_ids.md", markdown(plain))
    write_text(RESULTS / "semantic_ids.svg", picture(found))


def sharing_curve(counts: np.ndarray) -> list[list[float]]:
    """(K, 2) items of each code in two domains -> corners of the curve of the picture.

    Codes in the order of how much of them the first domain makes up, domains weighed alike; x is the share of all items
    (again domains alike) in the codes so far, y a code's share of the first domain.
    """
    share = counts[:, :2] / np.maximum(counts[:, :2].sum(axis=0), 1)
    mass = share.sum(axis=1) / 2
    used = mass > 0
    first, mass = share[used, 0] / share[used].sum(axis=1), mass[used]
    order = np.argsort(-first, kind="stable")
    right = np.cumsum(mass[order])
    left = right - mass[order]
    corners = []
    for a, b, y in zip(left.tolist(), right.tolist(), first[order].tolist()):
        corners += [[round(a, 4), round(y, 4)], [round(b, 4), round(y, 4)]]
    return corners


def mixing(counts_curve: list[list[float]]) -> float:
    """What a curve comes to: the chance that two items of one code, domains alike, are of different domains, over 1/2.

    1: every code is used by both domains alike; 0: no code is shared.
    """
    points = np.array(counts_curve)
    width, y = points[1::2, 0] - points[::2, 0], points[::2, 1]
    return float((width * 4 * y * (1 - y)).sum())


def markdown(rows: list[dict[str, Any]]) -> str:
    """The tables."""
    lines = ["# Semantic ids", ""]
    settings = rows[0]["settings"]
    lines += [
        f"{settings['levels']} levels of {settings['codes']} codes, seed {settings['seed']}, one set of codebooks for",
        "the items of both domains. Lists have one value a level. Collisions: share of the items whose codes another",
        "item has, by the nearest codes and before the last token. Error: share of the squared length of the text",
        "vectors that the codes miss. Shared: share of the codes that both domains use, and of the items in them. Last",
        "tokens: values that they need, of the items with text and of all: those without one are alike. The picture,",
        "`semantic_ids.svg`, shows by how much each code is shared; its mixing is the chance that two items of one",
        "code, domains weighed alike, are of different domains, over one half. Vectors: the content view, by the",
        "embedded encoder (all-MiniLM-L6-v2).",
    ]
    columns = ["way", "utilisation", "entropy, bits", "collisions before, after", "last tokens", "error"]
    columns += ["shared codes", "items in them", "CPU s"]
    head = f"| {' | '.join(columns)} |"
    for name in dict.fromkeys(row["dataset"] for row in rows):
        lines += ["", f"## {name}", "", head, "|---" * 9 + "|"]
        for row in (row for row in rows if row["dataset"] == name):
            rate = row["collision_rate"]["all"]
            cells = [
                row["way"],
                _list(row["utilisation"]["all"]),
                _list(row["entropy_bits"]["all"], 2),
                f"{rate['before']:.1%}, {rate['after']:.1%}",
                f"{row['last_token_size_with_vector']}, {row['last_token_size']}",
                _list(row["reconstruction_error"]),
                _list(row["shared_codes"]),
                _list(row["items_in_shared_codes"]),
                f"{row['cpu_seconds']:.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", "| way | domain | utilisation | entropy, bits | collisions before, after |", "|---" * 5 + "|"]
        for row in (row for row in rows if row["dataset"] == name):
            for domain in row["domains"]:
                rate = row["collision_rate"][domain]
                lines.append(
                    f"| {row['way']} | {domain} | {_list(row['utilisation'][domain])} | "
                    f"{_list(row['entropy_bits'][domain], 2)} | {rate['before']:.1%}, {rate['after']:.1%} |"
                )
    return "\n".join(lines) + "\n"


def _list(values: list[float], digits: int = 3) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def picture(rows: list[dict[str, Any]]) -> str:
    """SVG: a row of panels for each data set, a panel for each level, a line for each of the plotted ways."""
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    levels = len(rows[0]["curve"])
    wide, high = PANEL
    width = MARGIN + levels * (wide + GAP)
    height = len(names) * (high + GAP + 34) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="20" font-size="14">Whose codes are they? Flat at one half: codes that both '
        "domains share; one or zero: codes of one domain</text>",
    ]
    for at, (way, colour) in enumerate(zip(PLOTTED, COLOURS)):
        x = MARGIN + 170 * at
        parts.append(f'<line x1="{x}" x2="{x + 24}" y1="36" y2="36" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 30}" y="40">{way}</text>')
    for line, name in enumerate(names):
        top = 72 + line * (high + GAP + 34)
        mine = [row for row in rows if row["dataset"] == name and row["way"] in PLOTTED]
        first = mine[0]["domains"][0]
        parts.append(f'<text x="{MARGIN}" y="{top - 8}" font-weight="600">{name}</text>')
        for level in range(levels):
            left = MARGIN + level * (wide + GAP)
            parts.append(f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#999"/>')
            half = top + high / 2
            parts.append(f'<line x1="{left}" x2="{left + wide}" y1="{half}" y2="{half}" stroke="#ccc"/>')
            for row in mine:
                points = " ".join(f"{left + x * wide:.1f},{top + (1 - y) * high:.1f}" for x, y in row["curve"][level])
                colour = COLOURS[PLOTTED.index(row["way"])]
                parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            mixed = ", ".join(f"{mixing(row['curve'][level]):.2f}" for row in mine)
            parts.append(f'<text x="{left}" y="{top + high + 16}">level {level + 1}: mixing {mixed}</text>')
            if level == 0:
                for value in (0, 0.5, 1):
                    y = top + (1 - value) * high + 4
                    parts.append(f'<text x="{left - 8}" y="{y}" text-anchor="end">{value}</text>')
                middle = top + high / 2
                parts.append(
                    f'<text x="{left - 40}" y="{middle}" text-anchor="middle" '
                    f'transform="rotate(-90 {left - 40} {middle})">share of {first}</text>'
                )
    parts.append(
        f'<text x="{MARGIN}" y="{height - 10}">share of all items in the codes so far, domains weighed alike</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
