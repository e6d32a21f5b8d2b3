"""Run folders as the subject of a report: what is evaluated is compared, what is not is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semacdr.errors import InputError
from semacdr.files import canonical_json, read_json
from semacdr.report.subject import LEAD, LEADS, RUN, Rows, RunEntry, Subject, bench_subject, is_bench


def read_subject(places: Sequence[Path]) -> Subject:
    """The subject of ``semacdr report``: a bench folder, run folders, or folders that hold run folders.

    Raises:
        InputError: neither, or a bench beside something else.
    """
    if len(places) == 1 and is_bench(places[0]):
        return bench_subject(places[0])
    runs: list[Path] = []
    for place in places:
        if is_bench(place):
            raise InputError("a bench is reported alone", where=str(place), fix="name it alone, or name run folders")
        found = [place] if (place / RUN).is_file() else sorted(path.parent for path in place.glob(f"*/{RUN}"))
        if not found:
            fix = "semacdr train and semacdr evaluate make the one, semacdr bench the other"
            raise InputError("neither a run folder nor a bench folder", where=str(place), fix=fix)
        runs += found
    title = places[0].resolve().name if len(places) == 1 else f"{len(runs)} runs"
    return runs_subject(title, dict.fromkeys(runs))


def runs_subject(title: str, runs: Mapping[Path, str | None]) -> Subject:
    """Runs as a subject; those of one data set that differ by their seed alone are one model.

    Args:
        title: of the page.
        runs: run folder -> what it is called; None for its model's name, or its folder's where names clash.
    """
    manifests = {run: read_json(run / RUN) for run in runs}
    labels = _labels(manifests, runs)
    entries = []
    groups: dict[str, dict[str, list[Path]]] = {}
    notes: list[str] = []
    for run, manifest in manifests.items():
        done = manifest.get("status") == "done"
        training = manifest["training"]
        entries.append(
            RunEntry(
                manifest["dataset_name"],
                labels[run],
                run,
                training["seed"],
                training.get("domain"),
                "done" if done else "left",
            )
        )
        if not done:
            notes.append(f"{labels[run]}: its training has not ended; the same semacdr train goes on with it.")
        elif not (run / "evaluation.json").is_file():
            notes.append(f"{labels[run]}: not evaluated yet; semacdr evaluate does it.")
        else:
            groups.setdefault(manifest["dataset_fingerprint"], {}).setdefault(labels[run], []).append(run)
    rows: Rows = []
    tests: Rows = []
    for group in groups.values():
        rows, tests = _added(rows, tests, group, manifests)
    protocols = dict.fromkeys(row["protocol"] for row in rows)
    lead = {name: LEADS.get(name, LEAD) for name in protocols}
    return Subject(title, rows, tests, tuple(entries), lead, notes=tuple(notes))


def _added(
    rows: Rows, tests: Rows, group: Mapping[str, list[Path]], manifests: Mapping[Path, dict[str, Any]]
) -> tuple[Rows, Rows]:
    """Rows and tests, and those of the models of one data set."""
    from semacdr.bench.leaderboard import system_rows
    from semacdr.bench.significance import best_against_others
    from semacdr.bench.systems import System, stopped_early

    systems = []
    for label, runs in group.items():
        first = manifests[runs[0]]
        domain = first["training"].get("domain")
        systems.append(System(first["dataset_name"], label, tuple(runs), 1, stopped_early(runs), domain))
    protocols = list(dict.fromkeys(name for system in systems for name in system.protocols()))
    for name in protocols:
        having = [system for system in systems if name in system.protocols()]
        rows = rows + [row for system in having for row in system_rows(system, name)]
        try:
            tests = tests + best_against_others(having, name, LEADS.get(name, LEAD))
        except InputError:  # other splits of the same data: their numbers stand there, untested
            continue
    return rows, tests


def _labels(manifests: Mapping[Path, dict[str, Any]], given: Mapping[Path, str | None]) -> dict[Path, str]:
    """What each run is called: one name for runs that differ by their seed alone, and only for these."""
    names: dict[Path, str] = {}
    owner: dict[str, str] = {}
    for run, manifest in manifests.items():
        training = {**manifest["training"], "seed": None}
        tables = [manifest.get(f"{kind}_fingerprint") for kind in ("embeddings", "user_embeddings")]
        what = canonical_json(
            [manifest["dataset_fingerprint"], manifest["model"], manifest["config"], training, tables]
        )
        name = given[run] or manifest["model"]
        if owner.setdefault(name, what) != what:
            name = next((label for label, other in owner.items() if other == what), f"{name}, {run.resolve().name}")
            owner.setdefault(name, what)
        names[run] = name
    return names
