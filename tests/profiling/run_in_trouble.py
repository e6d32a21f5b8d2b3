"""Runs ``profile items`` with a guarded engine that gets into trouble at its third batch: ``DATASET STORE TROUBLE``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence

from semacdr.cli import main
from semacdr.profiling import engines
from semacdr.profiling.engines import guard
from semacdr.profiling.engines.base import Answer, Request, Sampling
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


if __name__ == "__main__":
    guard._GRACE_S = 0.5
    engines._live_engine = lambda *_: TroubledEngine(bad=0)
    command = ["profile", "items", "--dataset", sys.argv[1], "--store", sys.argv[2], "--engine", "vllm"]
    sys.exit(main([*command, "--stall-s", "1", "--quiet"]))
