"""A bench of seconds that has everything a report can show: two kinds of task, a failure, a published row, markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from tests.bench.tiny import TINY, write_config
from tests.planted import write_planted, write_vectors
from tests.planted_reviews import write_reviews

MARKUP = "</script><script>window.broken=1</script><b>bold</b> & 'so'"
LABEL = "SASRec <b>again</b>"


def write_bench(folder: Path, **changes: Any) -> Path:
    """Runs the bench, one line of which must fail; returns its folder. Every item has a title with markup in it."""
    data = write_planted(folder / "data", users=60)
    items = data.item_frame()
    items["title"] = [f"{title} {MARKUP}" for title in items["title"]]
    items.to_parquet(folder / "data" / "items.parquet", index=False)
    write_vectors(folder / "table", Dataset.load(folder / "data"), ("content", "domain_agnostic"))
    write_reviews(folder / "reviews", users=30)
    films = {"name": "planted", "folder": "data", "embeddings": {"folder": "table"}}
    rated = {"name": "shop", "folder": "reviews", "protocols": ["rating"], "rating_domains": ["tea"]}
    settings = {**TINY, "epochs": 3}
    models = [
        {"name": "Markov"},
        {"name": "SemaCDR", "settings": {**settings, "adapter_dim": 16}},
        {"name": "SASRec", "label": LABEL, "settings": settings},
        {"name": "SASRec", "label": "no GPU", "settings": {**settings, "device": "cuda:7"}, "seeds": [0]},
        {"name": "Biases"},
    ]
    theirs = {"model": "theirs", "dataset": "planted", "protocol": "full", "cite": f"a paper {MARKUP}"}
    config = write_config(
        folder,
        datasets=[films, rated],
        models=models,
        seeds=[0],
        published=[{**theirs, "values": {"all": {"ndcg@10": [0.51, 0.01]}}}],
        **changes,
    )
    out = folder / "out"
    assert main(["bench", str(config), "--out", str(out), "--jobs", "2"]) == 1  # one cell fails
    return out


def titles(out: Path) -> set[str]:
    """The titles of the bench's items."""
    return set(pd.read_parquet(out.parent / "data" / "items.parquet")["title"])
