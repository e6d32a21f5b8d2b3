"""Shards: small files of finished answers that a worker leaves for whoever keeps the store.

A shard holds at most ``SHARD_SIZE`` answers. It is JSON lines: the first names format, version, engine, model and
revision, then comes a line for each answer with its key (the hash of all it depends on; no question and nothing of the
data set), and the last has the SHA-256 of every byte before it. It is written whole or not at all, under a name made of
its keys, and can be read alone. An answer is found by its own key, so shards may be cut, moved and mixed in any way.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from semacdr.errors import InputError, SemacdrError
from semacdr.files import clear_halves, fingerprint, write_bytes
from semacdr.profiling.engines.base import Answer, Engine, Request, Sampling, answer_key
from semacdr.progress import say

FORMAT = "semacdr-shard"
FORMAT_VERSION = 1
SHARD_SIZE = 32
SUFFIX = ".shard.jsonl"
_IMPORTED_AT_ONCE = 4096  # answers of one transaction
_COMMITTED_AT_ONCE = 256  # shards
_LOOKUP = 500  # keys per query, below SQLite's limit on parameters


@dataclass(frozen=True)
class Shard:
    """A shard in memory: which engine and model gave the answers, and the answers by key."""

    engine: str
    model: str
    revision: str
    answers: dict[str, Answer]


class DamagedShardError(InputError):
    """The bytes are not those that were written."""


def shard_path(folder: Path, keys: Sequence[str]) -> Path:
    """Where the shard with these answers stands: a name made of the keys, in one of 256 folders."""
    name = fingerprint(sorted(keys))[:32]
    return folder / name[:2] / f"{name}{SUFFIX}"


def write_shard(folder: Path, shard: Shard) -> Path:
    """Writes a shard atomically and returns where; equal shards give equal bytes."""
    header = {"format": FORMAT, "version": FORMAT_VERSION, "engine": shard.engine, "model": shard.model}
    lines = [{**header, "revision": shard.revision, "answers": len(shard.answers)}]
    lines += [{"key": key, **asdict(answer)} for key, answer in sorted(shard.answers.items())]
    body = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines).encode()
    content = body + f'{{"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode()
    path = shard_path(folder, list(shard.answers))
    write_bytes(path, content)
    return path


def read_shard(path: Path) -> Shard:
    """Reads a shard.

    Raises:
        DamagedShardError: the closing line is missing or is not the hash of what stands before it.
        InputError: whole, but of a version that this program does not read.
        FileNotFoundError: no such file.
    """
    content = path.read_bytes()
    body, _, last = content[:-1].rpartition(b"\n")
    if content != body + b"\n" + last + b"\n" or last != b'{"sha256":"%s"}' % _sha256(body + b"\n"):
        raise DamagedShardError("a shard that is damaged or only half there", where=str(path))
    try:
        first, *rest = (json.loads(line) for line in body.decode().split("\n"))
        if (first["format"], first["version"]) != (FORMAT, FORMAT_VERSION):
            raise InputError(
                f"a shard of version {first['version']}, this program reads {FORMAT_VERSION}", where=str(path)
            )
        answers = {line.pop("key"): Answer(**line) for line in rest}
        return Shard(first["engine"], first["model"], first["revision"], answers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedShardError(f"a shard that cannot be read ({error})", where=str(path)) from None


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def take_shard(path: Path) -> Shard | None:
    """Reads a shard; one that is not there is ``None``, as is a damaged one, which is set aside and named."""
    try:
        return read_shard(path)
    except FileNotFoundError:
        return None
    except DamagedShardError as error:
        aside = path.with_name(path.name + ".damaged")
        try:
            os.replace(path, aside)
        except OSError:
            say(f"{error}; it is not used, and cannot be set aside")
        else:
            say(f"{error}; set aside as {aside.name}")
        return None


def shards_in(folder: Path) -> Iterator[Shard]:
    """The whole shards of a folder, at any depth and in no order; damaged ones are set aside."""
    for path in _shard_files(folder):
        shard = take_shard(path)
        if shard is not None:
            yield shard


def _shard_files(folder: Path) -> Iterator[Path]:
    """The files that are named as shards, one folder's names in memory at a time; halves of dead workers go."""

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for place, _, names in os.walk(folder, onerror=unreadable):
        below = Path(place)
        for half in clear_halves(below, f"*{SUFFIX}"):
            say(f"{half}: half a shard, left by a process that was killed; removed")
        yield from (below / name for name in names if name.endswith(SUFFIX))


