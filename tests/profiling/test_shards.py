"""Shards: whole or set aside, readable alone, taken without a call."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from semacdr.errors import InputError
from semacdr.files import fingerprint
from semacdr.profiling import shards
from semacdr.profiling.distributed import Work, do_work
from semacdr.profiling.engines.base import Answer, Message, Request, Sampling, answer_key, answers_of
from semacdr.profiling.engines.recorded import RecordedEngine
from semacdr.profiling.recorded import read_record
from semacdr.profiling.shards import (
    DamagedShardError,
    Shard,
    ShardFolder,
    ShardsFirst,
    read_shard,
    shard_path,
    take_shard,
    write_shard,
)
from tests.profiling.large import peak
from tests.profiling.pools import SteadyEngine

SHARD = Shard("steady", "m", "1", {"b" * 64: Answer("two\nlines, ünï", "stop", 7, 3), "a" * 64: Answer("", "failed")})


def requests_of(count: int) -> list[Request]:
    return [Request((Message("user", f"What is thing {number}?"),)) for number in range(count)]


def fill(folder: Path, requests: list[Request], size: int = 4) -> list[str]:
    """Shards as a worker leaves them; their answers' keys."""
    engine = SteadyEngine()
    shards = tuple(tuple(requests[start : start + size]) for start in range(0, len(requests), size))
    signs = list(do_work(engine, Work(shards, Sampling(), engine.identity, folder)))
    assert len(signs) == (len(requests) + 1) // 2  # one for each group of two answers
    return [answer_key(request, engine.identity, Sampling()) for request in requests]


def test_what_is_written_is_read_and_can_be_read_alone(tmp_path: Path) -> None:
    path = write_shard(tmp_path, SHARD)
    assert path == shard_path(tmp_path, ["b" * 64, "a" * 64])
    assert path.parent.name == fingerprint(["a" * 64, "b" * 64])[:2]
    assert read_shard(path) == SHARD
    first, one, two, last = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert first == {
        "format": "semacdr-shard",
        "version": 1,
        "engine": "steady",
        "model": "m",
        "revision": "1",
        "answers": 2,
    }
    assert one == {"key": "a" * 64, "text": "", "finish": "failed", "prompt_tokens": 0, "tokens": 0}
    assert two == {"key": "b" * 64, "text": "two\nlines, ünï", "finish": "stop", "prompt_tokens": 7, "tokens": 3}
    body = path.read_bytes().rpartition(b'{"sha256"')[0]
    assert last == {"sha256": hashlib.sha256(body).hexdigest()}
    assert write_shard(tmp_path / "again", SHARD).read_bytes() == path.read_bytes()


def test_flipped_bytes_and_shortenings_are_seen(tmp_path: Path) -> None:
    path = write_shard(tmp_path, SHARD)
    whole = path.read_bytes()
    broken = [whole[:length] for length in range(0, len(whole), 2)] + [whole + b"x", whole + whole]
    broken += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 2)]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(DamagedShardError, match="damaged or only half there"):
            read_shard(path)


