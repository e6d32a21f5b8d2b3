"""An engine that is many: requests are cut into shards, workers answer them, finished shards come back.

Planning, retries, parsing and the store are those of every run; only ``generate`` is spread. Each worker has an inner
engine, made there from a recipe, and writes each shard to a folder as soon as its last answer is there
(:mod:`semacdr.profiling.shards`). All that is not in the folder is done again: the death of a worker costs the shards
that it had begun, the death of the driver those that all had begun, since the next run reads the folder first.

What a death is blamed on: a worker that dies takes its begun shards along, and they are done again, each alone. A shard
that was there at ``DEATHS`` deaths is cut into single requests; a request that was there alone at as many is
``failed``, once the workers have shown that they can answer anything. An engine that raises is not the shard's fault:
the shard goes to whoever is free. A worker that fails ``SLOT_FAILURES`` times in a row is given up, and without any the
run ends, with everything finished kept.

It also ends when no worker has answered anything for too long, or the pool itself is silent: a worker says now and then
that it answers, and :class:`~semacdr.profiling.engines.guard.GuardedEngine` stands around this engine as around any
other.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from semacdr.errors import SemacdrError
from semacdr.profiling.engines.base import Answer, Engine, ModelIdentity, Request, Sampling, answer_key
from semacdr.profiling.shards import SHARD_SIZE, Shard, shard_path, take_shard, write_shard
from semacdr.progress import say

DEATHS = 2
SLOT_FAILURES = 5
_LARGEST_BUNDLE = 32
_LARGEST_CHUNK = 65_536  # requests held at once, however many workers there are
_ROUNDS = 4  # full bundles for each worker in a call: the wait for the last ones, which are small, is little of it


@dataclass(frozen=True)
class Work:
    """What a worker is given: shards to answer, how, as which model, and the folder that they are written to."""

    shards: tuple[tuple[Request, ...], ...]
    sampling: Sampling
    identity: ModelIdentity
    folder: Path


@dataclass(frozen=True)
class Ended:
    """How a worker ended its work: well, or for a reason; ``died``: the process is gone, and was not asked."""

    reason: str = ""
    died: bool = False


class Pool(Protocol):
    """Workers, in numbered slots.

    Attributes:
        size: number of slots.
    """

    size: int

    def start(self, slot: int, work: Work) -> None:
        """Gives a free slot some work. A slot that has no worker, or whose last one ended badly, gets a new one."""
        ...

    def wait(self) -> tuple[int, Ended | None]:
        """Waits until any slot has ended its work, or only says that it answers (``None``)."""
        ...

    def close(self) -> None:
        """Ends all workers and whatever they do; ``start`` begins anew."""
        ...


def do_work(engine: Engine, work: Work) -> Iterator[None]:
    """What a worker does: answers all shards together, and writes each when its last answer is there.

    Yields whenever some answers have come, so that it can be said that they do.

    Raises:
        SemacdrError: the worker's model is another than the plan's.
    """
    mine = engine.identity
    if mine != work.identity:
        raise SemacdrError(
            f"a worker has model {mine.model} {mine.revision}, the plan is for "
            f"{work.identity.model} {work.identity.revision}",
            fix="give every worker's machine the same model",
        )
    requests = [request for shard in work.shards for request in shard]
    shard_of = [number for number, shard in enumerate(work.shards) for _ in shard]
    left = [len(shard) for shard in work.shards]
    answers: list[dict[str, Answer]] = [{} for _ in work.shards]
    for group in engine.generate(requests, work.sampling):
        for place, answer in group.items():
            number = shard_of[place]
            answers[number][answer_key(requests[place], mine, work.sampling)] = answer
            left[number] -= 1
            if left[number] == 0:
                write_shard(work.folder, Shard(engine.name, mine.model, mine.revision, answers[number]))
                answers[number] = {}
        yield
    if any(left):
        raise SemacdrError(f"the engine left {sum(left)} requests without an answer")


@dataclass
class _Job:
    """One shard to be: its requests' places, how many workers died over it, what lay in its place before."""

    places: list[int]
    deaths: int = 0
    before: Shard | None = None