class ShardFolder:
    """Finds answers in the shards of a folder, at any depth, as they are when it is first asked.

    Which shard has which key is kept in an index on disk, so that memory does not grow with the number of shards. What
    an engine gave up on is not in it: that is asked again.

    Args:
        path: the folder; nothing is written there.
        index: a file for the index, so that the next start reads new and changed shards alone. It can be removed at any
            time. Without it, and where it cannot be written, the index is a temporary file of SQLite's.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        self.path, self.kept_index = path, index

    @cached_property
    def _index(self) -> sqlite3.Connection:
        while self.kept_index is not None:
            try:
                return self._filled(sqlite3.connect(self.kept_index, timeout=60))
            except sqlite3.OperationalError:  # another process holds it, or it cannot be written
                self.kept_index = None
            except sqlite3.DatabaseError:  # damaged
                self.kept_index.unlink()
        return self._filled(sqlite3.connect(""))  # it goes with this process

    def _filled(self, index: sqlite3.Connection) -> sqlite3.Connection:
        index.execute("PRAGMA synchronous=OFF")
        index.execute("CREATE TABLE IF NOT EXISTS keys (key TEXT, path TEXT, PRIMARY KEY (key, path)) WITHOUT ROWID")
        index.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID")
        for number, path in enumerate(_shard_files(self.path)):
            name, seen = path.relative_to(self.path).as_posix(), path.stat()
            state = f"{seen.st_size} {seen.st_mtime_ns}"
            if index.execute("SELECT 1 FROM files WHERE (path, state) = (?, ?)", (name, state)).fetchone():
                continue
            shard = take_shard(path)
            if shard is not None:
                good = [(key, name) for key, answer in shard.answers.items() if answer.finish != "failed"]
                index.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", good)
                index.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (name, state))
            if number % _COMMITTED_AT_ONCE == 0:
                index.commit()
        index.commit()
        return index

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers to the given keys that finished shards have."""
        by_path: dict[str, list[str]] = defaultdict(list)
        for start in range(0, len(keys), _LOOKUP):
            some = keys[start : start + _LOOKUP]
            places = ",".join("?" * len(some))
            for key, path in self._index.execute(f"SELECT key, path FROM keys WHERE key IN ({places})", some):
                by_path[path].append(key)
        found = {}
        for name, held in by_path.items():
            missing = [key for key in held if key not in found]
            shard = take_shard(self.path / name) if missing else None
            if shard is not None:  # it may be another than when it was looked at
                there = {key: shard.answers[key] for key in missing if key in shard.answers}
                found.update({key: answer for key, answer in there.items() if answer.finish != "failed"})
        return found


class ShardsFirst:
    """An engine that takes what finished shards have, and asks the engine behind it for the rest.

    Args:
        engine: the engine behind.
        folder: where shards are; it need not be there yet.
        index: see :class:`ShardFolder`.

    Attributes:
        imported: answers that came from shards, without a call.
    """

    def __init__(self, engine: Engine, folder: Path, index: Path | None = None) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError("not a folder of shards", where=str(folder))
        self.engine, self.folder = engine, ShardFolder(folder, index)
        self.name, self.identity, self.structured = engine.name, engine.identity, engine.structured
        self.chunk = max(engine.chunk, _IMPORTED_AT_ONCE)
        self.imported = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Mapping[int, Answer]]:
        """What shards have in one group, then the groups of the engine."""
        keys = [answer_key(request, self.identity, sampling) for request in requests]
        try:
            found = self.folder.find(keys)
        except OSError as error:
            raise SemacdrError(f"shards cannot be read ({error})", where=str(self.folder.path)) from None
        if found:
            given = {place: found[key] for place, key in enumerate(keys) if key in found}
            self.imported += len(given)
            yield given
        rest = [place for place, key in enumerate(keys) if key not in found]
        for start in range(0, len(rest), self.engine.chunk):
            part = rest[start : start + self.engine.chunk]
            for group in self.engine.generate([requests[place] for place in part], sampling):
                yield {part[place]: answer for place, answer in group.items()}
