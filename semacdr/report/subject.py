"""What a report is about: rows of a leaderboard, paired tests, and the run folders behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semacdr.bench.remaining import left_note
from semacdr.errors import InputError
from semacdr.evaluation.metrics import lower_is_better
from semacdr.files import read_json

# As semacdr.run and semacdr.bench.bench call them; those modules load torch, which a page of numbers does without.
RUN, CURVES = "run.json", "metrics.jsonl"
BENCH, LEADERBOARD, COMPARISONS = "bench.json", "leaderboard.json", "comparisons.json"
LEADS = {"rating": "mse", "rating-own-review": "mse"}
LEAD = "ndcg@10"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class RunEntry:
    """A run folder and what the report calls it.

    Attributes:
        dataset: name of the data set.
        label: of the model.
        folder: the run folder.
        seed: of its training.
        domain: whose ratings it predicts; None for a run that ranks.
        state: ``done``, ``failed`` or ``left``.
    """

    dataset: str
    label: str
    folder: Path
    seed: int
    domain: str | None = None
    state: str = "done"


@dataclass(frozen=True)
class Subject:
    """What is reported.

    Attributes:
        title: of the page.
        rows: see :data:`semacdr.bench.leaderboard.COLUMNS`.
        tests: see :mod:`semacdr.bench.significance`.
        runs: the run folders, finished or not.
        lead: protocol -> the metric that counts.
        datasets: name -> where the data set is, for those that lie beside the runs.
        titles: whether items are called by their titles, unless the user says.
        notes: what a reader must know before the numbers.
    """

    title: str
    rows: Rows
    tests: Rows
    runs: tuple[RunEntry, ...]
    lead: Mapping[str, str]
    datasets: Mapping[str, Path] = field(default_factory=dict)
    titles: bool = True
    notes: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The data sets, in the order of the rows."""
        return list(dict.fromkeys([row["dataset"] for row in self.rows] + [run.dataset for run in self.runs]))

    def best_first(self, dataset: str) -> list[str]:
        """The labels that have a measured result on a data set, by the metric that counts, over all its targets.

        A model's first protocol counts, and of its domains all together, or the first where none speaks for all.
        """
        best: dict[str, tuple[bool, float]] = {}
        mine = [row for row in self.rows if row["dataset"] == dataset and row["source"] == "measured"]
        for row in mine:
            if row["mean"] is None or row["subset"] != "all":
                continue
            metric = self.lead.get(row["protocol"], LEAD)
            if row["metric"] != metric:
                continue
            whole = row["domain"] == "all"
            if row["model"] not in best or (whole and not best[row["model"]][0]):
                best[row["model"]] = (whole, row["mean"] if lower_is_better(metric) else -row["mean"])
        return sorted(best, key=lambda label: best[label][1])


def is_bench(folder: Path) -> bool:
    """Whether ``semacdr bench`` has worked in a folder."""
    return (folder / BENCH).is_file()


def bench_subject(folder: Path) -> Subject:
    """A bench, however much of it is done.

    Raises:
        InputError: its files are damaged.
    """
    bench = read_json(folder / BENCH)
    try:
        config, cells = bench["config"], bench["cells"]
        runs = tuple(
            RunEntry(cell["dataset"], cell["label"], folder / cell["run"], cell["seed"], cell["domain"], cell["state"])
            for cell in cells
            if cell["run"]
        )
        rows, tests = read_json(folder / LEADERBOARD), read_json(folder / COMPARISONS)
        protocols = dict.fromkeys(row["protocol"] for row in rows if row["protocol"])
        lead = {name: config["rating_metric"] if name in LEADS else config["metric"] for name in protocols}
        left = left_note(cells)
        places = {entry["name"]: folder / entry["folder"] for entry in bench["datasets"] if entry["folder"]}
        notes = [left] if left else []
        return Subject(bench["name"], rows, tests, runs, lead, places, bool(config.get("titles", True)), tuple(notes))
    except (KeyError, TypeError) as error:
        raise InputError(f"not the files of a bench ({error!r})", where=str(folder), fix="repeat the bench") from None