def signed(path: Path, *lines: object) -> Path:
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(body + f'{{"sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode())
    return path


def test_a_newer_version_is_left_as_it_is_and_nonsense_is_damaged(tmp_path: Path) -> None:
    newer = signed(tmp_path / "n.shard.jsonl", {"format": "semacdr-shard", "version": 2})
    with pytest.raises(InputError, match="version 2, this program reads 1"):
        take_shard(newer)
    assert newer.is_file()
    header = {"format": "semacdr-shard", "version": 1, "engine": "e", "model": "m", "revision": "1"}
    for lines in ([[]], [{}], [header, {"text": "no key"}], [header, {"key": "k", "other": 1}], [header, 3]):
        with pytest.raises(DamagedShardError, match="cannot be read"):
            read_shard(signed(tmp_path / "odd.shard.jsonl", *lines))


def test_answers_are_found_by_their_keys_wherever_the_shards_lie(tmp_path: Path) -> None:
    requests = requests_of(10)
    keys = fill(tmp_path / "a", requests[:6]) + fill(tmp_path / "b" / "deeper", requests[6:])
    found = ShardFolder(tmp_path).find([*keys, "0" * 64])
    assert set(found) == set(keys)
    assert found[keys[3]] == answers_of(SteadyEngine(), [requests[3]], Sampling())[0]
    assert ShardFolder(tmp_path / "nothing here").find(keys) == {}


def test_an_index_that_is_kept_saves_reading_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, index = requests_of(12), tmp_path / "s.index"
    keys = fill(tmp_path / "a", requests[:8])
    read: list[Path] = []
    take = shards.take_shard
    monkeypatch.setattr(shards, "take_shard", lambda path: read.append(path) or take(path))

    def found() -> tuple[set[str], int]:
        """The keys that are found, and how many shards were read to know which shard has what."""
        read.clear()
        folder = ShardFolder(tmp_path / "a", index)
        folder.find([])
        _ = folder._index
        number = len(read)
        return set(folder.find(keys)), number

    assert found() == (set(keys), 2)
    assert found() == (set(keys), 0)
    keys += fill(tmp_path / "a", requests[8:])
    assert found() == (set(keys), 1)
    # a shard that is written again with other answers, one that is gone, an index that is damaged
    first, second = shard_path(tmp_path / "a", keys[:4]), shard_path(tmp_path / "a", keys[4:8])
    write_shard(tmp_path / "a", Shard("steady", "m", "1", {key: Answer("gave up", "failed") for key in keys[:4]}))
    assert first.is_file()
    assert found() == (set(keys[4:]), 1)
    second.unlink()
    assert found() == (set(keys[8:]), 0)
    index.write_bytes(b"no database at all " * 200)
    assert found() == (set(keys[8:]), 2)
    assert found() == (set(keys[8:]), 0)
    assert index.read_bytes()[:6] == b"SQLite"


def test_what_was_given_up_in_one_shard_is_taken_from_another(tmp_path: Path) -> None:
    requests = requests_of(4)
    keys = fill(tmp_path / "z", requests)
    for folder in ("a", "zz"):
        write_shard(tmp_path / folder, Shard("steady", "m", "1", {key: Answer("gave up", "failed") for key in keys}))
    assert set(ShardFolder(tmp_path).find(keys)) == set(keys)
    record = read_record(tmp_path)
    assert {answer.finish for answer in record.answers.values()} == {"stop"}


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    peaks = []
    for count in (600, 3000):  # with fewer, not all of the 256 folders are there yet
        for number in range(count):
            answers = {f"{number:08d}{place:056d}": Answer("word " * 400, "stop") for place in range(2)}
            write_shard(tmp_path / str(count), Shard("steady", "m", "1", answers))
        keys = list(answers)
        ShardFolder(tmp_path / str(count)).find(keys)
        folder = ShardFolder(tmp_path / str(count))
        peaks.append(peak(folder.find, keys))
        assert set(folder.find(keys)) == set(keys)
    assert peaks[1] < 1.5 * peaks[0]


def test_finished_shards_are_taken_and_only_the_rest_is_asked(tmp_path: Path) -> None:
    requests = requests_of(10)
    fill(tmp_path, requests[2:8])
    engine = SteadyEngine(chunk=3)
    first = ShardsFirst(engine, tmp_path)
    groups = list(first.generate(requests, Sampling()))
    assert set(groups[0]) == {2, 3, 4, 5, 6, 7}
    assert first.imported == 6
    places = [place for group in groups for place in group]
    assert sorted(places) == list(range(10))
    assert answers_of(ShardsFirst(SteadyEngine(), tmp_path), requests, Sampling()) == answers_of(
        SteadyEngine(), requests, Sampling()
    )
    assert len(engine.answered) == 4


@pytest.mark.parametrize("other", [SteadyEngine(model="n"), Sampling(temperature=0.5), Sampling(max_new_tokens=65)])
def test_answers_to_another_question_are_not_taken(tmp_path: Path, other: SteadyEngine | Sampling) -> None:
    requests = requests_of(4)
    fill(tmp_path, requests)
    engine = other if isinstance(other, SteadyEngine) else SteadyEngine()
    first = ShardsFirst(engine, tmp_path)
    answers_of(first, requests, other if isinstance(other, Sampling) else Sampling())
    assert first.imported == 0


def test_a_damaged_shard_is_set_aside_and_named_and_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = requests_of(8)
    fill(tmp_path, requests)
    damaged = sorted(tmp_path.rglob("*.shard.jsonl"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    engine = SteadyEngine()
    first = ShardsFirst(engine, tmp_path)
    assert answers_of(first, requests, Sampling()) == answers_of(SteadyEngine(), requests, Sampling())
    assert (first.imported, len(engine.answered)) == (4, 4)
    said = capsys.readouterr().err
    assert str(damaged) in said
    assert "set aside" in said
    assert not damaged.exists()
    assert damaged.with_name(damaged.name + ".damaged").is_file()


def test_halves_of_dead_workers_go_and_those_of_living_ones_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = fill(tmp_path, requests_of(4))
    folder = next(tmp_path.rglob("*.shard.jsonl")).parent
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = folder / f".0.shard.jsonl.{platform.node()}-{ended.pid}.tmp"
    alive = folder / f".0.shard.jsonl.{platform.node()}-{os.getppid()}.tmp"
    for half in (dead, alive):
        half.write_text("half")
    assert len(ShardFolder(tmp_path).find(keys)) == 4
    assert (dead.exists(), alive.exists()) == (False, True)
    assert str(dead) in capsys.readouterr().err


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    keys = fill(tmp_path, requests_of(4))
    (tmp_path / "events.jsonl").write_text("{}\n")
    (tmp_path / "ab").mkdir(exist_ok=True)
    shutil.copy(tmp_path / "events.jsonl", tmp_path / "ab" / "events.jsonl")
    before = sorted(tmp_path.rglob("*"))
    ShardFolder(tmp_path).find(keys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_no_folder_of_shards(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder of shards"):
        ShardsFirst(SteadyEngine(), tmp_path / "file")


def test_shards_are_a_record_where_no_engine_is_at_hand(tmp_path: Path) -> None:
    requests = requests_of(6)
    fill(tmp_path, requests[:5])
    engine = RecordedEngine(str(tmp_path))
    assert engine.identity == SteadyEngine().identity
    answers = answers_of(engine, requests, Sampling())
    assert answers[:5] == answers_of(SteadyEngine(), requests[:5], Sampling())
    assert answers[5].finish == "missing"
    write_shard(tmp_path, Shard("steady", "another", "1", {"c" * 64: Answer("", "stop")}))
    with pytest.raises(InputError, match="shards of 2 models"):
        RecordedEngine(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="shards of 0 models"):
        RecordedEngine(str(tmp_path / "empty"))
