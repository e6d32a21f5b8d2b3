"""The parts of a report that need a trained model: map, weights, examples; kept in the run folder once they are made.

What is kept holds item ids and no titles, so that it may stay where titles may not.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semacdr.errors import SemacdrError
from semacdr.files import file_sha256, fingerprint, read_json, write_json
from semacdr.progress import say
from semacdr.report.places import data_folder, manifest_of
from semacdr.report.subject import RUN, RunEntry, Subject

FORMAT_VERSION = 2
KEPT = "report_parts.json"
WEIGHTS = "model.safetensors"  # as semacdr.run calls it
PARTS = ("domains", "map", "weights", "examples")
MODELS = 6  # of each data set, the best


def model_parts(
    subject: Subject, dataset: str, places: Mapping[str, str | Path | None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The parts of the best models on a data set whose weights are there, of the first such seed of each.

    Args:
        subject: the report's subject.
        dataset: name of the data set.
        places: where its folders are now, for :func:`semacdr.run.load_run`.

    Returns:
        a list of ``{model, seed, domains, map, weights, examples}``, best model first, and what could not be made.
    """
    first: dict[str, RunEntry] = {}
    for run in subject.runs:
        if run.dataset == dataset and run.state == "done" and run.domain is None:
            there = first.setdefault(run.label, run)
            if not (there.folder / WEIGHTS).is_file() and (run.folder / WEIGHTS).is_file():
                first[run.label] = run
    order = [label for label in subject.best_first(dataset) if label in first]
    order += [label for label in first if label not in order]
    kept = [label for label in order if (first[label].folder / WEIGHTS).is_file()]
    parts, notes = [], []
    for label in kept[:MODELS]:
        try:
            made = _parts(first[label], _with_dataset(places, subject.datasets.get(dataset), first[label]))
        except Exception as error:  # whatever is wrong with one model, the page and the other models do without it
            what = error.what if isinstance(error, SemacdrError) else str(error) or type(error).__name__
            notes.append(f"{label}: no map, weights or examples, because {without_folders(what)}.")
            continue
        parts.append({"model": label, "seed": first[label].seed, **made})
    if len(kept) > MODELS:
        notes.append(f"Maps, weights and examples are those of the best {MODELS} of {len(kept)} models.")
    gone = [label for label in order if label not in kept]  # taken out of a bench's record
    if gone:
        whose = "its weights are" if len(gone) == 1 else "their weights are"
        notes.append(f"{'; '.join(gone)}: no map, weights or examples, because {whose} not kept here.")
    return parts, notes


def without_folders(text: str) -> str:
    """A message without the folders of this machine: of each absolute path the last name."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)+([^\s/:'\"]+)", r"\1", text)


def _with_dataset(
    places: Mapping[str, str | Path | None], beside: Path | None, run: RunEntry
) -> dict[str, str | Path | None]:
    """The places, with a data set that is this run's, as that of a bench that was moved as a whole; else none."""
    return {**places, "dataset": data_folder(manifest_of(run) or {}, places.get("dataset"), beside)}


def _parts(run: RunEntry, places: Mapping[str, str | Path | None]) -> dict[str, Any]:
    """Those that the run folder keeps, if they are of its weights, else new ones."""
    weights = run.folder / WEIGHTS
    key = fingerprint({"format": FORMAT_VERSION, "run": read_json(run.folder / RUN), "weights": file_sha256(weights)})
    kept = run.folder / KEPT
    parts = _read_kept(kept, key)
    if parts is None:
        say(f"report: {run.label}: map, weights and examples")
        parts = _make(run, places)
        with contextlib.suppress(OSError):  # a run folder that may not be written to: they are made again next time
            write_json(kept, {"key": key, "parts": parts})
    return parts


def _read_kept(path: Path, key: str) -> dict[str, Any] | None:
    """What is kept under a key; None where there is nothing of it, or nothing that can be read."""
    try:
        kept = read_json(path)
        parts = {name: kept["parts"][name] for name in PARTS}
        return parts if kept["key"] == key else None
    except (SemacdrError, OSError, KeyError, TypeError):
        return None


def _make(run: RunEntry, places: Mapping[str, str | Path | None]) -> dict[str, Any]:
    from semacdr.report.examples import examples
    from semacdr.report.item_map import item_map
    from semacdr.report.weights import weights
    from semacdr.run import load_run

    given = {name: place for name, place in places.items() if place is not None}
    loaded = load_run(run.folder, **given)  # type: ignore[arg-type]
    found = item_map(loaded)
    if found:
        index = loaded.dataset.item_index
        found["domain"] = [int(loaded.dataset.item_domain[index[item]]) for item in found["items"]]
    return dict(zip(PARTS, (list(loaded.dataset.domains), found, weights(loaded), examples(loaded))))
