"""What a contender's process needs: its job, one thread, clocks and the largest memory it held.

A contender is a script run as ``python contenders/NAME.py JOB.json`` by the interpreter of its own environment, so only
the standard library, numpy and torch may be imported here. It writes its result where the job says.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    kind: ``time``: warm-up, then a few steps or a whole epoch; ``train``: whole epochs, vectors exported after each.
    loss: ``shipped``, or ``chunked`` for RecTools' softmax in chunks.
    key: what the result depends on.
    dataset: the data set folder, for contenders that read it.
    data: npz of ``side_by_side.write_exchange``, for the others.
    vectors: folder of the exported vectors.
    """

    kind: str
    seed: int
    steps: int
    epochs: int
    loss: str
    model: dict[str, Any]
    key: dict[str, Any]
    dataset: str
    data: str
    vectors: str
    out: str

    def vector_folder(self, epoch: int) -> Path:
        """Where the vectors after an epoch go."""
        folder = Path(self.vectors) / f"epoch{epoch}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, result: dict[str, Any]) -> None:
        """Writes the result, with what it depends on; whole or not at all."""
        path = Path(self.out)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"job": self.key, **result}, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_job() -> Job:
    """The job named on the command line; also holds torch to one thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    return Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Clock:
    """CPU and wall seconds since the process started or a moment in it."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.process_time(), time.perf_counter())

    def since(self, start: Clock) -> dict[str, float]:
        return {"cpu_s": self.cpu - start.cpu, "wall_s": self.wall - start.wall}


def memory(field: str = "VmHWM") -> int:
    """Bytes of this process: ``VmHWM`` the largest it held, ``VmRSS`` what it holds now.

    Not ``ru_maxrss`` where /proc is there: a child starts with that of the process that started it.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def versions(*names: str) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {"python": sys.version.split()[0]}
    for name in ("torch", "numpy", *names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save_vectors(folder: Path, users: np.ndarray, items: np.ndarray) -> None:
    """(T, D) vectors of the test histories, in the order of the exchange, and (N+1, D) of the items."""
    np.save(folder / "users.npy", users.astype(np.float32))
    np.save(folder / "items.npy", items.astype(np.float32))
