"""Run folders as the subject of a report: what is evaluated is compared, what is not is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semacdr.errors import InputError
from semacdr.evaluation.manifest import EVALUATION, evaluated_protocols
from semacdr.files import read_json
from semacdr.report.subject import LEAD, LEADS, RUN, Rows, RunEntry, Subject, bench_subject, is_bench

if TYPE_CHECKING:
    from semacdr.bench.systems import System

UNFINISHED, FINISHED, EVALUATED = range(3)


def read_subject(places: Sequence[Path]) -> Subject:
    """The subject of ``semacdr report``: a bench folder, run folders, or folders that hold run folders.

    Raises:
        InputError: neither, a bench beside something else, or a run.json of another shape.
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
    title = places[0].resolve().name if len(places) == 1 else f"{len({run.resolve() for run in runs})} runs"
    return runs_subject(title, dict.fromkeys(runs))


def runs_subject(title: str, runs: Mapping[Path, str | None]) -> Subject:
    """Runs as a subject; those of one data set that differ by their seed alone are one model.

    Args:
        title: of the page.
        runs: run folder -> what it is called; None for its model's name, or its folder's where names clash.

    Raises:
        InputError: a run.json of another shape.
    """
    manifests: dict[Path, dict[str, Any]] = {}
    seen: set[Path] = set()
    for run in runs:
        if run.resolve() not in seen:  # a link beside the run that it leads to is no second seed
            manifests[run] = _manifest(run)
            seen.add(run.resolve())
    datasets = _dataset_names(manifests)
    labels = _labels(manifests, datasets, runs)
    kept, notes = _one_a_seed(manifests, datasets, labels)
    entries = []
    groups: dict[str, dict[str, list[Path]]] = {}
    for run in kept:
        training, state = manifests[run]["training"], _state(run, manifests[run])
        done = "done" if state else "left"
        entries.append(RunEntry(datasets[run], labels[run], run, training["seed"], training.get("domain"), done))
        if state == UNFINISHED:
            notes.append(f"{labels[run]}: its training has not ended; the same semacdr train goes on with it.")
        elif state == FINISHED:
            notes.append(f"{labels[run]}: not evaluated yet; semacdr evaluate does it.")
        else:
            groups.setdefault(datasets[run], {}).setdefault(labels[run], []).append(run)
    rows: Rows = []
    tests: Rows = []
    for dataset, group in groups.items():
        more = _compared(dataset, group, manifests)
        rows, tests, notes = rows + more[0], tests + more[1], notes + more[2]
    protocols = dict.fromkeys(row["protocol"] for row in rows)
    lead = {name: LEADS.get(name, LEAD) for name in protocols}
    return Subject(title, rows, tests, tuple(entries), lead, notes=tuple(notes))


def _compared(
    dataset: str, group: Mapping[str, list[Path]], manifests: Mapping[Path, dict[str, Any]]
) -> tuple[Rows, Rows, list[str]]:
    """Rows and tests of the models of one data set, and what could not be compared."""
    from semacdr.bench.leaderboard import system_rows
    from semacdr.bench.significance import best_against_others
    from semacdr.bench.systems import System, stopped_early

    rows: Rows = []
    tests: Rows = []
    notes: list[str] = []
    systems = []
    for label, runs in group.items():
        domain = manifests[runs[0]]["training"].get("domain")
        systems.append(System(dataset, label, tuple(runs), 1, stopped_early(runs), domain))
        notes += _left_out(systems[-1])
    protocols = list(dict.fromkeys(name for system in systems for name in system.protocols()))
    for name in protocols:
        having = [system for system in systems if name in system.protocols()]
        rows += [row for system in having for row in system_rows(system, name)]
        try:
            tests += best_against_others(having, name, LEADS.get(name, LEAD))
        except InputError as error:  # their numbers stand there, untested
            notes.append(f"{dataset}, {name}: no tests, because {error.what}.")
    return rows, tests, notes


