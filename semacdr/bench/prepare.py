"""The data sets of a bench: converted and embedded once into the bench folder, by the functions of those commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semacdr.bench.config import DatasetEntry, Embeddings
from semacdr.data.convert import convert
from semacdr.data.schema import MANIFEST
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import ITEMS, USERS, EmbeddingTable
from semacdr.errors import InputError, SemacdrError
from semacdr.files import fingerprint, read_json, write_json
from semacdr.local_models import EMBEDDED
from semacdr.progress import say

IDS = "ids"
"""Subject of the semantic ids, beside those of the embedding tables."""
SUBJECTS = (ITEMS, USERS, IDS)
_WHERE = "paths of a bench are below its data_root (raw by default) or beside the config; or say --data-root DIR"
Key = dict[str, str | None]
"""What a folder is made of: its settings, and the files that were read."""


@dataclass(frozen=True)
class DataRoot:
    """Where inputs are: below the data root, or beside the config."""

    root: Path
    beside: Path

    def find(self, path: Path | str) -> Path:
        """The place of a path of the config; below the data root where it is nowhere."""
        places = (self.root / path, self.beside / path)
        return next((place for place in places if place.exists()), places[0])


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready.

    Attributes:
        name: in the config.
        folder: the data set folder.
        manifest: its ``dataset.json``.
        tables: ``items`` and ``users`` -> embedding table folder, ``ids`` -> semantic ids, where there are some.
        table_fingerprints: likewise.
        missing: the subjects of tables and ids that the config asks for and that are not there yet.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]
    tables: dict[str, Path]
    table_fingerprints: dict[str, str]
    missing: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of the data files."""
        return str(self.manifest["fingerprint"])


def prepared(entry: DatasetEntry, out: Path, root: DataRoot) -> Prepared | None:
    """The data set as it stands in the bench folder; None where it is still to be converted."""
    if entry.folder is None and not _is_made(_data_folder(entry, out), _data_key(entry, root)):
        return None
    return _load(entry, out, root)


def prepare(entry: DatasetEntry, out: Path, root: DataRoot, subjects: Collection[str] = SUBJECTS) -> Prepared:
    """Makes what is still to be made.

    Args:
        entry: of the config.
        out: the bench folder.
        root: where inputs are.
        subjects: of the tables that are needed; others are not made.

    Raises:
        InputError: missing or bad input.
        SemacdrError: the embedding ended with an error; its message is above.
    """
    if entry.folder is not None:
        _existing(root.find(entry.folder))  # before anything is embedded
    folder = _data_folder(entry, out)
    if entry.format is not None and not _is_made(folder, key := _data_key(entry, root)):
        say(f"{entry.name}: converting")
        raw = None if entry.input is None else _existing(root.find(entry.input))
        options = entry.convert
        convert(
            entry.format,
            raw,
            folder,
            options.reader(),
            options.filters(),
            name=entry.name,
            skip_bad=options.skip_bad,
        )
        write_json(_marker(folder), key)
    for subject, source in _sources(entry):
        wanted = subject in subjects or (subject == ITEMS and IDS in subjects and entry.ids is not None)
        if wanted and not _has_table(entry, subject, source, out, root):
            table = _table_folder(entry, out, subject)
            data = folder if entry.folder is None else root.find(entry.folder)
            arguments = ["--dataset", str(data), "--out", str(table), "--encoder", _encoder(source, root)]
            if source.profiles:
                arguments += ["--profiles", str(_existing(root.find(source.profiles)))]
            say(f"{entry.name}: embedding {subject}")
            command(["embed", *arguments])
            write_json(_marker(table), _table_key(entry, source, out, root))
    if IDS in subjects and entry.ids is not None and not _has_ids(entry, out, root):
        table, made = _items_folder(entry, out, root), _ids_folder(entry, out)
        data = folder if entry.folder is None else root.find(entry.folder)
        say(f"{entry.name}: semantic ids")
        places = ["--embeddings", str(table), "--dataset", str(data), "--out", str(made), "--no-titles"]
        command(["ids", *places, *(f"{key}={json.dumps(value)}" for key, value in entry.ids.items())])
        write_json(_marker(made), _ids_key(entry, out, root))
    return _load(entry, out, root)


def _sources(entry: DatasetEntry) -> list[tuple[str, Embeddings]]:
    pairs = ((ITEMS, entry.embeddings), (USERS, entry.user_embeddings))
    return [(subject, source) for subject, source in pairs if source is not None]


def _has_table(entry: DatasetEntry, subject: str, source: Embeddings, out: Path, root: DataRoot) -> bool:
    if source.folder is not None:
        return _existing(root.find(source.folder)).is_dir()
    return _is_made(_table_folder(entry, out, subject), _table_key(entry, source, out, root))


