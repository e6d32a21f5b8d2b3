"""Many workers are one engine: same answers, each once, whatever dies on the way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.errors import InputError, SemacdrError
from semacdr.profiling.distributed import DEATHS, SLOT_FAILURES, DistributedEngine
from semacdr.profiling.engines.base import Answer, Request, Sampling, answer_key, answers_of
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.ray_pool import RayPool
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.shards import SHARD_SIZE, Shard, ShardsFirst, write_shard
from semacdr.profiling.store import AnswerStore
from tests.profiling.pools import DeathError, InProcessPool, SteadyEngine
from tests.profiling.small import FakeEngine, write_dataset
from tests.profiling.test_shards import requests_of

Hook = Callable[[Request], None]


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


def spread(folder: Path, hooks: list[Hook], chunk: int = 32) -> tuple[DistributedEngine, InProcessPool, list[str]]:
    """An engine over one worker for each hook, and the keys that all of them answered, in order."""
    answered: list[str] = []

    def make(hook: Hook) -> SteadyEngine:
        engine = SteadyEngine(hook, chunk)
        engine.answered = answered
        return engine

    pool = InProcessPool([lambda hook=hook: make(hook) for hook in hooks])
    return DistributedEngine(SteadyEngine(chunk=chunk), pool, folder), pool, answered


def well(_: Request) -> None:
    """Nothing happens."""


def dies_on(text: str) -> Hook:
    def hook(request: Request) -> None:
        if text in request.messages[0].content:
            raise DeathError

    return hook


def collect(engine: DistributedEngine | ShardsFirst, requests: list[Request]) -> dict[int, Answer]:
    """All answers; each place comes once."""
    found: dict[int, Answer] = {}
    for group in engine.generate(requests, Sampling()):
        assert not found.keys() & group.keys()
        found.update(group)
    assert sorted(found) == list(range(len(requests)))
    return found


def expected(requests: list[Request]) -> dict[int, Answer]:
    return dict(enumerate(answers_of(SteadyEngine(), requests, Sampling())))


@pytest.mark.parametrize(
    ("count", "workers", "chunk"), [(1, 3, 32), (7, 3, 1), (60, 3, 32), (500, 2, 32), (700, 2, 96)]
)
def test_answers_are_those_of_one_engine_and_shards_are_small(
    tmp_path: Path, count: int, workers: int, chunk: int
) -> None:
    requests = requests_of(count)
    engine, pool, answered = spread(tmp_path, [well] * workers, chunk)
    assert collect(engine, requests) == expected(requests)
    assert len(answered) == len(set(answered)) == count
    sizes = [[len(shard) for shard in work.shards] for work in pool.works]
    assert max(size for bundle in sizes for size in bundle) <= SHARD_SIZE
    assert max(sum(bundle) for bundle in sizes) <= max(SHARD_SIZE, chunk)
    assert len(sizes) >= min(count, workers)  # nobody is left without work
    assert len(list(tmp_path.rglob("*.shard.jsonl"))) == sum(len(bundle) for bundle in sizes)


def test_bundles_shrink_towards_the_end(tmp_path: Path) -> None:
    engine, pool, _ = spread(tmp_path, [well, well], chunk=256)
    collect(engine, requests_of(32 * 40))
    sizes = [len(work.shards) for work in pool.works]
    assert (sizes[0], sizes[-1]) == (8, 1)
    assert sizes == sorted(sizes, reverse=True)


def test_a_death_costs_only_what_the_worker_had_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = requests_of(200)
    dead: list[Request] = []

    def once(request: Request) -> None:
        if not dead and "thing 100?" in request.messages[0].content:
            dead.append(request)
            raise DeathError

    engine, pool, answered = spread(tmp_path, [once, once, once])
    assert collect(engine, requests) == expected(requests)
    assert len(dead) == 1
    assert sum(pool.made) == 4
    begun = next(work for work in pool.works if dead[0] in work.shards[0])
    assert 200 <= len(answered) <= 200 + len(begun.shards[0])
    assert "its process died; replaced" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_random_deaths_and_errors_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    chance, requests, troubles = random.Random(seed), requests_of(300), iter(range(10))

    def unlucky(_: Request) -> None:
        if chance.random() < 0.05 and next(troubles, None) is not None:
            raise DeathError if chance.random() < 0.5 else SemacdrError("no answer from the server")

    engine, _, answered = spread(tmp_path, [unlucky] * 4, chunk=96)
    found = collect(engine, requests)
    failed = [place for place, answer in found.items() if answer.finish == "failed"]
    assert len(failed) <= 2
    assert {p: a for p, a in found.items() if p not in failed} == {
        p: a for p, a in expected(requests).items() if p not in failed
    }
    assert next(troubles, "all happened") == "all happened"
    assert len(answered) > 300


def test_a_request_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    requests = requests_of(100)
    engine, pool, _ = spread(tmp_path, [dies_on("thing 70?")] * 2)
    found = collect(engine, requests)
    assert found[70].finish == "failed"
    assert f"{DEATHS} workers died over it" in found[70].text
    assert {p: a for p, a in found.items() if p != 70} == {p: a for p, a in expected(requests).items() if p != 70}
    assert sum(pool.made) == 2 + 2 * DEATHS - 1  # the last one that died is not replaced, nothing is left to do


def test_workers_that_die_over_everything_end_the_run_and_blame_no_request(tmp_path: Path) -> None:
    engine, pool, _ = spread(tmp_path, [dies_on("")] * 2)
    with pytest.raises(SemacdrError, match="no worker is left; the last one's reason: its process died"):
        collect(engine, requests_of(3))
    assert pool.made == [SLOT_FAILURES] * 2
    with pytest.raises(SemacdrError, match="no worker is left"):
        collect(engine, requests_of(3))


def test_a_server_that_is_down_costs_its_worker_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(_: Request) -> None:
        raise SemacdrError("no answer from the server")

    requests = requests_of(2000)
    engine, pool, answered = spread(tmp_path, [well, down])
    assert collect(engine, requests) == expected(requests)
    assert (pool.made[0], pool.made[1], len(answered)) == (1, SLOT_FAILURES, 2000)
    assert "worker 2: no answer from the server; given up" in capsys.readouterr().err


def test_an_engine_that_raises_is_not_its_shards_fault(tmp_path: Path) -> None:
    troubles = iter(range(SLOT_FAILURES - 1))

    def down_for_a_while(request: Request) -> None:
        if "thing 3?" in request.messages[0].content and next(troubles, None) is not None:
            raise SemacdrError("no answer from the server")

    requests = requests_of(8)
    engine, pool, _ = spread(tmp_path, [down_for_a_while])
    assert collect(engine, requests) == expected(requests)
    assert {len(shard) for work in pool.works for shard in work.shards} == {4}


def test_a_worker_that_dies_now_and_then_is_not_given_up(tmp_path: Path) -> None:
    seen: set[Request] = set()

    def dies_at_fifties(request: Request) -> None:
        if "50?" in request.messages[0].content and request not in seen:
            seen.add(request)
            raise DeathError

    requests = requests_of(1000)
    engine, pool, _ = spread(tmp_path, [dies_at_fifties])
    assert collect(engine, requests) == expected(requests)
    assert pool.made[0] == 1 + len(seen) > SLOT_FAILURES


def test_shards_of_a_worker_that_died_are_done_alone(tmp_path: Path) -> None:
    dead: list[Request] = []

    def once(request: Request) -> None:
        if not dead:
            dead.append(request)
            raise DeathError

    requests = requests_of(32 * 12)
    engine, pool, _ = spread(tmp_path, [once], chunk=128)
    assert collect(engine, requests) == expected(requests)
    assert len(pool.works[0].shards) == 4
    again = [work for work in pool.works[1:] if set(work.shards) & set(pool.works[0].shards)]
    assert [len(work.shards) for work in again] == [1] * 4


def test_what_was_finished_when_the_driver_died_is_not_asked_again(tmp_path: Path) -> None:
    requests = requests_of(120)
    engine, pool, answered = spread(tmp_path, [well] * 3)
    running = engine.generate(requests, Sampling())
    next(running)
    pool.wait()  # this worker ends its shard, and the driver never hears of it
    running.close()
    assert not pool.waiting  # nothing goes on behind
    assert len(answered) == 40
    again, _, then = spread(tmp_path, [well] * 3)
    first = ShardsFirst(again, tmp_path)
    assert collect(first, requests) == expected(requests)
    assert (first.imported, len(then)) == (40, 80)
    assert not set(answered) & set(then)


def test_an_old_shard_of_failures_is_not_what_a_worker_made_that_died(tmp_path: Path) -> None:
    """The same requests as an engine gave up on in an earlier run, asked again: their shard has the same name."""
    requests, dead = requests_of(4), []
    keys = [answer_key(request, SteadyEngine().identity, Sampling()) for request in requests]

    def once(request: Request) -> None:
        if len(dead) < 2:
            dead.append(request)
            raise DeathError

    for some in (keys[:2], keys[2:]):
        write_shard(tmp_path, Shard("steady", "m", "1", {key: Answer("HTTP 503", "failed") for key in some}))
    engine, pool, _ = spread(tmp_path, [once])
    assert collect(engine, requests) == expected(requests)
    assert {len(shard) for work in pool.works for shard in work.shards} == {2}


def test_requests_held_at_once_do_not_grow_with_the_workers(tmp_path: Path) -> None:
    chunks = [spread(tmp_path, [well] * workers, chunk=4096)[0].chunk for workers in (1, 16, 64, 1000)]
    assert chunks == [4096, 65_536, 65_536, 65_536]


def test_a_worker_with_another_model_is_refused(tmp_path: Path) -> None:
    pool = InProcessPool([lambda: SteadyEngine(model="other")])
    engine = DistributedEngine(SteadyEngine(model="planned"), pool, tmp_path)
    with pytest.raises(SemacdrError, match="a worker has model other 1, the plan is for planned 1"):
        collect(engine, requests_of(3))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_shared_is_said(tmp_path: Path) -> None:
    engine, pool, _ = spread(tmp_path / "here", [well])
    start = pool.start

    def elsewhere(slot: int, work: object) -> None:
        object.__setattr__(work, "folder", tmp_path / "there")
        start(slot, work)

    pool.start = elsewhere  # type: ignore[method-assign]
    with pytest.raises(SemacdrError, match="cannot be seen here"):
        collect(engine, requests_of(3))


def test_a_whole_run_gives_the_store_of_one_engine(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", copies=6)
    rows, prompts, vocabulary = ItemRows(tmp_path / "data"), load_prompts(), Vocabulary.load()
    seen = random.Random(3)

    def unlucky(_: Request) -> None:
        if seen.random() < 0.02:
            raise SemacdrError("no answer from the server")

    engine, _, _ = spread(tmp_path / "shards", [unlucky] * 3)
    digests, counts = [], []
    for one in (ShardsFirst(engine, tmp_path / "shards"), SteadyEngine()):
        with AnswerStore(None) as store:
            counts.append(profile_items(rows, one, store, prompts, vocabulary, RunOptions()))
            digests.append(store.digest())
    assert digests[0] == digests[1]
    assert [count["valid"] for count in counts] == [132, 132]
    with AnswerStore(None) as store:  # a machine that has only the shards
        alone = SteadyEngine()
        first = ShardsFirst(alone, tmp_path / "shards")
        profile_items(rows, first, store, prompts, vocabulary, RunOptions())
        assert (store.digest(), first.imported, alone.answered) == (digests[0], 132, [])


def test_the_command_takes_shards_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "data")
    made: list[SteadyEngine] = []

    def make(*_: object) -> SteadyEngine:
        made.append(SteadyEngine())
        return made[-1]

    monkeypatch.setattr("semacdr.profiling.engines.make_engine", make)
    command = ["profile", "items", "--dataset", str(tmp_path / "data"), "--store"]
    assert main([*command, str(tmp_path / "a.sqlite"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert "from_shards" not in summary
    asked = made[0].answered
    assert len(asked) == 22
    with AnswerStore(tmp_path / "a.sqlite") as store:
        kept = dict(store.all_answers())
    write_shard(tmp_path / "shards", Shard("steady", "m", "1", {key: kept[key] for key in asked[:9]}))
    shards = ["--shards", str(tmp_path / "shards")]
    assert main([*command, str(tmp_path / "b.sqlite"), *shards]) == 0
    assert "22 answers generated" in (said := capsys.readouterr().out)
    assert "9 of them taken from finished shards" in said
    assert len(made[1].answered) == 13
    assert main([*command, str(tmp_path / "b.sqlite"), *shards, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from_shards"] == 0
    assert [path.name for path in tmp_path.glob("*.index")] == [
        path.name for path in tmp_path.glob("b.sqlite.shards-*")
    ]
    assert not list((tmp_path / "shards").rglob("*.index"))


def no_such_package(name: str) -> str:
    raise PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--store", "s", "--workers", "3"], "--distributed ray"),
        (["--store", "s", "--gpus-per-worker", "1"], "--distributed ray"),
        (["--store", "s", "--shards", "nowhere"], "no such folder of shards"),
        (["--no-cache", "--distributed", "ray"], "--shards DIR"),
        (["--store", "s", "--distributed", "rya"], "ray"),
        (["--store", "s", "--distributed", "ray", "--workers", "0"], "--workers"),
        (["--store", "s", "--distributed", "ray", "--gpus-per-worker", "1.5"], "--gpus-per-worker"),
        (["--store", "s", "--distributed", "ray"], "pip install 'semacdr[ray]'"),
    ],
)
def test_wrong_use_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *_: FakeEngine())
    monkeypatch.setattr("semacdr.profiling.ray_pool.version", no_such_package)
    write_dataset(tmp_path / "data")
    assert main(["profile", "items", "--dataset", "data", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_ray_that_recbole_brings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semacdr.profiling.ray_pool.version", lambda _: "2.6.3")
    with pytest.raises(InputError, match=r"ray 2\.6\.3 is installed, 2\.40 or newer"):
        RayPool([SteadyEngine])
