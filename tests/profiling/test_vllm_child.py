"""Processes that vLLM starts for us end with us: the watch alone, without vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semacdr.files import process_runs
from semacdr.profiling.engines.vllm_child import OWNER

CHILD = """
import subprocess, sys, time
from semacdr.profiling.engines.vllm_child import stay_with_owner
stay_with_owner()
if len(sys.argv) > 1:
    subprocess.Popen([sys.executable, "-c", sys.argv[1]])
open(f"started-{'core' if len(sys.argv) > 1 else 'worker'}", "w").write(str(__import__("os").getpid()))
time.sleep(600)
"""
OWNS = f"""
import os, subprocess, sys, time
os.environ[{OWNER!r}] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1]])
time.sleep(600)
"""


def wait_for(path: Path) -> int:
    for _ in range(600):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise AssertionError(path)


@pytest.mark.skipif(os.name != "posix", reason="vLLM runs on POSIX only")
def test_core_and_worker_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNS, CHILD], cwd=tmp_path)
    processes = [wait_for(tmp_path / "started-core"), wait_for(tmp_path / "started-worker")]
    time.sleep(1.5)
    assert all(map(process_runs, processes))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    for _ in range(300):
        if not any(map(process_runs, processes)):
            return
        time.sleep(0.1)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    raise AssertionError("they live on")
