"""A bench on disk: its config, data, lines and cells, and the files that it leaves.

bench.json         the config, the data sets and every cell with its state and run folder (relative paths)
leaderboard.json   rows, see :data:`semacdr.bench.leaderboard.COLUMNS`
leaderboard.md     the same as tables
comparisons.json   the paired tests
runs/              DATASET/LABEL/seed-N-FINGERPRINT: the run folder of each cell
data/, embeddings/, studies.sqlite, tuned/, trials/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from semacdr import __version__
from semacdr.bench.config import BenchConfig, slug
from semacdr.bench.leaderboard import failed_row, published_rows, system_rows
from semacdr.bench.markdown import tables
from semacdr.bench.plan import Cell, Line, make_cell, make_lines
from semacdr.bench.plugins import plugin_folders, plugin_note, pretrain
from semacdr.bench.prepare import DataRoot, Prepared, prepare, prepared
from semacdr.bench.record import Record
from semacdr.bench.remaining import left_note
from semacdr.bench.significance import best_against_others
from semacdr.bench.systems import System, stopped_early
from semacdr.bench.tuning import Study
from semacdr.errors import InputError, SemacdrError, nearest
from semacdr.evaluation.manifest import evaluated_protocols
from semacdr.files import write_json, write_text
from semacdr.progress import say
from semacdr.resources import find_config
from semacdr.run import environment, run_is_done

LEADERBOARD, MARKDOWN, COMPARISONS, BENCH = "leaderboard.json", "leaderboard.md", "comparisons.json", "bench.json"


class Bench:
    """What a config asks for, in a folder.

    Args:
        config: the config; its models and settings are checked here.
        out: the bench folder.
        source: how the user named the config.
        data_root: in place of the config's.
        keep_old_code: results of a model whose code has changed since still count.
    """

    def __init__(
        self,
        config: BenchConfig,
        out: Path,
        source: Path,
        data_root: Path | None = None,
        keep_old_code: bool = False,
    ) -> None:
        self.config, self.out, self.keep_old_code = config, out, keep_old_code
        self.command = f"semacdr bench {source.name if source.is_absolute() else source}"
        self.root = DataRoot(data_root or config.data_root, find_config(source).parent)
        self.lines = make_lines(config)
        self.data: dict[str, Prepared] = {}
        self._rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        self._tests: dict[tuple[str, ...], list[dict[str, Any]]] = {}

    def prepare(self, lines: Collection[Line], record: Record | None = None) -> None:
        """Converts what is not there yet, embeds what these lines read, takes what is recorded, pre-trains the rest.

        Studies all of whose trials are there are closed.

        Raises:
            InputError: bad data, or a damaged record.
        """
        for entry in self.config.datasets:
            subjects = {subject for line in lines if line.dataset == entry.name for subject in line.reads}
            self.data[entry.name] = prepare(self.config.data_of(entry), self.out, self.root, subjects)
        self._settle_studies(record)
        if record is not None:
            came = record.restore([cell for line in self.lines for cell in self.cells(line)])
            if came:
                say(f"{came} cells from the record")
            record.restore_plugins(self._plugin_folders())
        for line in lines:
            if any(cell.state() == "left" for cell in self.cells(line)):
                try:
                    pretrain(line.sources, self.data[line.dataset], self.out)
                except SemacdrError as error:  # its takers fail, each a row; the rest goes on
                    say(f"{line.label}: {error.what}")
        if record is not None:
            record.keep_plugins(self._plugin_folders())

    def chosen_lines(self, only: str | None) -> list[Line]:
        """The lines of a comma-separated list of labels or model names; all of them for None.

        Raises:
            InputError: a name that no line has.
        """
        if only is None:
            return self.lines
        names = {name.strip() for name in only.split(",")}
        known = {name for line in self.lines for name in (line.model, slug(line.label), line.label)}
        for name in sorted(names - known):
            raise InputError(f"no model or label {name!r} in this bench", where="--only", fix=nearest(name, known))
        return [line for line in self.lines if names & {line.model, slug(line.label), line.label}]

    def look(self) -> None:
        """Takes the data sets that are there, and makes nothing."""
        entries = ((entry.name, self.config.data_of(entry)) for entry in self.config.datasets)
        there = ((name, prepared(source, self.out, self.root)) for name, source in entries)
        self.data = {name: data for name, data in there if data is not None}

    def open_study(self, line: Line) -> Study | None:
        """The study of a line that is not finished; None where nothing is tuned, or all is."""
        study = self._study(line)
        return study if study is not None and study.chosen() is None else None

    def cells(self, line: Line) -> list[Cell]:
        """The cells of a line, one a seed; none while its study is open or its data are not there."""
        data = self.data.get(line.dataset)
        if data is None or set(line.reads) & set(data.missing):
            return []
        study = self._study(line)
        chosen = study.chosen() if study else {}
        if chosen is None:
            return []
        trials = study.tuning.trials if study else 1
        taken = self._with_plugins(line, data)
        return [make_cell(taken, data, seed, self.out, chosen, trials, self.keep_old_code) for seed in line.seeds]

    def trial_folder(self, line: Line, study: Study, number: int) -> Path:
        """Where a trial works; the name tells it from one of another study."""
        return self.out / "trials" / line.place / f"{study.name.rpartition(' ')[2]}-{number:03d}"

    def results(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The rows of the leaderboard and the paired tests, of what is there."""
        rows: list[dict[str, Any]] = []
        tests: list[dict[str, Any]] = []
        made = [(line, self.cells(line)) for line in self.lines]
        for entry in self.config.datasets:
            for protocol in self.config.protocols_of(entry.name):
                found = [self._system(line, protocol, cells) for line, cells in made if line.dataset == entry.name]
                systems = [system for system in found if system is not None]
                rows += [row for system in systems for row in self._rows_of(system, protocol)]
                tests += self._tests_of(systems, protocol)
        rows += [
            failed_row(line.dataset, line.label, cell.seed, cell.error(), line.domain)
            for line, cells in made
            for cell in cells
            if cell.state() == "failed"
        ]
        return rows + published_rows(self.config.published), tests

    def write_results(self) -> None:
        """Writes bench.json, the leaderboard and the tests anew."""
        rows, tests = self.results()
        _write_lines(self.out / LEADERBOARD, rows)
        _write_lines(self.out / COMPARISONS, tests)
        cells = self.cell_list()
        write_json(
            self.out / BENCH,
            {
                "semacdr": __version__,
                "name": self.config.name,
                "command": self.command,
                "config": self.config.model_dump(mode="json", exclude={"data_root"}),
                "environment": environment(),
                "datasets": [self._data_entry(name) for name in self.data],
                "cells": cells,
            },
        )
        left = left_note(cells)
        head = [f"# {self.config.name}", "", f"Command: `{self.command}`; semacdr {__version__}."]
        head += [left] if left else []
        write_text(self.out / MARKDOWN, "\n".join([*head, "", tables(rows, tests, self.config.lead)]))

    def cell_list(self) -> list[dict[str, Any]]:
        """Every cell with its state; one whose settings are yet to be chosen has no folder."""
        found: list[dict[str, Any]] = []
        for line in self.lines:
            made = {cell.seed: cell for cell in self.cells(line)}
            for seed in line.seeds:
                cell = made.get(seed)
                found.append(
                    {
                        "dataset": line.dataset,
                        "label": line.label,
                        "model": line.model,
                        "domain": line.domain,
                        "seed": seed,
                        "state": cell.state() if cell else "left",
                        "error": cell.error() if cell and cell.state() == "failed" else None,
                        "older_code": cell.older_code if cell else False,
                        "run": str(cell.folder.relative_to(self.out)) if cell else None,
                    }
                )
        return found

    def plan(self, record: Record | None = None) -> str:
        """What is done and what is left, for a reader."""
        lines = []
        for entry in self.config.datasets:
            lines.append(f"{entry.name}: {self._readiness(entry.name)}")
            for line in (line for line in self.lines if line.dataset == entry.name):
                study = self.open_study(line)
                note = f", after {study.tuning.trials} trials of tuning" if study else ""
                if study and record and (found := record.count_trials(study)):
                    note += f", {min(found, study.tuning.trials)} of them in the record"
                states = {cell.seed: cell.state() for cell in self.cells(line)}
                seeds = ", ".join(f"seed {seed} {states.get(seed, 'left')}" for seed in line.seeds)
                lines.append(f"  {line.label}{f', {line.domain}' if line.domain else ''}: {seeds}{note}")
        cells = self.cell_list()
        counts = {state: sum(cell["state"] == state for cell in cells) for state in ("done", "failed", "left")}
        lines.append(f"{len(cells)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
        return "\n".join(lines)

    def _plugin_folders(self) -> list[Path]:
        lines = [line for line in self.lines if line.sources]
        return [
            folder
            for line in lines
            for folder in plugin_folders(line.sources, self.data[line.dataset], self.out).values()
        ]

    def _settle_studies(self, record: Record | None) -> None:
        """Takes recorded trials, all of them checked before, and chooses where none is left to be run."""
        studies = [study for line in self.lines if (study := self._study(line)) is not None]
        still = [study for study in studies if study.chosen() is None]
        recorded = [record.recorded_trials(study) if record else [] for study in still]
        for study, trials in zip(still, recorded):
            if came := study.take(trials):
                line = study.line
                domain = f", {line.domain}" if line.domain else ""
                say(f"{line.dataset}{domain}: {line.label}, {came} trial{'s' * (came > 1)} from the record")
            if len(study.trials()) == study.tuning.trials:
                study.close()
                shutil.rmtree(self.trial_folder(study.line, study, 0).parent, ignore_errors=True)
        for study in studies:
            if record is not None and (study in still or record.count_trials(study) < study.tuning.trials):
                record.keep_study(study)

    def _readiness(self, name: str) -> str:
        if name not in self.data:
            return "to be converted"
        missing = self.data[name].missing
        return f"{' and '.join(missing)} to be made" if missing else "ready"

    def _study(self, line: Line) -> Study | None:
        data = self.data.get(line.dataset)
        if self.config.tuning is None or not line.space or data is None or set(line.reads) & set(data.missing):
            return None
        return Study(
            self._with_plugins(line, data), data, self.config.tuning, self.config.lead(line.protocols[0]), self.out
        )

    def _system(self, line: Line, protocol: str, cells: list[Cell]) -> System | None:
        """What a line's cells give under a protocol; None before the first of them is there."""
        done = [cell for cell in cells if run_is_done(cell.folder) and protocol in evaluated_protocols(cell.folder)]
        if not done:
            return None
        runs = tuple(cell.folder for cell in done)
        notes = [stopped_early(runs)]
        if any(cell.older_code for cell in done):
            notes.append("by older code of the model")
        if line.sources:
            notes.append(plugin_note(plugin_folders(line.sources, self.data[line.dataset], self.out)))
        if len(done) < len(line.seeds):
            notes.append(f"{len(done)} of {len(line.seeds)} seeds")
        note = "; ".join(note for note in notes if note) or None
        return System(line.dataset, line.label, runs, done[0].trials, note, line.domain)

    def _with_plugins(self, line: Line, data: Prepared) -> Line:
        """The line as its cells know it: told where its plug-ins are."""
        if not line.sources:
            return line
        folders = [str(path.resolve()) for path in plugin_folders(line.sources, data, self.out).values()]
        return replace(line, settings={**line.settings, "plugins": folders})

    def _rows_of(self, system: System, protocol: str) -> list[dict[str, Any]]:
        key = (protocol, system.version())
        if key not in self._rows:
            self._rows[key] = system_rows(system, protocol)
        return self._rows[key]

    def _tests_of(self, systems: list[System], protocol: str) -> list[dict[str, Any]]:
        """Remembered until a system of the data set changes."""
        key = (protocol, *(system.version() for system in systems))
        if key not in self._tests:
            self._tests[key] = best_against_others(systems, protocol, self.config.lead(protocol))
        return self._tests[key]

    def _data_entry(self, name: str) -> dict[str, Any]:
        data = self.data[name]
        inside = data.folder.is_relative_to(self.out)
        return {
            "name": name,
            "fingerprint": data.fingerprint,
            "domains": data.manifest["domains"],
            "counts": data.manifest["counts"],
            "folder": str(data.folder.relative_to(self.out)) if inside else None,
            "embeddings": data.table_fingerprints,
        }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON with a row a line: a third of the size, and a change of one row is a change of one line."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def check_failures(cells: list[dict[str, Any]], out: Path) -> None:
    """Ends the command with an error where cells failed.

    Raises:
        SemacdrError: how many, and the first of them.
    """
    failed = [cell for cell in cells if cell["state"] == "failed"]
    if failed:
        first = failed[0]
        raise SemacdrError(
            f"{len(failed)} of {len(cells)} cells failed, the first: {first['dataset']}, {first['label']}: "
            f"{first['error']}",
            where=str(out / first["run"] / "cell.log"),
            fix="the rest is done; when that is mended: the same command with --retry-failed",
        )
