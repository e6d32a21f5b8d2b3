"""A bench of seconds on planted data, and folders that look like evaluated runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from semacdr.files import read_json, write_json
from tests.planted import write_planted

TINY = {"embedding_dim": 16, "ffn_dim": 16, "num_layers": 1, "max_seq_len": 10, "epochs": 2, "batch_size": 16}
TIMES = ("train_seconds", "train_cpu_seconds", "peak_rss_bytes")


def write_config(folder: Path, **changes: Any) -> Path:
    """A config of two cheap models and two seeds; its data lie beside it."""
    if not (folder / "data").exists():
        write_planted(folder / "data", users=60)
    config = {
        "name": "tiny",
        "data_root": str(folder),
        "datasets": [{"name": "planted", "folder": "data"}],
        "models": [{"name": "Markov"}, {"name": "SASRec", "settings": TINY}],
        "seeds": [0, 1],
        "protocols": ["full", "sampled-100"],
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def without_times(out: Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard but for what a clock or the system says."""
    rows = read_json(out / "leaderboard.json")
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def fake_run(folder: Path, seed: int, greater: Sequence[int], model: str = "SASRec", **training: Any) -> Path:
    """An evaluated run of six targets of five users in two domains, with hits where the test wants them."""
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "user_id": ["a", "a", "b", "c", "d", "e"],
            "item_id": ["x0", "y0", "x1", "x2", "y1", "y2"],
            "domain": ["x", "y", "x", "x", "y", "y"],
            "greater": greater,
            "ties": 0,
            "candidates": 100,
            "domain_history_length": [0, 1, 2, 3, 6, 7],
            "item_train_count": [0, 1, 2, 6, 21, 22],
            "strict": [True, False, True, True, True, True],
        }
    )
    frame.to_parquet(folder / "ranks-full-test.parquet")
    hits = (frame["greater"] < 10).astype(float)
    parts = {("all", "all"): hits == hits, ("strict", "all"): frame["strict"]}
    parts |= {("all", domain): frame["domain"] == domain for domain in "xy"}
    groups = {key: hits[inside] for key, inside in parts.items()}
    row = {"split": "leave-one-out", "protocol": "full", "metric": "hr@10", "ci_low": 0.0, "ci_high": 1.0}
    sizes = {"n_users": 5, "n_targets": 6}
    rows = [{**row, **sizes, "subset": s, "domain": d, "mean": float(v.mean())} for (s, d), v in groups.items()]
    write_json(folder / "metrics_long.json", rows)
    write_json(folder / "evaluation.json", {"run": f"{seed} {list(greater)}", "protocols": {"full": {}}})
    result = {"train_seconds": 2.0 + seed, "train_cpu_seconds": 1.0 + seed, "peak_rss_bytes": 100 + seed}
    manifest = {
        "format_version": 2,
        "status": "done",
        "model": model,
        "dataset_name": "six",
        "dataset_fingerprint": "f",
        "config": {},
        "training": {"seed": seed, "cap_cpu_s": None, "epochs": 5, **training},
        "environment": {"huge_pages": True},
        "result": {**result, "parameters": 7, "device": "cpu", "epochs": 3, "best_epoch": 1 + seed},
    }
    write_json(folder / "run.json", manifest)
    return folder
