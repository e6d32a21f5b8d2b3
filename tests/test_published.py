"""The README's tables say what the committed results of the benches say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import publish

ROOT = Path(__file__).parent.parent


def test_the_readme_says_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for _, name, *_ in publish.MARKED.findall(readme)} == set(publish.COLUMNS)
    assert publish.with_tables(readme) == readme, "python benchmarks/publish.py"


def row(model: str, mean: float, domain: str, **other: Any) -> dict[str, Any]:
    own = {"protocol": "rating", "metric": "mse", "subset": "all", "std": None, "seeds": 1, "status": "ok"}
    cost = {
        "source": "measured",
        "train_cpu_seconds": 2.4,
        "peak_rss_bytes": 3 << 20,
        "parameters": 9,
        "huge_pages": True,
    }
    return {**own, **cost, "model": model, "mean": mean, "domain": domain, **other}


def test_a_table_by_hand(tmp_path: Path) -> None:
    """The best first and bold, failures and subsets left out, published lines apart."""
    rows = [
        row("Bad", 1.25, "magazines", std=0.01, seeds=3),
        row("Good", 0.5, "magazines"),
        row("Good", 2.0, "fashion"),
        row("Near", 2.25, "magazines", huge_pages=False),
        row("Count", 2.5, "magazines", huge_pages=False, parameters=0),
        row("Bad", 1.0, "fashion", subset="item 0"),
        row("Bad", 1.0, "fashion", metric="mae"),
        row("Lost", 0.1, "magazines", status="failed"),
        row("Paper", 0.4, "magazines", source="published", train_cpu_seconds=None, peak_rss_bytes=None, seeds=5),
    ]
    of_table = {"protocol": "rating", "domain": "magazines", "metric": "mse"}
    tests = [{**of_table, "model": "Near", "p_holm": 0.05}, {**of_table, "model": "Bad", "p_holm": 0.04}]
    tests.append({**tests[0], "model": "Bad", "protocol": "rating-own-review"})
    (tmp_path / "reviews.json").write_text(json.dumps(rows))
    (tmp_path / "reviews_comparisons.json").write_text(json.dumps(tests))
    found = publish.with_tables("a\n<!-- bench reviews -->\nold\n<!-- end -->\nb\n", tmp_path)
    assert found.splitlines() == [
        "a",
        "<!-- bench reviews -->",
        "| model | magazines | fashion | seeds | CPU s | peak MiB |",
        "|---|---|---|---|---|---|",
        "| *Paper, published* | .4000 |  | 5 |  |  |",
        "| Good | **.5000** | **2.000** | 1 | 2 | 3 |",
        "| Bad | 1.250 ±.0100 |  | 3 | 2 | 3 |",
        "| Near | 2.250† |  | 1 | 2‡ | 3‡ |",
        "| Count | 2.500 |  | 1 | 2 | 3 |",
        "",
        *publish.LEGEND.splitlines(),
        "",
        "<!-- end -->",
        "b",
    ]


def test_a_table_of_some_data_sets_of_a_bench(tmp_path: Path) -> None:
    """The same domain and protocol of two data sets: each in its own column, tests too."""
    cold = {"protocol": "full", "metric": "ndcg@10"}
    rows = [
        row("A", 0.5, "food", dataset="food-kitchen-first-steps", **cold),
        row("B", 0.25, "food", dataset="food-kitchen-first-steps", **cold),
        row("A", 0.125, "office", dataset="art-office-first-steps", **cold),
        row("B", 0.75, "food", dataset="food-kitchen-new-items", **cold),
    ]
    of_table = {**cold, "domain": "food", "model": "B"}
    tests = [{**of_table, "dataset": "food-kitchen-first-steps", "p_holm": 0.5}]
    tests.append({**of_table, "dataset": "food-kitchen-new-items", "p_holm": 0.01})
    (tmp_path / "cold-start.json").write_text(json.dumps(rows))
    (tmp_path / "cold-start_comparisons.json").write_text(json.dumps(tests))
    found = publish.with_tables("<!-- bench cold-start:first-steps -->\n<!-- end -->\n", tmp_path)
    assert found.splitlines()[1:5] == [
        "| model | full, food | full, kitchen | full, office | seeds | CPU s | peak MiB |",
        "|---|---|---|---|---|---|---|",
        "| A | **.5000** |  | **.1250** | 1 | 2 | 3 |",
        "| B | .2500† |  |  | 1 | 2 | 3 |",
    ]


def test_a_bench_is_taken_under_its_name(tmp_path: Path) -> None:
    bench, results = tmp_path / "bench", tmp_path / "results"
    bench.mkdir()
    for name, text in [("bench.json", '{"name": "shop"}'), ("leaderboard.json", "[]"), ("leaderboard.md", "# shop")]:
        (bench / name).write_text(text)
    (bench / "comparisons.json").write_text("[1]")
    publish.take(bench, results)
    assert {path.name: path.read_text() for path in results.iterdir()} == {
        "shop.json": "[]",
        "shop.md": "# shop",
        "shop_comparisons.json": "[1]",
    }
