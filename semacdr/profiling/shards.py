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


def shards_in(folder: Path) -> Iterator[tuple[Path, Shard]]:
    """The whole shards of a folder, at any depth; damaged ones are set aside, halves of dead workers removed."""
    for below in folder.glob("**/"):
        for half in clear_halves(below, f"*{SUFFIX}"):
            say(f"{half}: half a shard, left by a process that was killed; removed")
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        shard = take_shard(path)
        if shard is not None:
            yield path, shard


class ShardFolder:
    """Finds answers in the shards of a folder, at any depth, as they are when it is first asked.

    The index of keys is a temporary file of SQLite's, so that memory does not grow with the number of shards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _index(self) -> sqlite3.Connection:
        index = sqlite3.connect("")  # a temporary file that goes with this process
        index.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID")
        for path, shard in shards_in(self.path):
            rows = [(key, str(path)) for key in shard.answers]
            index.executemany("INSERT INTO keys VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
        return index

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers to the given keys that finished shards have; what an engine gave up on is asked again."""
        by_path: dict[str, list[str]] = defaultdict(list)
        for start in range(0, len(keys), _LOOKUP):
            some = keys[start : start + _LOOKUP]
            places = ",".join("?" * len(some))
            for key, path in self._index.execute(f"SELECT key, path FROM keys WHERE key IN ({places})", some):
                by_path[path].append(key)
        found = {}
        for path, held in by_path.items():
            shard = take_shard(Path(path))
            if shard is not None:
                found.update({key: shard.answers[key] for key in held if shard.answers[key].finish != "failed"})
        return found


class ShardsFirst:
    """An engine that takes what finished shards have, and asks the engine behind it for the rest.

    Attributes:
        imported: answers that came from shards, without a call.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError("not a folder of shards", where=str(folder))
        self.engine, self.folder = engine, ShardFolder(folder)
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