class DistributedEngine:
    """Spreads requests over the workers of a pool.

    Args:
        engine: one like the workers' inner ones, for what it says of itself; it is not asked.
        pool: the workers.
        folder: where shards go; every worker's machine must see it under this path.
    """

    def __init__(self, engine: Engine, pool: Pool, folder: Path) -> None:
        self.engine = engine
        self.name, self.identity, self.structured = engine.name, engine.identity, engine.structured
        self.pool, self.folder = pool, folder.absolute()
        # Shards given at once: what keeps an inner engine busy, and comes back before long.
        self._bundle = min(max(1, engine.chunk // SHARD_SIZE), _LARGEST_BUNDLE)
        self.chunk = min(pool.size * _ROUNDS * self._bundle * SHARD_SIZE, _LARGEST_CHUNK)
        self._failures: Counter[int] = Counter()  # by slot, in a row
        self._proved = False  # a worker has answered something
        self._reason = ""  # of the last failure

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        """Groups of whole shards, those that a worker finished together in one; an empty one where it only answers."""
        keys = [answer_key(request, self.identity, sampling) for request in requests]
        jobs = deque(_Job(places) for places in _cut(len(requests), self.pool.size))
        running: dict[int, list[_Job]] = {}
        try:
            while jobs or running:
                free = self._free(running)
                if not free and not running:
                    raise SemacdrError(
                        f"no worker is left; the last one's reason: {self._reason}",
                        fix="what is finished is kept; the same command goes on",
                    )
                for slot in free:
                    if jobs:
                        running[slot] = self._bundle_of(jobs)
                        for job in running[slot]:  # an earlier run may have failed at the very same requests
                            job.before = take_shard(self._path(job, keys))
                        shards = tuple(tuple(requests[place] for place in job.places) for job in running[slot])
                        self.pool.start(slot, Work(shards, sampling, self.identity, self.folder))
                slot, ended = self.pool.wait()
                if ended is None:
                    yield {}
                    continue
                group: dict[int, Answer] = {}
                lost = []
                for job in running.pop(slot):
                    path = self._path(job, keys)
                    shard = take_shard(path)
                    if shard is not None and not (ended.reason and shard == job.before):
                        group.update({place: shard.answers[keys[place]] for place in job.places})
                    elif ended.reason:
                        lost.append(job)
                    else:
                        raise SemacdrError(
                            "a worker wrote this shard, but it cannot be seen here",
                            where=str(path),
                            fix="--shards must be a folder that all machines share under one path",
                        )
                self._judge(slot, ended, bool(group))
                for job in lost:
                    group.update(self._again(job, ended, jobs))
                if group:
                    yield group
        finally:
            if running:
                self.pool.close()  # nothing of this call goes on behind the next

    def _path(self, job: _Job, keys: Sequence[str]) -> Path:
        return shard_path(self.folder, [keys[place] for place in job.places])

    def _free(self, running: dict[int, list[_Job]]) -> list[int]:
        slots = [slot for slot in range(self.pool.size) if self._failures[slot] < SLOT_FAILURES]
        return [slot for slot in slots if slot not in running]

    def _bundle_of(self, jobs: deque[_Job]) -> list[_Job]:
        """The next shards for one worker: fewer towards the end, so that all end together; alone after a death."""
        most = min(self._bundle, max(1, len(jobs) // (2 * self.pool.size)))
        bundle = [jobs.popleft()]
        while jobs and len(bundle) < most and not bundle[0].deaths and not jobs[0].deaths:
            bundle.append(jobs.popleft())
        return bundle

    def _again(self, job: _Job, ended: Ended, jobs: deque[_Job]) -> dict[int, Answer]:
        """Puts a shard that was not finished back, whole or cut; what is given up as failed is returned."""
        job.deaths += ended.died
        if job.deaths < DEATHS:
            jobs.append(job)
        elif len(job.places) > 1:
            jobs.extend(_Job([place]) for place in job.places)
        elif self._proved:
            return {job.places[0]: Answer(f"{job.deaths} workers died over it; the last: {ended.reason}", "failed")}
        else:
            jobs.append(job)
        return {}

    def _judge(self, slot: int, ended: Ended, finished_any: bool) -> None:
        if finished_any:
            self._proved = True
            self._failures[slot] = 0
        if ended.reason:
            self._failures[slot] += 1
            self._reason = ended.reason
            given_up = self._failures[slot] >= SLOT_FAILURES
            say(f"worker {slot + 1}: {ended.reason}; {'given up' if given_up else 'replaced'}")


def _cut(count: int, workers: int) -> list[list[int]]:
    """Places in shards: of ``SHARD_SIZE``, or smaller where that would leave workers without any."""
    size = min(SHARD_SIZE, max(1, math.ceil(count / (2 * workers))))
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]
