"""What a leaderboard compares: systems, each with one finished run a seed, read from the runs' evaluations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from semacdr.evaluation.manifest import EVALUATION, evaluated_protocols
from semacdr.evaluation.results import TRAINING_COLUMNS
from semacdr.files import fingerprint, read_json
from semacdr.run import RUN


@dataclass(frozen=True)
class System:
    """A model with its settings on one data set.

    Attributes:
        dataset: name of the data set.
        label: what tables call it.
        runs: the finished and evaluated run folders, one a seed.
        trials: settings that were tried to choose its own; 1 where they were given.
        note: what a reader must know of its numbers.
        domain: the one that its runs are about; None for all.
    """

    dataset: str
    label: str
    runs: tuple[Path, ...]
    trials: int = 1
    note: str | None = None
    domain: str | None = None

    def protocols(self) -> list[str]:
        """The protocols under which every run has been evaluated, in the first run's order."""
        found = [evaluated_protocols(run) for run in self.runs]
        return [name for name in found[0] if all(name in others for others in found)]

    def rows(self, protocol: str) -> list[list[dict[str, Any]]]:
        """The rows of ``metrics_long.json`` under a protocol, a list a run; of one domain no row speaks for all."""
        return [
            [
                row
                for row in read_json(run / "metrics_long.json")
                if row["protocol"] == protocol and self.domain in (None, row["domain"])
            ]
            for run in self.runs
        ]

    def version(self) -> str:
        """Changes when a run is made or evaluated anew, or anything is to be said of it."""
        runs = [[str(run), read_json(run / EVALUATION)] for run in self.runs]
        return fingerprint([self.dataset, self.label, self.trials, self.note, self.domain, runs])

    def cost(self) -> dict[str, Any]:
        """What the training took: means over seeds, of memory the most."""
        manifests = [read_json(run / RUN) for run in self.runs]
        results = [manifest["result"] for manifest in manifests]
        columns = {name: [result[name] for result in results] for name in TRAINING_COLUMNS}
        return {
            "train_seconds": _mean(columns["train_seconds"]),
            "train_cpu_seconds": _mean(columns["train_cpu_seconds"]),
            "peak_rss_bytes": max(columns["peak_rss_bytes"]),
            "parameters": max(columns["parameters"]),
            "device": ", ".join(dict.fromkeys(columns["device"])),
            "epochs": _epochs(manifests),
            "huge_pages": all(manifest.get("environment", {}).get("huge_pages", False) for manifest in manifests),
        }


def stopped_early(runs: Sequence[Path]) -> str | None:
    """A note on runs that reached their cap of CPU seconds."""
    found = [read_json(run / RUN) for run in runs]
    capped = [manifest for manifest in found if manifest["result"].get("stopped_by") == "cap"]
    if not capped:
        return None
    epochs = {manifest["result"]["epochs"] for manifest in capped}
    caps = sorted({manifest["training"]["cap_cpu_s"] for manifest in capped})
    who = "" if len(capped) == len(found) else f"{len(capped)} of {len(found)} seeds "
    return f"{who}capped at {caps[-1]:g} CPU s, after {_span(epochs)} epoch{'' if epochs == {1} else 's'}"


def _epochs(manifests: Sequence[Mapping[str, Any]]) -> str | None:
    """How far trainings went: ``15 of 60, best 5``; None for what has no epochs of ours."""
    if any(
        "epochs" not in manifest["result"] or "epochs" not in manifest.get("training", ()) for manifest in manifests
    ):
        return None
    ran = _span({manifest["result"]["epochs"] for manifest in manifests})
    allowed = _span({manifest["training"]["epochs"] for manifest in manifests})
    best = {manifest["result"]["best_epoch"] for manifest in manifests} - {-1}  # nothing was validated
    return f"{ran} of {allowed}" + (f", best {_span(best)}" if best else "")


def _span(numbers: Collection[int]) -> str:
    """``7``, or ``7 to 9``."""
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _mean(values: list[float]) -> float:
    return round(fmean(values), 2)
