"""Workers as Ray actors, one process each, on this machine or on a cluster.

Plain actors, not ``map_batches``: a Ray Data pipeline starts its actors anew for every pass over a data set, and would
load the model again for every block of the catalogue; it also restarts dead actors without end, so that one request
that kills its worker would keep the run from ending.

Without ``RAY_ADDRESS`` a private Ray is started on this machine, with more logical CPUs than workers, since actors
that hold all of them leave Ray none. With it the run joins that cluster, whose machines need the same ``semacdr``, the
model, the folder of shards under one path, and the secrets (an API key) in their own environments: none travels. Ray
ends the actors of a driver that is gone, however it went.

Tried with several workers on one machine without a GPU, over one and two servers and with vLLM in each worker. Not run
so far: GPUs, several machines, a cluster that was there before.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.version import Version

from semacdr.errors import InputError, MissingExtraError, SemacdrError
from semacdr.profiling.distributed import Ended, Work, do_work
from semacdr.profiling.engines.base import Engine

_OLDEST = "2.40"
_SPARE_CPUS = 2
_STARTS = 3
_SIGN_S = 1.0  # between the signs that a worker answers
MakeEngine = Callable[[], Engine]
"""A recipe: makes a worker's engine in the worker. It is sent there, so it names secrets at most."""


class Worker:
    """The actor: makes its engine at its first work, and keeps it."""

    def __init__(self, make: MakeEngine) -> None:
        self.make = make
        self.engine: Engine | None = None

    def work(self, work: Work) -> Iterator[str | None]:
        """Does some work: None while it answers, at last why it could not, or nothing.

        The traceback stays in this process's log.
        """
        said = time.monotonic()
        try:
            if self.engine is None:
                self.engine = self.make()
            for _ in do_work(self.engine, work):
                if time.monotonic() - said > _SIGN_S:
                    yield None
                    said = time.monotonic()
        except Exception as error:
            traceback.print_exc()
            yield str(error) or type(error).__name__
        else:
            yield ""


class RayPool:
    """A pool of Ray actors; Ray starts with the first work.

    Args:
        makes: the recipe of each worker's engine.
        gpus: GPUs that each worker has to itself (CUDA_VISIBLE_DEVICES is set by Ray); a share of one is possible.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: it is too old.
    """

    def __init__(self, makes: Sequence[MakeEngine], gpus: float = 0) -> None:
        try:
            found = version("ray")
        except PackageNotFoundError:
            raise MissingExtraError("ray", "ray") from None
        if Version(found) < Version(_OLDEST):
            raise InputError(
                f"ray {found} is installed, {_OLDEST} or newer is needed",
                fix="an environment of its own, pip install 'semacdr[ray]': RecBole holds Ray at an old version",
            )
        self.size, self.makes, self.gpus = len(makes), makes, gpus
        self._actors: dict[int, Any] = {}
        self._running: dict[Any, int] = {}
        self._connected = False

    def _worker(self, slot: int) -> Any:
        ray = _import_ray()
        if not ray.is_initialized():
            self._connect(ray)
        # Replacing a dead worker and doing its work again are the engine's, which counts; Ray does neither.
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        return ray.remote(Worker).options(**options).remote(self.makes[slot])

    def _connect(self, ray: Any) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            settings |= {"address": "local", "num_cpus": self.size + _SPARE_CPUS, "include_dashboard": False}
        for left in reversed(range(_STARTS)):
            try:
                ray.init(**settings)
                break
            except Exception as error:  # of many kinds, most of them Ray's own; on a busy machine it is often too slow
                ray.shutdown()
                if not left:
                    raise SemacdrError(
                        f"Ray cannot be started or reached ({error})",
                        fix="try again when the machine is less busy, or $RAY_ADDRESS of a running one",
                    ) from None
        self._connected = True
        there = ray.cluster_resources()
        for what, needed in (("CPU", self.size), ("GPU", self.size * self.gpus)):
            if needed > there.get(what, 0):
                raise InputError(
                    f"{self.size} workers need {needed:g} {what}s, Ray has {there.get(what, 0):g}",
                    fix="fewer --workers, or a smaller --gpus-per-worker",
                )

    def start(self, slot: int, work: Work) -> None:
        """Gives a slot some work; its actor is started where there is none."""
        if slot not in self._actors:
            self._actors[slot] = self._worker(slot)
        signs = self._actors[slot].work.options(num_returns="streaming").remote(work)
        self._running[signs] = slot

    def wait(self) -> tuple[int, Ended | None]:
        """Waits for a sign of any actor; one that is dead or has failed leaves its slot empty."""
        ray = _import_ray()
        [signs], _ = ray.wait(list(self._running), num_returns=1)
        slot = self._running[signs]
        try:
            sign = ray.get(next(signs))
            if sign is None:
                return slot, None
            ended = Ended(sign)
        except ray.exceptions.RayTaskError as error:  # not even our own code ran: semacdr is not there, or another one
            ended = Ended(f"it could not start ({type(error.cause).__name__}: {error.cause})")
        except ray.exceptions.RayError as error:
            memory = isinstance(error, ray.exceptions.OutOfMemoryError)
            ended = Ended("its process was ended for want of memory" if memory else "its process died", died=True)
        del self._running[signs]
        if ended.reason:
            ray.kill(self._actors.pop(slot))
        return slot, ended

    def close(self) -> None:
        """Ends the actors and what they do, and Ray where it was started here."""
        if self._actors or self._connected:
            ray = _import_ray()
            for actor in self._actors.values():
                ray.kill(actor)
            if self._connected:
                ray.shutdown()
        self._connected = False
        self._actors.clear()
        self._running.clear()


def _import_ray() -> Any:
    # Both are read when Ray is imported. Nothing goes out that was not asked for; and what Ray says of dead workers, it
    # says on stdout, which belongs to the command.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    import ray

    return ray