def _load(entry: DatasetEntry, out: Path, root: DataRoot) -> Prepared:
    folder = _data_folder(entry, out) if entry.folder is None else _existing(root.find(entry.folder))
    if not (folder / MANIFEST).is_file():
        raise InputError("not a data set folder (no dataset.json)", where=str(folder))
    tables = {
        subject: _table_folder(entry, out, subject) if source.folder is None else root.find(source.folder)
        for subject, source in _sources(entry)
        if _has_table(entry, subject, source, out, root)
    }
    prints = {subject: EmbeddingTable.load(table, subject).fingerprint for subject, table in tables.items()}
    if _has_ids(entry, out, root):
        tables[IDS] = _ids_folder(entry, out)
        prints[IDS] = SemanticIds.load(tables[IDS]).fingerprint
    asked = [subject for subject, _ in _sources(entry)] + [IDS] * (entry.ids is not None)
    missing = tuple(subject for subject in asked if subject not in tables)
    return Prepared(entry.name, folder, read_json(folder / MANIFEST), tables, prints, missing)


def _data_folder(entry: DatasetEntry, out: Path) -> Path:
    return out / "data" / entry.name


def _table_folder(entry: DatasetEntry, out: Path, subject: str) -> Path:
    return out / "embeddings" / (entry.name if subject == ITEMS else f"{entry.name}-{subject}")


def _items_folder(entry: DatasetEntry, out: Path, root: DataRoot) -> Path:
    assert entry.embeddings is not None  # checked where the config is read
    own = entry.embeddings.folder
    return _table_folder(entry, out, ITEMS) if own is None else root.find(own)


def _ids_folder(entry: DatasetEntry, out: Path) -> Path:
    return out / IDS / entry.name


def _has_ids(entry: DatasetEntry, out: Path, root: DataRoot) -> bool:
    if entry.ids is None or entry.embeddings is None:
        return False
    # ids of a table that is to be made anew are to be made anew themselves, though they fit the table that lies there
    table = _has_table(entry, ITEMS, entry.embeddings, out, root)
    return table and _is_made(_ids_folder(entry, out), _ids_key(entry, out, root))


def _ids_key(entry: DatasetEntry, out: Path, root: DataRoot) -> Key:
    table = _items_folder(entry, out, root)
    made_of = EmbeddingTable.load(table, ITEMS).fingerprint if table.is_dir() else None
    return {"settings": fingerprint({"embeddings": made_of, "ids": entry.ids}), "files": None}


def _marker(folder: Path) -> Path:
    """Says what a folder was made of. It is written after the folder: a kill in between has it made again."""
    return folder.with_name(f"{folder.name}.made.json")


def _is_made(folder: Path, key: Key) -> bool:
    """Whether a folder was made of what the key says; where the input is gone, what was made of it will do."""
    if not folder.is_dir() or not _marker(folder).is_file():
        return False
    made = read_json(_marker(folder))
    return made["settings"] == key["settings"] and key["files"] in (None, made["files"])


def _data_key(entry: DatasetEntry, root: DataRoot) -> Key:
    """What a conversion depends on: the options, and the names, sizes and times of the input's files."""
    settings = fingerprint({"format": entry.format, "convert": entry.convert.model_dump()})
    return {"settings": settings, "files": None if entry.input is None else _stamps(root.find(entry.input))}


def _table_key(entry: DatasetEntry, source: Embeddings, out: Path, root: DataRoot) -> Key:
    manifest = (_data_folder(entry, out) if entry.folder is None else root.find(entry.folder)) / MANIFEST
    data = read_json(manifest)["fingerprint"] if manifest.is_file() else None
    settings = fingerprint({"dataset": data, "encoder": source.encoder, "profiles": source.profiles is not None})
    return {"settings": settings, "files": None if source.profiles is None else _stamps(root.find(source.profiles))}


def _stamps(path: Path) -> str | None:
    """Name, size and time of a file, or of each file in a folder, as one hash; None where there is none."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return fingerprint([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]) if stats else None


def _encoder(source: Embeddings, root: DataRoot) -> str:
    """The encoder's name, or the folder of that name among the data."""
    folder = root.find(source.encoder)
    return str(folder) if source.encoder != EMBEDDED and folder.is_dir() else source.encoder


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError("no such file or folder", where=str(path), fix=_WHERE)
    return path


def command(words: Sequence[str]) -> None:
    """A command of ours in a process of its own, so that its memory is gone afterwards."""
    code = subprocess.run([sys.executable, "-m", "semacdr", *words], stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise SemacdrError(f"semacdr {words[0]} ended with exit code {code}; its own message is above")
