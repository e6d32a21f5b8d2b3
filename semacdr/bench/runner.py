"""Runs what is left of a bench: one process a cell, its results written out anew after each.

Where a cell stands is read from its folder alone, so a bench that is killed at any instant goes on with the same
command. A process that it has started ends with it, and holds the folder's lock until then.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from semacdr.bench.bench import Bench
from semacdr.bench.plan import CELL, FAILURE, LOG, SETTINGS, Cell, Line
from semacdr.bench.record import Record
from semacdr.bench.tuning import Study
from semacdr.errors import InputError
from semacdr.files import read_json, write_json, write_text
from semacdr.progress import duration, say
from semacdr.run import WEIGHTS, run_is_done

POLL_S = 0.1
NEWS_S = 10.0
PATIENCE_S = 10.0  # for a lock that a process holds which is about to end
LONGEST_ERROR = 600


@dataclass
class Job:
    """A process that is to run.

    Attributes:
        name: for a reader.
        kind: jobs of one kind take about equally long.
        folder: where it works, with its cell.json.
        ended: is told the error, or None, and the seconds it took; gives the jobs that follow from it.
    """

    name: str
    kind: tuple[str, ...]
    folder: Path
    ended: Callable[[str | None, float], Sequence[Job]]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0

    def start(self, lock: int) -> None:
        """Starts the process; ``lock`` is the descriptor that keeps other benches out while it lives."""
        self.started = time.monotonic()
        command = [sys.executable, "-m", "semacdr.bench.cell", str(self.folder)]
        with open(self.folder / LOG, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,)
            )

    def poll(self) -> int | None:
        """The exit code, once there is one."""
        assert self.process is not None
        code = self.process.poll()
        if code is not None and self.process.stdin is not None:
            self.process.stdin.close()
        return code

    def said(self) -> str:
        """The last line of its log."""
        lines = (self.folder / LOG).read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "starting"


@dataclass
class Clock:
    """How long jobs took, by kind, and so how long those left may take."""

    seconds: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def add(self, kind: tuple[str, ...], seconds: float) -> None:
        """Takes note of a job."""
        self.seconds.setdefault(kind, []).append(seconds)

    def expects(self, kind: tuple[str, ...]) -> float | None:
        """Seconds of a job: the mean of its kind, else of all; None before anything is known."""
        known = self.seconds.get(kind) or [value for values in self.seconds.values() for value in values]
        return fmean(known) if known else None


class Runner:
    """Works a bench off.

    Args:
        bench: what is to be done.
        jobs: processes at once.
        retry_failed: run failed cells once more.
        lines: those of the bench that are run.
        record: where finished cells are kept, and taken from.
    """

    def __init__(
        self,
        bench: Bench,
        lines: Sequence[Line],
        jobs: int = 1,
        retry_failed: bool = False,
        record: Record | None = None,
    ) -> None:
        self.bench, self.lines, self.jobs, self.retry_failed, self.record = bench, lines, jobs, retry_failed, record
        self.clock = Clock()
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        self.done = self.total = 0

    def run(self) -> None:
        """Runs everything that is left."""
        with _only_one(self.bench.out) as lock:
            self.bench.prepare(self.lines, self.record)
            self._plan()
            self.bench.write_results()
            if self.waiting:
                say(f"bench {self.bench.config.name}: {len(self.waiting)} jobs to run, {self.done} cells done")
            try:
                self._work(lock)
            finally:
                for job in self.running:  # an error of ours, or an interrupt: nothing is left behind
                    assert job.process is not None
                    job.process.kill()
                    job.process.wait()

    def _plan(self) -> None:
        """Seeds outermost: the first seed of every model is there before the second of any."""
        studies: list[Job] = []
        cells: list[tuple[int, Job]] = []
        for line in self.lines:
            self.total += len(line.seeds)
            study = self.bench.open_study(line)
            if study is not None:
                studies.append(self._trial(line, study))
                continue
            for at, cell in enumerate(self.bench.cells(line)):
                state = cell.state()
                if state == "left" or (state == "failed" and self.retry_failed):
                    cells.append((at, self._cell(cell)))
                else:
                    self.done += 1
                    self._keep(cell)
        order = {entry.name: at for at, entry in enumerate(self.bench.config.datasets)}
        cells.sort(key=lambda pair: (order[pair[1].kind[1]], pair[0]))
        self.waiting.extend([*studies, *(job for _, job in cells)])

    def _work(self, lock: int) -> None:
        spoken = time.monotonic()
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.jobs:
                job = self.waiting.popleft()
                self.running.append(job)
                job.start(lock)
                say(f"{self._count()} {job.name}")
            time.sleep(POLL_S)
            for job in list(self.running):
                code = job.poll()
                if code is not None:
                    self.running.remove(job)
                    self._ended(job, code)
            if time.monotonic() - spoken > NEWS_S:
                spoken = time.monotonic()
                for job in self.running:
                    say(f"{self._count()} {job.name}: {job.said()}")

    def _ended(self, job: Job, code: int) -> None:
        seconds = time.monotonic() - job.started
        prepared = self.bench.data.values()
        folders = [path.resolve() for data in prepared for path in (data.folder, *data.tables.values())]
        error = None if code == 0 else _error(job, code, self.bench.out, folders)
        self.clock.add(job.kind, seconds)
        self.waiting.extendleft(reversed(job.ended(error, seconds)))
        self.bench.write_results()
        say(f"{self._count()} {job.name}: {'done' if error is None else f'failed: {error}'}, after {duration(seconds)}")

    def _count(self) -> str:
        """How many cells are done, and how long the rest may take."""
        known = [self.clock.expects(job.kind) for job in (*self.waiting, *self.running)]
        seconds = sum(value for value in known if value is not None) / self.jobs
        seconds -= sum(time.monotonic() - job.started for job in self.running) / self.jobs
        left = f", about {duration(seconds)} left" if seconds > 0 and None not in known else ""
        return f"[{self.done}/{self.total} cells{left}]"

    def _cell(self, cell: Cell) -> Job:
        if run_is_done(cell.folder) and not (cell.folder / WEIGHTS).is_file():
            shutil.rmtree(cell.folder)  # out of a record, without weights to evaluate
        cell.folder.mkdir(parents=True, exist_ok=True)

        def ended(error: str | None, seconds: float) -> Sequence[Job]:
            self.done += 1
            self._keep(cell)
            if error is not None:
                write_json(cell.folder / FAILURE, {"error": error, "seconds": round(seconds, 1)})
            return ()

        _write_job(cell.folder, cell.line, cell.settings, self.bench, "test", identity=cell.identity)
        (cell.folder / FAILURE).unlink(missing_ok=True)
        return Job(cell.name, ("cell", cell.line.dataset, cell.line.label), cell.folder, ended)

    def _keep(self, cell: Cell) -> None:
        if self.record is not None and cell.state() == "done" and not self.record.holds(cell):
            self.record.keep(cell)

    def _trial(self, line: Line, study: Study) -> Job:
        number, settings = study.next()
        folder = self.bench.trial_folder(line, study, number)
        folder.mkdir(parents=True, exist_ok=True)
        _write_job(folder, line, line.flat(study.tuning.seed, settings), self.bench, "valid")

        def ended(error: str | None, seconds: float) -> Sequence[Job]:
            value = None
            if error is None:
                metrics = read_json(folder / "metrics_valid.json")
                value = metrics[line.protocols[0]]["all"][study.metric]
            notes = {"seconds": round(seconds, 1), **({"error": error} if error else {})}
            study.record(settings, value, notes)
            if self.record is not None:
                self.record.keep_study(study)
            if len(study.trials()) < study.tuning.trials:
                shutil.rmtree(folder, ignore_errors=True)
                return [self._trial(line, study)]
            study.close()
            shutil.rmtree(folder.parent, ignore_errors=True)
            if self.record is not None:
                self.record.restore(self.bench.cells(line))
            return [self._cell(cell) for cell in self.bench.cells(line) if cell.state() == "left"]

        name = f"{line.dataset}: {line.label}, trial {number + 1} of {study.tuning.trials}"
        return Job(name, ("trial", line.dataset, line.label), folder, ended)


def _write_job(
    folder: Path, line: Line, settings: dict[str, Any], bench: Bench, on: str, identity: dict[str, Any] | None = None
) -> None:
    """What :mod:`semacdr.bench.cell` is told."""
    write_text(folder / SETTINGS, yaml.safe_dump(settings, sort_keys=False))
    job = {
        "model": line.model,
        "data": line.arguments(bench.data[line.dataset]),
        "settings": str(folder / SETTINGS),
        "protocols": list(line.protocols if on == "test" else line.protocols[:1]),
        "coverage": list(line.coverage) if on == "test" else [],
        "on": on,
        "identity": identity,
    }
    write_json(folder / CELL, job)


def _error(job: Job, code: int, out: Path, folders: Sequence[Path]) -> str:
    """One line on why a process ended; of the folders of data and tables the last name."""
    text = (job.folder / LOG).read_text(errors="replace")
    if code < 0:
        return f"killed by signal {-code}" + (": out of memory, perhaps" if code == -9 else "")
    _, marked, message = ("\n" + text).rpartition("\nsemacdr: ")
    lines = text.strip().splitlines()
    words = message.partition("\n  fix: ")[0] if marked else lines[-1] if lines else f"exit code {code}"
    words = words.replace(f"{out.resolve()}{os.sep}", "")
    for folder in folders:
        words = words.replace(str(folder), folder.name)
    return " ".join(words.split())[:LONGEST_ERROR]


@contextmanager
def _only_one(out: Path) -> Iterator[int]:
    """Holds the bench folder's lock, which the system gives back when this process and all it has started are gone.

    Raises:
        InputError: another bench works in this folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    fix = "wait for it, or give another --out"
                    raise InputError("another bench works in this folder", where=str(out), fix=fix) from None
                time.sleep(POLL_S)
        yield lock
    finally:
        os.close(lock)
