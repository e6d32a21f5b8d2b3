"""Makes a report: gathers what there is, and writes one HTML file. A part that cannot be made says so in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semacdr import __version__
from semacdr.errors import InputError, SemacdrError
from semacdr.files import write_text
from semacdr.report.curves import curve
from semacdr.report.page import page
from semacdr.report.parts import model_parts, without_folders
from semacdr.report.places import data_folder, is_data, manifest_of
from semacdr.report.subject import Rows, Subject
from semacdr.report.titles import item_titles

REPORT = "report.html"
COLUMNS = (
    *("dataset", "protocol", "subset", "model", "domain", "metric", "mean", "std", "ci_low", "ci_high"),
    *("seeds", "n_targets", "source", "status", "note"),
)
COSTS = ("train_seconds", "train_cpu_seconds", "peak_rss_bytes", "parameters", "device", "epochs", "trials")
TESTS = (
    *("dataset", "protocol", "metric", "domain", "best", "model"),
    *("difference", "ci_low", "ci_high", "p_holm", "effect_size"),
)


def write_report(
    subject: Subject,
    out: Path,
    titles: bool | None = None,
    places: Mapping[str, str | Path | None] | None = None,
) -> Path:
    """Writes a report; nothing is trained or evaluated for it.

    Args:
        subject: what it is about.
        out: the file.
        titles: call items by their titles, not their ids; None for what the subject says.
        places: where a data set and its tables are now, if they moved; see :func:`semacdr.run.load_run`. A data set
            serves the runs on these very data alone.

    Returns:
        the file.

    Raises:
        InputError: the data set given is that of no run.
    """
    write_text(out, page(report_data(subject, titles, places)))
    return out


def report_data(
    subject: Subject, titles: bool | None = None, places: Mapping[str, str | Path | None] | None = None
) -> dict[str, Any]:
    """All that the page shows, as JSON."""
    _check_given(subject, (places or {}).get("dataset"))
    titled = subject.titles if titles is None else titles
    curves = [found for found in (curve(run) for run in subject.runs) if found]
    return {
        "semacdr": __version__,
        "title": subject.title,
        "titles": titled,
        "notes": list(subject.notes),
        "columns": list(COLUMNS),
        "rows": [[_shown(row, column) for column in COLUMNS] for row in subject.rows],
        "lead": dict(subject.lead),
        "tests": [{name: test[name] for name in TESTS} for test in subject.tests],
        "costs": _costs(subject.rows),
        "curves": curves,
        "datasets": [_dataset(subject, name, titled, places or {}) for name in subject.names()],
    }


def _dataset(subject: Subject, name: str, titled: bool, places: Mapping[str, str | Path | None]) -> dict[str, Any]:
    """What needs trained models, of one data set; items stand once and are meant by their place in ``items``."""
    parts, notes = model_parts(subject, name, places)
    used: dict[str, int] = {}

    def at(items: list[str]) -> list[int]:
        return [used.setdefault(item, len(used)) for item in items]

    users: dict[tuple[str, str, str], dict[str, Any]] = {}
    maps, weights = [], []
    for part in parts:
        head = {"model": part["model"], "seed": part["seed"]}
        if part["map"]:
            maps.append({**head, **part["map"], "items": at(part["map"]["items"])})
        if part["weights"]:
            weights.append({**head, **part["weights"]})
        for example in part["examples"]:
            key = (example["user"], example["domain"], example["target"])
            user = users.setdefault(
                key,
                {
                    **{field: example[field] for field in ("user", "domain", "events")},
                    "target": at([example["target"]])[0],
                    "history": at(example["history"]),
                    "models": [],
                },
            )
            user["models"].append({"model": part["model"], "top": at(example["top"])})
    names: dict[str, str] = {}
    if titled and used:
        try:
            names = _titles(subject, name, places, used)
        except (SemacdrError, OSError, KeyError, ValueError) as error:  # pyarrow's of a damaged file is a ValueError
            notes.append(f"No titles, because {without_folders(str(error))}.")
    return {
        "name": name,
        "domains": parts[0]["domains"] if parts else [],
        "items": list(used),
        "item_titles": [names.get(item) for item in used] if names else None,
        "maps": maps,
        "weights": weights,
        "examples": list(users.values()),
        "notes": notes,
        "ranks": any(run.dataset == name and run.domain is None for run in subject.runs),
    }


def _titles(
    subject: Subject, name: str, places: Mapping[str, str | Path | None], used: Mapping[str, int]
) -> dict[str, str]:
    """From the data set of the runs, wherever it is now."""
    manifests = [manifest_of(run) for run in subject.runs if run.dataset == name]
    known = next((manifest for manifest in manifests if manifest), None)
    folder = data_folder(known, places.get("dataset"), subject.datasets.get(name)) if known else None
    if folder is None:
        raise SemacdrError("the data set is gone")
    return item_titles(folder, used.keys())


def _check_given(subject: Subject, given: str | Path | None) -> None:
    manifests = [manifest for manifest in map(manifest_of, subject.runs) if manifest]
    if given is None or not manifests or any(is_data(Path(given), manifest) for manifest in manifests):
        return
    names = ", ".join(dict.fromkeys(str(manifest["dataset_name"]) for manifest in manifests))
    raise InputError(f"not the data of these runs ({names})", where=str(given), fix="name the data set itself")


def _costs(rows: Rows) -> list[dict[str, Any]]:
    """One entry for each model of a data set, or for each of its domains where a model has one."""
    made = [row for row in rows if row["source"] == "measured" and row["seeds"]]
    whole = {(row["dataset"], row["model"]) for row in made if row["domain"] == "all"}
    found: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for row in made:
        domain = None if (row["dataset"], row["model"]) in whole else row["domain"]
        key = (row["dataset"], row["model"], domain)
        if key not in found:
            head = {"dataset": row["dataset"], "model": row["model"], "domain": domain}
            found[key] = {**head, **{name: row.get(name) for name in COSTS}}
    return list(found.values())


def _shown(row: Mapping[str, Any], column: str) -> Any:
    """Numbers whole, so that the page rounds what the leaderboard rounds; a failure without this machine's folders."""
    value = row.get(column)
    return without_folders(value) if column == "status" and isinstance(value, str) else value
