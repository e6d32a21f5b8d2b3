"""Training curves of a run, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from typing import Any

from semacdr.report.places import manifest_of
from semacdr.report.subject import CURVES, RunEntry

PREFIXES = {"valid_": "", "recbole_valid_": "RecBole's "}
"""How the key of a validation score begins -> how its metric is called; RecBole's own models are judged by RecBole."""


def curve(run: RunEntry) -> dict[str, Any] | None:
    """The losses and validation scores of a run by epoch; None where none are kept, as of a counting model.

    Returns:
        ``{dataset, model, domain, seed, metric, protocol, points}``, a point being ``[epoch, loss, score]``. Scores of
        different protocols do not belong on one axis; the protocol is None where a training has no choice of it.
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
        if not isinstance(line, dict) or "epoch" not in line:
            continue
        key = next((key for key in line if key.startswith(tuple(PREFIXES))), None)
        value = None
        if key is not None:
            prefix = next(prefix for prefix in PREFIXES if key.startswith(prefix))
            metric = PREFIXES[prefix] + key.removeprefix(prefix)
            value = line[key].get("all") if isinstance(line[key], dict) else line[key]
        points.append([line["epoch"], line.get("loss"), value])
    if not points:
        return None
    head = {"dataset": run.dataset, "model": run.label, "domain": run.domain, "seed": run.seed}
    return {**head, "metric": metric, "protocol": _protocol(run), "points": points}


def _protocol(run: RunEntry) -> str | None:
    training = (manifest_of(run) or {}).get("training")
    name = training.get("valid_protocol") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None
