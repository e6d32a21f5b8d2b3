"""The statistics of a leaderboard for any evaluated runs; nothing is evaluated here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semacdr.bench.leaderboard import system_rows
from semacdr.bench.significance import best_against_others
from semacdr.bench.systems import System, stopped_early
from semacdr.errors import InputError
from semacdr.evaluation.manifest import EVALUATION
from semacdr.files import canonical_json
from semacdr.run import read_run


def systems_of(runs: Sequence[Path]) -> list[System]:
    """Runs as systems: those that differ by their seed alone are one system.

    A system is called by its model; where several have the same model, by the folder of its first run.

    Raises:
        InputError: not a finished run, one that is named twice, or runs on different data.
    """
    groups: dict[str, list[Path]] = {}
    manifests: dict[Path, dict[str, Any]] = {}
    for run in runs:
        if run.resolve() in [other.resolve() for other in manifests]:
            raise InputError("named twice", where=str(run))
        manifest = manifests[run] = read_run(run)
        first = manifests[runs[0]]
        if manifest["dataset_fingerprint"] != first["dataset_fingerprint"]:
            what = (
                f"trained on {manifest['dataset_name']}, and {runs[0]} on {first['dataset_name']}, or another version"
            )
            raise InputError(what, where=str(run), fix="compare runs on one data set")
        groups.setdefault(seedless(manifest), []).append(run)
    names = [manifests[group[0]]["model"] for group in groups.values()]
    return [
        System(
            dataset=manifests[group[0]]["dataset_name"],
            label=name if names.count(name) == 1 else str(group[0]),
            runs=tuple(group),
            note=stopped_early(group),
            domain=manifests[group[0]]["training"].get("domain"),
        )
        for name, group in zip(names, groups.values())
    ]


def seedless(manifest: Mapping[str, Any]) -> str:
    """What runs of one system on one data set have in common: model, settings and tables, all but the seed."""
    training = {**manifest["training"], "seed": None}
    tables = [manifest.get(f"{kind}_fingerprint") for kind in ("embeddings", "user_embeddings", "ids")]
    return canonical_json([manifest["model"], manifest["config"], training, tables])


def compare(
    systems: Sequence[System], lead: Callable[[str], str], protocols: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and paired tests of systems.

    Args:
        systems: on one data set.
        lead: the metric that is tested under a protocol.
        protocols: which to compare under; those that all have by default.

    Raises:
        InputError: a protocol that is missing somewhere, or none in common.
    """
    evaluated = {run: System("", "", (run,)).protocols() for system in systems for run in _evaluated(system)}
    common = [name for name in next(iter(evaluated.values())) if all(name in others for others in evaluated.values())]
    wanted = list(protocols or common)
    missing = [(run, name) for run, names in evaluated.items() for name in wanted if name not in names]
    if missing or not wanted:
        lines = [f"{run} is not evaluated under {name}" for run, name in missing]
        lines = lines or [f"{run}: {', '.join(names) or 'nothing'}" for run, names in evaluated.items()]
        run, name = missing[0] if missing else (next(iter(evaluated)), "full")
        what = "\n  ".join(["the runs have no protocol in common"] * (not wanted) + lines)
        raise InputError(what, fix=f"semacdr evaluate {run} --protocol {name}")
    tests = [test for name in wanted for test in best_against_others(systems, name, lead(name))]
    rows = [row for name in wanted for system in systems for row in system_rows(system, name)]
    return rows, tests


def _evaluated(system: System) -> tuple[Path, ...]:
    for run in system.runs:
        if not (run / EVALUATION).is_file():
            raise InputError("not evaluated", where=str(run), fix=f"semacdr evaluate {run}")
    return system.runs
