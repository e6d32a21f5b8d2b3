"""Real Ray workers, killed with SIGKILL, and a small server on loopback. Runs where a new enough Ray is installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from semacdr.files import canonical_json
from semacdr.profiling.store import AnswerStore
from tests.profiling.fake_server import FakeServer, Reply, completion
from tests.profiling.small import write_dataset


def _has_ray() -> bool:
    try:
        return Version(version("ray")) >= Version("2.40")
    except PackageNotFoundError:
        return False


pytestmark = [
    pytest.mark.skipif(not _has_ray(), reason="Ray, in an environment of its own: make test-vllm"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc"),
]
KEY = "sk-secret-of-the-test"
WORKERS = 3
CONCURRENCY = 2  # questions of one worker at a time
ITEMS = 66  # with text, in two views
WAIT_S = 300


def describe(body: dict[str, Any], number: int) -> Reply:
    """An answer of its own to each question, after a while."""
    time.sleep(0.1)
    letters = "".join(chr(ord("a") + int(digit, 16)) for digit in _question(body)[:12])
    text = f"Calm and steady, it suits people who want a slow evening with {letters}."
    return completion(json.dumps({"description": text}))


def _question(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(body["messages"]).encode()).hexdigest()


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's own files, under a short name: sockets are among them."""
    folder = Path(tempfile.mkdtemp(prefix="r"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(tmp_path: Path, ray_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command on the invented catalogue; what still runs at the end is ended."""
    write_dataset(tmp_path / "data", copies=6)
    environment = os.environ | {"OPENAI_API_KEY": KEY, "RAY_TMPDIR": str(ray_folder), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    begun: list[subprocess.Popen[str]] = []

    def run(*urls_and_options: str) -> subprocess.Popen[str]:
        command = ["profile", "items", "--dataset", str(tmp_path / "data"), "--store", str(tmp_path / "s.sqlite")]
        command += ["--engine", "openai", "--concurrency", str(CONCURRENCY), "--json", "--base-url", *urls_and_options]
        command += ["--distributed", "ray", "--workers", str(WORKERS)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = [sys.executable, "-m", "semacdr.cli", *command]
        begun.append(subprocess.Popen(program, env=environment, text=True, **pipes))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def children(process: int) -> list[int]:
    """Processes below this one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue
        parents.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(number))
    found, todo = [], [process]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def runs(process: int) -> bool:
    """Whether it is more than an entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def workers_of(driver: int) -> list[int]:
    """Processes of Ray actors below the driver."""
    found = []
    for process in children(driver):
        try:
            title = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::Worker"):
            found.append(process)
    return found


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + WAIT_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def whole(tmp_path: Path, out: str) -> dict[str, Any]:
    """The summary, alone on stdout; every item has a valid profile in both views, each from one answer."""
    summary: dict[str, Any] = json.loads(out)
    assert (summary["planned"], summary["valid"], summary["missing"]) == (2 * ITEMS, 2 * ITEMS, 0)
    with AnswerStore(tmp_path / "s.sqlite", create=False) as store:
        assert len(store.all_answers()) == len(store.valid_profiles("invented")) == 2 * ITEMS
    return summary


def asked_of(*servers: FakeServer) -> Counter[str]:
    return Counter(_question(body) for server in servers for body, _ in server.asked)


def test_one_of_three_workers_is_killed(
    tmp_path: Path, ray_folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    gate = threading.Event()  # no answer before the kill, so that each worker is in the midst of a shard

    def wait_and_describe(body: dict[str, Any], number: int) -> Reply:
        gate.wait(WAIT_S)
        return describe(body, number)

    with FakeServer(wait_and_describe) as one, FakeServer(wait_and_describe) as two:
        driver = start(one.url, two.url)
        until(lambda: len(one.asked) + len(two.asked) == CONCURRENCY * WORKERS, driver)
        os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
        gate.set()
        out, err = driver.communicate(timeout=WAIT_S)
        assert driver.returncode == 0, err
        assert whole(tmp_path, out)["generated"] == 2 * ITEMS
        assert "its process died; replaced" in err
        asked = asked_of(one, two)
        assert len(asked) == 2 * ITEMS
        again = {question: times for question, times in asked.items() if times > 1}
        assert 0 < len(again) <= 32  # the shard that the dead worker had begun, and nothing else
        assert set(again.values()) == {2}
        assert one.asked  # the workers call the servers in turn
        assert two.asked
        assert {headers["Authorization"] for _, headers in one.asked + two.asked} == {f"Bearer {KEY}"}
    written = [path for folder in (tmp_path, ray_folder) for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in written)
    assert any(path.name.endswith(".shard.jsonl") for path in written)
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in out + err


def test_the_driver_is_killed_and_the_same_command_goes_on(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with FakeServer(describe) as server:
        driver = start(server.url)
        until(lambda: len(list((tmp_path / "s.sqlite.shards").rglob("*.shard.jsonl"))) >= 2, driver)
        below = workers_of(driver.pid)
        driver.kill()
        driver.communicate()
        limit = time.monotonic() + WAIT_S
        while any(runs(process) for process in below):  # they go with their driver
            assert time.monotonic() < limit
            time.sleep(0.1)
        finished = len(list((tmp_path / "s.sqlite.shards").rglob("*.shard.jsonl")))
        before = asked_of(server)
        out, err = start(server.url).communicate(timeout=WAIT_S)
        summary = whole(tmp_path, out)
        asked = asked_of(server)
        assert len(asked) == 2 * ITEMS, err
        assert set(asked.values()) <= {1, 2}
        again = sum(times - 1 for times in asked.values())
        in_flight = WORKERS * 11  # a view's 66 items are cut into six shards
        assert again <= in_flight
        assert summary["generated"] + again >= 2 * ITEMS - 11 * finished
        assert sum(before.values()) < 2 * ITEMS


def test_workers_that_stand_still_end_the_run_and_the_same_command_goes_on(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with FakeServer(describe) as server:
        driver = start(server.url, "--stall-s", "20")
        until(lambda: len(list((tmp_path / "s.sqlite.shards").rglob("*.shard.jsonl"))) >= 1, driver)
        stopped = workers_of(driver.pid)
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        _, err = driver.communicate(timeout=WAIT_S)
        assert driver.returncode == 1
        assert "the openai engine has not answered for 20 s" in err
        limit = time.monotonic() + WAIT_S
        while any(runs(process) for process in stopped):  # they go with their driver
            assert time.monotonic() < limit
            time.sleep(0.1)
        out, _ = start(server.url).communicate(timeout=WAIT_S)
        whole(tmp_path, out)
        assert set(asked_of(server).values()) <= {1, 2}


def test_more_gpus_than_there_are_is_refused(tmp_path: Path, ray_folder: Path) -> None:
    write_dataset(tmp_path / "data")
    command = ["profile", "items", "--dataset", str(tmp_path / "data"), "--store", str(tmp_path / "s.sqlite")]
    with FakeServer(describe) as server:
        program = [sys.executable, "-m", "semacdr.cli", *command, "--engine", "openai", "--base-url", server.url]
        done = subprocess.run(
            [*program, "--distributed", "ray", "--gpus-per-worker", "900"],
            env=os.environ | {"RAY_TMPDIR": str(ray_folder)},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
    assert done.returncode == 2
    assert "2 workers need 1800 GPUs, Ray has" in done.stderr
    assert not server.asked