def _left_out(system: System) -> list[str]:
    """A note on each protocol that only some of a system's runs have been evaluated under, and which has no row."""
    evaluated = [evaluated_protocols(run) for run in system.runs]
    return [
        f"{system.label}: only {sum(name in others for others in evaluated)} of its {len(evaluated)} seeds "
        f"are evaluated under {name}, so that it has no row there."
        for name in dict.fromkeys(name for names in evaluated for name in names)
        if not all(name in others for others in evaluated)
    ]


def _manifest(run: Path) -> dict[str, Any]:
    """The ``run.json`` of a run with all that is asked of it here."""
    manifest: dict[str, Any] = read_json(run / RUN)
    try:
        wanted = [manifest[name] for name in ("dataset_name", "dataset_fingerprint", "model", "config")]
        wanted.append(manifest["training"]["seed"])
        if manifest.get("status") == "done":
            wanted.append(manifest["result"]["train_seconds"])
    except (KeyError, TypeError) as error:
        what = f"not the run.json of a training ({error!r})"
        raise InputError(what, where=str(run), fix="train it again, or leave it out") from None
    return manifest


def _state(run: Path, manifest: Mapping[str, Any]) -> int:
    """How far a run has come."""
    if manifest.get("status") != "done":
        return UNFINISHED
    return EVALUATED if (run / EVALUATION).is_file() else FINISHED


def _dataset_names(manifests: Mapping[Path, dict[str, Any]]) -> dict[Path, str]:
    """What the data set of each run is called: another name for other data and for another split of the same.

    The split and the start of the fingerprint stand beside a name that several share: what is not tested on the same
    targets must not stand in one table.
    """
    from semacdr.data.split_names import LEAVE_ONE_OUT, in_full

    versions: dict[str, set[str]] = {}
    splits: dict[tuple[str, bool], set[str]] = {}
    own: dict[Path, tuple[str, bool, str]] = {}
    for run, manifest in manifests.items():
        training = manifest["training"]
        rates = "domain" in training  # ratings are divided in their own way, beside the split of the rankings
        # RecBole's own models name no split: they have the default
        split = f"split seed {training.get('split_seed')}" if rates else in_full(training.get("split") or LEAVE_ONE_OUT)
        own[run] = (manifest["dataset_name"], rates, split)
        versions.setdefault(own[run][0], set()).add(manifest["dataset_fingerprint"])
        splits.setdefault(own[run][:2], set()).add(split)
    return {
        run: ", ".join(
            [
                name,
                *([split] if len(splits[name, rates]) > 1 else []),
                *([f"version {manifests[run]['dataset_fingerprint'][:8]}"] if len(versions[name]) > 1 else []),
            ]
        )
        for run, (name, rates, split) in own.items()
    }


def _labels(
    manifests: Mapping[Path, dict[str, Any]], datasets: Mapping[Path, str], given: Mapping[Path, str | None]
) -> dict[Path, str]:
    """What each run is called: on one data set a name is for runs that differ by their seed alone."""
    from semacdr.bench.compare import seedless

    names: dict[Path, str] = {}
    owner: dict[tuple[str, str], str] = {}
    for run, manifest in manifests.items():
        dataset, what = datasets[run], seedless(manifest)
        name = given[run] or manifest["model"]
        if owner.setdefault((dataset, name), what) != what:
            known = (label for (where, label), other in owner.items() if (where, other) == (dataset, what))
            name = next(known, f"{name}, {run.resolve().name}")
            owner.setdefault((dataset, name), what)
        names[run] = name
    return names


def _one_a_seed(
    manifests: Mapping[Path, dict[str, Any]], datasets: Mapping[Path, str], labels: Mapping[Path, str]
) -> tuple[list[Path], list[str]]:
    """The runs, of each seed of a model the one that has come furthest, and a note on every other.

    A seed twice is not two seeds: its spread would be none, and its interval no narrower.
    """
    kept: dict[tuple[str, str, int], Path] = {}
    notes = []
    for run, manifest in manifests.items():
        key = (datasets[run], labels[run], manifest["training"]["seed"])
        first = kept.setdefault(key, run)
        if first != run:
            out = run
            if _state(run, manifest) > _state(first, manifests[first]):
                kept[key], out = run, first
            notes.append(f"{labels[run]}: seed {key[2]} is there twice; the run {out.name} is left out.")
    return list(kept.values()), notes
