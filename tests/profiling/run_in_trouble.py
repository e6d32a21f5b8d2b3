"""Runs ``profile items`` with a guarded engine that gets into trouble at its third batch: ``DATASET STORE TROUBLE``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence

from semacdr.cli import main
from semacdr.profiling import engines, ray_pool
from semacdr.profiling.distributed import Ended
from semacdr.profiling.engines import guard
from semacdr.profiling.engines.base import Answer, Engine, Request, Sampling
from tests.profiling.pools import InProcessPool
from tests.profiling.small import FakeEngine


class TroubledEngine(FakeEngine):
    def batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        if self.calls == 2:
            if sys.argv[3] == "hang":
                time.sleep(3600)
            if sys.argv[3] == "hang-in-c":
                re.fullmatch("(a+)+b", "a" * 60)  # holds the interpreter for ages
            if sys.argv[3] == "die":
                raise RuntimeError("worker gone")
        return super().batch(requests, sampling)


class HangingPool(InProcessPool):
    """Hears nothing any more after its third shard, as of workers that never start, or a Ray that is stuck."""

    def __init__(self, makes: Sequence[Callable[[], Engine]], gpus: float) -> None:
        super().__init__(makes)
        self.heard = 0

    def wait(self) -> tuple[int, Ended | None]:
        self.heard += 1
        if self.heard > 3 and sys.argv[3] == "hang-in-pool":
            time.sleep(3600)
        return super().wait()


if __name__ == "__main__":
    guard._GRACE_S = 0.5
    ray_pool.RayPool = HangingPool
    engines._live_engine = lambda *_: TroubledEngine(bad=0)
    command = ["profile", "items", "--dataset", sys.argv[1], "--store", sys.argv[2], "--engine", "vllm"]
    if "pool" in sys.argv[3]:
        command += ["--distributed", "ray"]
    sys.exit(main([*command, "--stall-s", "1", "--quiet"]))
