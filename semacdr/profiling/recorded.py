"""Records: answers of a real engine in a file, by key, to be replayed where the engine is too slow or not at hand.

A record holds no question and nothing of the data set, only keys (hashes of what was asked) and answers. Its first line
names the model, its revision and licence, the prompts, and when and how the answers were made. JSON lines, plain or gz.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semacdr.errors import InputError
from semacdr.files import write_bytes
from semacdr.profiling.engines.base import Answer

FORMAT = "semacdr-answers"
FORMAT_VERSION = 1
RECORDS = Path(__file__).parent / "records"
RECORD_ML100K = RECORDS / "ml-100k.jsonl.gz"
"""Both views of MovieLens 100k by SmolLM2-135M-Instruct; see the record's first line."""

_SQLITE = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Record:
    """A record in memory: who answered, the answers by key, and what else its first line says."""

    model: str
    revision: str
    answers: dict[str, Answer]
    header: dict[str, Any] = field(default_factory=dict)


def find_record(name: str) -> Path:
    """A file, a folder of shards, or a record that ships with the package by its name.

    Raises:
        InputError: neither.
    """
    path = Path(name)
    if path.is_file() or path.is_dir():
        return path
    shipped = {file.name.removesuffix(".jsonl.gz"): file for file in sorted(RECORDS.glob("*.jsonl.gz"))}
    if name in shipped:
        return shipped[name]
    raise InputError(
        f"no record {name!r}", fix=f"a file, a folder of shards, or one that ships here: {', '.join(shipped) or 'none'}"
    )


def read_record(path: Path) -> Record:
    """Reads a JSON-lines record, or the answers of a profile store or of shards that one model made.

    Raises:
        InputError: no such file, neither form, a broken line (with its number), or a store with several models.
    """
    if path.is_dir():
        return _from_shards(path)
    if not path.is_file():
        raise InputError("no such record", where=str(path))
    with open(path, "rb") as handle:
        head = handle.read(16)
    return _from_store(path) if head == _SQLITE else _from_lines(path, packed=head[:2] == b"\x1f\x8b")


def _from_lines(path: Path, packed: bool) -> Record:
    opener = gzip.open if packed else open
    answers: dict[str, Answer] = {}
    header: dict[str, Any] = {}
    number = 1
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                value = json.loads(line)
                if number == 1:
                    header = value
                    if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
                        raise InputError(f"the first line does not say {FORMAT} {FORMAT_VERSION}", where=str(path))
                else:
                    answers[value["key"]] = Answer(
                        value["text"], value["finish"], value.get("prompt_tokens", 0), value.get("tokens", 0)
                    )
        return Record(header["model"], header["revision"], answers, header)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise InputError(f"line {number} is broken ({error})", where=str(path)) from None


def _from_store(path: Path) -> Record:
    from semacdr.profiling.store import AnswerStore

    with AnswerStore(path, create=False) as store:
        models = store.models()
        if len(models) != 1:
            raise InputError(f"a store with answers of {len(models)} models cannot be replayed as one", where=str(path))
        model, revision = models[0]
        return Record(model, revision, dict(store.all_answers()))


def _from_shards(folder: Path) -> Record:
    from semacdr.profiling.shards import shards_in

    answers: dict[str, Answer] = {}
    models = set()
    for shard in shards_in(folder):
        models.add((shard.model, shard.revision))
        for key, answer in shard.answers.items():
            if key not in answers or answers[key].finish == "failed":
                answers[key] = answer
    if len(models) != 1:
        raise InputError(f"shards of {len(models)} models cannot be replayed as one", where=str(folder))
    model, revision = models.pop()
    return Record(model, revision, answers)


def write_record(path: Path, record: Record) -> None:
    """Writes a record, packed where the name ends in ``.gz``; equal records give equal bytes."""
    header = {"format": FORMAT, "version": FORMAT_VERSION, "model": record.model, "revision": record.revision}
    lines = [{**header, "answers": len(record.answers), **record.header}]
    for key, answer in sorted(record.answers.items()):
        lines.append(
            {
                "key": key,
                "text": answer.text,
                "finish": answer.finish,
                "prompt_tokens": answer.prompt_tokens,
                "tokens": answer.tokens,
            }
        )
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines).encode()
    content = gzip.compress(text, compresslevel=9, mtime=0) if path.suffix == ".gz" else text
    write_bytes(path, content)
