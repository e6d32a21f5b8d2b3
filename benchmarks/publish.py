"""Takes a bench's leaderboard into the committed results, and writes the README's main tables anew.

    semacdr bench bench/food-kitchen.yaml --data-root DIR --out runs/bench/food-kitchen \\
        --record benchmarks/results/bench/food-kitchen
    python benchmarks/publish.py runs/bench/food-kitchen      # leaderboard and tests of this bench, then the tables
    python benchmarks/publish.py                              # the tables alone

A table of the README stands between a pair of marks, <!-- bench NAME --> and <!-- end -->, and holds nothing but what
benchmarks/results/bench/NAME.json says; a test compares them. A bench of several data sets has several tables, whose
marks say <!-- bench NAME:PART -->. Seeds and costs are those of the first column's runs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semacdr.bench.significance import LEVEL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "bench"
README = ROOT / "README.md"
MARKED = re.compile(r"(<!-- bench (([\w.-]+)(?::[\w.-]+)?) -->\n).*?(<!-- end -->)", re.DOTALL)
MIB = 1 << 20
LEGEND = (
    "Bold: the best of a column. †: not significantly behind it (paired test over users, Holm's correction, p ≥ .05). "
    "±: standard deviation over seeds. ‡: trained without huge pages, which takes more seconds and memory.\n"
)


@dataclass(frozen=True)
class Column:
    """A number of each model: protocol, domain, metric, and the data set where a bench has several."""

    protocol: str
    domain: str
    metric: str
    lower_is_better: bool = False
    dataset: str | None = None

    @property
    def head(self) -> str:
        return self.domain if self.lower_is_better else f"{self.protocol}, {self.domain}"

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a row of the leaderboard, or a test, is of this column."""
        same = (row["protocol"], row["domain"], row["metric"]) == (self.protocol, self.domain, self.metric)
        return same and self.dataset in (None, row.get("dataset"))


def ranking(*domains: str) -> list[Column]:
    """Full ranking over all domains first, then each domain under both protocols."""
    places = [("full", "all"), *((name, domain) for name in ("full", "sampled-999") for domain in domains)]
    return [Column(protocol, domain, "ndcg@10") for protocol, domain in places]


def cold(part: str, domains: Sequence[str], *protocols: str) -> list[Column]:
    """Domains of both data sets of cold-start."""
    home = {"food": "food-kitchen", "kitchen": "food-kitchen", "art": "art-office", "office": "art-office"}
    return [
        Column(protocol, domain, "ndcg@10", dataset=f"{home[domain]}-{part}")
        for protocol in protocols
        for domain in domains
    ]


RATINGS = [Column("rating", domain, "mse", lower_is_better=True) for domain in ("magazines", "fashion")]
COLUMNS = {
    "food-kitchen": ranking("food", "kitchen"),
    "art-office": ranking("art", "office"),
    "reviews": RATINGS,
    "cold-start:new-items": cold("new-items", ("food", "kitchen", "art", "office"), "full", "full-cold"),
    "cold-start:first-steps": cold("first-steps", ("food", "kitchen", "office"), "full"),  # art is where all begin
}


def number(value: float) -> str:
    """As the README writes scores: .1234, 1.050."""
    return f"{value:.4f}".removeprefix("0") if value < 1 else f"{value:.3f}"


def table(rows: Sequence[dict[str, Any]], columns: Sequence[Column], tests: Sequence[dict[str, Any]] = ()) -> str:
    """Markdown: a line a model, the best of the first column first, published lines in italics where they belong."""
    p_holm = {(column, test["model"]): test["p_holm"] for test in tests for column in columns if column.holds(test)}
    found: dict[tuple[str, str], dict[Column, dict[str, Any]]] = {}
    for row in rows:
        for column in columns:
            if row["subset"] == "all" and row["status"] == "ok" and column.holds(row):
                found.setdefault((row["model"], row["source"]), {})[column] = row
    sign = 1 if columns[0].lower_is_better else -1

    def place(cells: dict[Column, dict[str, Any]]) -> tuple[bool, float]:
        first = cells.get(columns[0])
        return first is None, 0.0 if first is None else sign * first["mean"]

    best = {
        column: (min if column.lower_is_better else max)(
            (cells[column]["mean"] for (_, source), cells in found.items() if column in cells and source == "measured"),
            default=None,
        )
        for column in columns
    }
    lines = [
        "| model | " + " | ".join(column.head for column in columns) + " | seeds | CPU s | peak MiB |",
        "|---|" + "---|" * (len(columns) + 3),
    ]
    for (model, source), cells in sorted(found.items(), key=lambda item: place(item[1])):
        measured = source == "measured"
        shown = []
        for column in columns:
            if column not in cells:
                shown.append("")
                continue
            row = cells[column]
            text = number(row["mean"]) + (f" ±{number(row['std'])}" if row["std"] is not None else "")
            near = measured and p_holm.get((column, model), 0.0) >= LEVEL
            shown.append(f"**{text}**" if measured and row["mean"] == best[column] else text + "†" * near)
        any_row = cells.get(columns[0]) or next(iter(cells.values()))
        cost = ["", ""]
        if measured:
            old = "‡" if any_row["parameters"] and not any_row.get("huge_pages") else ""
            cost = [f"{any_row['train_cpu_seconds']:.0f}{old}", f"{any_row['peak_rss_bytes'] / MIB:.0f}{old}"]
        name = model if measured else f"*{model}, published*"
        lines.append("| " + " | ".join([name, *shown, str(any_row["seeds"]), *cost]) + " |")
    return "\n".join([*lines, "", LEGEND]) + "\n"


def with_tables(readme: str, results: Path = RESULTS) -> str:
    """The README with every marked table as the results say."""

    def fresh(match: re.Match[str]) -> str:
        rows = json.loads((results / f"{match[3]}.json").read_text(encoding="utf-8"))
        compared = results / f"{match[3]}_comparisons.json"
        tests = json.loads(compared.read_text(encoding="utf-8")) if compared.is_file() else []
        return f"{match[1]}{table(rows, COLUMNS[match[2]], tests)}{match[4]}"

    return MARKED.sub(fresh, readme)


def take(bench: Path, results: Path = RESULTS) -> None:
    """Copies a bench's leaderboard and tests under the bench's name."""
    name = json.loads((bench / "bench.json").read_text(encoding="utf-8"))["name"]
    results.mkdir(parents=True, exist_ok=True)
    for source, target in [
        ("leaderboard.json", f"{name}.json"),
        ("leaderboard.md", f"{name}.md"),
        ("comparisons.json", f"{name}_comparisons.json"),
    ]:
        shutil.copyfile(bench / source, results / target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benches", type=Path, nargs="*", metavar="DIR", help="bench folders (--out of semacdr bench)")
    for bench in parser.parse_args().benches:
        take(bench)
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
