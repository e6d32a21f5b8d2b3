"""Training curves of a run, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from typing import Any

from semacdr.report.subject import CURVES, RunEntry

PREFIX = "valid_"


def curve(run: RunEntry) -> dict[str, Any] | None:
    """The losses and validation scores of a run by epoch; None where none are kept, as of a counting model.

    Returns:
        ``{dataset, model, domain, seed, metric, points}``, a point being ``[epoch, loss, score]``.
    """
    path = run.folder / CURVES
    if not path.is_file():
        return None
    points: list[list[float | None]] = []
    metric = None
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        metric = next((key.removeprefix(PREFIX) for key in line if key.startswith(PREFIX)), metric)
        scores = line.get(f"{PREFIX}{metric}")
        points.append([line["epoch"], line.get("loss"), scores.get("all") if isinstance(scores, dict) else None])
    if not points:
        return None
    head = {"dataset": run.dataset, "model": run.label, "domain": run.domain, "seed": run.seed}
    return {**head, "metric": metric, "points": points}
