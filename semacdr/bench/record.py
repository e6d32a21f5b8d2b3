"""A record of a bench: the small results of its finished cells, so that another day or machine goes on from there.

A cell is one zip file at the cell's place: its run folder without weights, and its ranks without the users' and items'
ids. Which target a row is about follows from the data set, so a record holds nobody's events and can lie in a
repository where the data may not. A cell that is taken out of a record counts as done; nothing can be recommended with
it, and what it was not evaluated under has it trained again. The trials of a study lie beside the line's cells, a line
of JSON each; of a plug-in there is only the cost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from semacdr.bench.cell import lacking
from semacdr.bench.plan import CELL, RUNS, Cell
from semacdr.bench.plugins import cost_path
from semacdr.bench.prepare import IDS
from semacdr.bench.tuning import STUDIES, Study
from semacdr.data.dataset import Dataset
from semacdr.data.ratings import load_ratings
from semacdr.data.splits import make_split
from semacdr.embedding.table import ITEMS, USERS
from semacdr.errors import InputError
from semacdr.evaluation.manifest import EVALUATION, protocols_of
from semacdr.files import read_json, staged_folder, write_atomic, write_json, write_text
from semacdr.run import LOG, RUN, WEIGHTS, run_is_done

PAIR = ["user_id", "item_id"]
DIGEST = "targets.sha256"
RESULTS = (EVALUATION, "metrics.json", "metrics_long.json", "ranks-*-test.parquet", "predictions-*-test.parquet")
KEPT = (RUN, LOG, *RESULTS)
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: the same results give the same bytes
PLACES = ("dataset", "embeddings", "user_embeddings", "ids")  # of run.json: folders of one machine


class Record:
    """A folder of recorded cells, trials and costs of plug-ins.

    Args:
        folder: where the record lies; made when the first cell is kept.
        out: the bench folder.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out
        self._targets: dict[tuple[object, ...], pd.DataFrame] = {}

    def holds(self, cell: Cell) -> bool:
        """Whether the record has the cell with all that its line is evaluated under."""
        path = self._path(cell)
        if not path.is_file():
            return False
        with self._open(cell) as archive:
            there = protocols_of(json.loads(archive.read(EVALUATION)), path)
        return not lacking(there, cell.line.protocols, cell.line.coverage)

    def keep(self, cell: Cell) -> None:
        """Puts a finished cell into the record."""
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, partial(self._write, cell))

    def restore(self, cells: Collection[Cell]) -> int:
        """Takes the cells that are not done here out of the record; one that has weights is evaluated, not replaced.

        Returns:
            how many came.

        Raises:
            InputError: a recorded cell is damaged, or about other targets than the data set has; what is here stays.
        """
        came = 0
        for cell in cells:
            trained = run_is_done(cell.folder) and (cell.folder / WEIGHTS).is_file()
            if cell.state() != "done" and not trained and self.holds(cell):
                self._read(cell)
                came += 1
        return came

    def keep_plugins(self, folders: Iterable[Path]) -> None:
        """Puts what plug-ins cost into the record; their weights stay out."""
        for folder in folders:
            path = self._cost_path(folder)
            if run_is_done(folder) and not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, _without_places(read_json(folder / RUN)))

    def restore_plugins(self, folders: Iterable[Path]) -> None:
        """Takes out of the record what plug-ins cost that are not here.

        Raises:
            InputError: damaged; what is here stays.
        """
        for folder in folders:
            path, here = self._cost_path(folder), cost_path(folder)
            if path.is_file() and not run_is_done(folder):
                try:
                    manifest = json.loads(path.read_text(encoding="utf-8"))
                    float(manifest["result"]["train_cpu_seconds"])
                except (ValueError, KeyError, TypeError) as error:
                    raise _damaged(path, error, "have it counted no more") from None
                here.parent.mkdir(parents=True, exist_ok=True)
                write_json(here, manifest)

    def _cost_path(self, folder: Path) -> Path:
        return self.folder / cost_path(folder).relative_to(self.out)

    def keep_study(self, study: Study) -> None:
        """Puts the trials of a study into the record, if it has more of them."""
        path, trials = self._study_path(study), study.as_values()
        if len(trials) > len(self._trials(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, "".join(f"{json.dumps(trial)}\n" for trial in trials))

    def recorded_trials(self, study: Study) -> list[dict[str, Any]]:
        """The trials of a study that the record has, checked.

        Raises:
            InputError: damaged, or of a study that went another way than the one here.
        """
        path = self._study_path(study)
        trials = self._trials(path)
        try:
            study.check(trials)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error, "have the trials run") from None
        if (number := study.differs(trials)) is not None:
            what = f"its trial {number} is another than the one in {STUDIES} of the bench folder"
            raise InputError(
                what, where=str(path), fix="give another --record or --out: trials of two searches do not mix"
            )
        return trials

    def count_trials(self, study: Study) -> int:
        """How many trials of a study the record has."""
        return len(self._trials(self._study_path(study)))

    def _trials(self, path: Path) -> list[dict[str, Any]]:
        if not path.is_file():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise _damaged(path, error, "have the trials run") from None

    def _study_path(self, study: Study) -> Path:
        return self.folder / study.line.place / f"study-{study.name.rpartition(' ')[2]}.jsonl"

    def _path(self, cell: Cell) -> Path:
        return (self.folder / cell.folder.relative_to(self.out / RUNS)).with_suffix(".zip")

    @contextlib.contextmanager
    def _open(self, cell: Cell) -> Iterator[zipfile.ZipFile]:
        """The recorded cell; one that is no whole zip file of an evaluated run is an :class:`InputError`."""
        path = self._path(cell)
        try:
            with zipfile.ZipFile(path) as archive:
                if EVALUATION not in archive.namelist():
                    raise zipfile.BadZipFile(f"no {EVALUATION} in it")
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(path, error, "have the cell run") from None

    def _write(self, cell: Cell, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in _small_files(cell.folder):
                content = file.read_bytes()
                if file.suffix == ".parquet":
                    frame = pd.read_parquet(file)
                    entry = zipfile.ZipInfo(f"{file.stem}.{DIGEST}", EPOCH)
                    archive.writestr(entry, _digest(frame))
                    buffer = io.BytesIO()
                    frame.drop(columns=PAIR).to_parquet(buffer, index=False, compression="zstd")
                    content = buffer.getvalue()
                elif file.name == RUN:
                    content = json.dumps(_without_places(read_json(file)), indent=2).encode()
                entry = zipfile.ZipInfo(file.name, EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)

    def _read(self, cell: Cell) -> None:
        # An unfinished training in the folder gives way, but to a whole cell alone.
        with self._open(cell) as archive, staged_folder(cell.folder) as staging:
            for name in archive.namelist():
                if name.endswith(DIGEST):
                    continue
                if name.endswith(".parquet"):
                    frame = pd.read_parquet(io.BytesIO(archive.read(name)))
                    whole = self._with_ids(cell, frame)
                    if _digest(whole) != archive.read(f"{Path(name).stem}.{DIGEST}").decode():
                        fix = "give the record of this data set, or none"
                        raise InputError("recorded of other targets", where=str(self._path(cell)), fix=fix)
                    whole.to_parquet(staging / name, index=False)
                elif name == RUN:
                    write_json(staging / RUN, {**json.loads(archive.read(name)), **_places(cell)})
                    write_json(staging / CELL, {"identity": cell.identity})
                else:
                    (staging / Path(name).name).write_bytes(archive.read(name))

    def _with_ids(self, cell: Cell, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame with the ids of its targets in front."""
        targets = self._targets_of(cell)
        if len(targets) != len(frame):
            return frame.assign(**dict.fromkeys(PAIR, ""))[[*PAIR, *frame.columns]]
        return pd.concat([targets, frame.reset_index(drop=True)], axis=1)

    def _targets_of(self, cell: Cell) -> pd.DataFrame:
        """Users and items of the test targets, in the order in which an evaluation has them."""
        training = cell.identity["training"]
        key = (cell.data.folder, cell.line.domain, training.get("split"), training.get("split_seed"))
        if key not in self._targets:
            dataset = Dataset.load(cell.data.folder)
            if cell.line.domain:
                data = load_ratings(dataset, cell.line.domain, training["split_seed"])
                pairs = data.ratings.select(data.rows("test"))
                users, items = data.user_ids[pairs.user], data.item_ids[pairs.item]
            else:
                named = training.get("split")  # RecBole's own models have the data set's default alone
                split = make_split(dataset, named) if named else make_split(dataset)
                examples = split.examples("test")
                users, items = dataset.user_ids[examples.user], dataset.item_ids[examples.target]
            self._targets[key] = pd.DataFrame({"user_id": users, "item_id": items})
        return self._targets[key]


def _damaged(path: Path, error: Exception, otherwise: str) -> InputError:
    return InputError(f"damaged record ({error})", where=str(path), fix=f"get it again, or delete it and {otherwise}")


def _without_places(manifest: dict[str, Any]) -> dict[str, Any]:
    """A run.json that names no folder of a machine; settings that are given as paths keep the last name."""
    config = {key: _last_name(value) for key, value in manifest["config"].items()}
    return {**manifest, **dict.fromkeys(PLACES), "config": config}


def _last_name(value: Any) -> Any:
    if isinstance(value, list):
        return [_last_name(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _places(cell: Cell) -> dict[str, Any]:
    """What run.json says of places, for a cell on this machine."""
    tables = {subject: str(cell.data.tables[subject].resolve()) for subject in cell.line.tables(cell.data)}
    places = dict(zip(PLACES, (str(cell.data.folder.resolve()), *map(tables.get, (ITEMS, USERS, IDS)))))
    return {**places, "config": cell.line.resolved(cell.seed, cell.settings)["config"]}


def _small_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir()):
        if any(file.match(name) for name in KEPT):
            yield file


def _digest(frame: pd.DataFrame) -> str:
    """Hash of whom and what the rows of ranks are about."""
    lines = "\n".join(f"{user}\t{item}" for user, item in zip(frame["user_id"], frame["item_id"]))
    return hashlib.sha256(lines.encode()).hexdigest()
