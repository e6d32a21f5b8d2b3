"""A bench that is killed at random instants ends with the leaderboard of an unbroken one, and with the same ranks."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.tiny import TINY, without_times, write_config

SETTINGS = {**TINY, "epochs": 4, "checkpoint_s": 0.0001}


def start(config: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "semacdr", "bench", str(config), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_twice(tmp_path: Path) -> None:
    config = write_config(tmp_path, models=[{"name": "Markov"}, {"name": "SASRec", "settings": SETTINGS}])
    began = time.monotonic()
    assert start(config, tmp_path / "whole").wait() == 0
    took = time.monotonic() - began
    instants = random.Random()  # another instant each time: it must not matter
    broken = tmp_path / "broken"
    for share in (0.45, 0.6):
        child = start(config, broken)
        time.sleep(instants.uniform(0.1, share) * took)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert start(config, broken).wait() == 0
    assert without_times(broken) == without_times(tmp_path / "whole")
    ranks = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("ranks-*.parquet"))
    assert len(ranks) == 6
    for path in ranks:  # two trainings of one seed rank every user's target alike
        assert (broken / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    assert not list(broken.rglob("checkpoint.safetensors"))


def test_a_cell_ends_with_its_bench(tmp_path: Path) -> None:
    long = {**SETTINGS, "epochs": 1_000_000, "patience": 1_000_000}
    config = write_config(tmp_path, models=[{"name": "SASRec", "settings": long}], seeds=[0])
    bench = start(config, tmp_path / "out")
    deadline = time.monotonic() + 60
    log: list[Path] = []
    while not (log and "epoch 1:" in log[0].read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
        log = list((tmp_path / "out").rglob("cell.log"))
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    time.sleep(1.0)
    size = log[0].stat().st_size
    time.sleep(1.0)
    assert log[0].stat().st_size == size  # it wrote a line an epoch
