"""Engines that die or hang, in processes of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from semacdr.profiling.engines.base import Answer, Message, Request, Sampling
from semacdr.profiling.engines.guard import GuardedEngine
from semacdr.profiling.store import AnswerStore
from tests.profiling.small import FakeEngine, write_dataset

ROOT = Path(__file__).parents[2]


def profile(dataset: Path, store: Path, trouble: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.profiling.run_in_trouble", str(dataset), str(store), trouble]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("hang", "semacdr: the fake engine has not answered for 1 s\n"),
        ("hang-in-c", "Timeout (0:00:01"),
        ("die", "semacdr: the fake engine died (RuntimeError: worker gone)\n"),
    ],
)
def test_trouble_ends_with_exit_1_and_one_message_and_the_same_command_goes_on(
    tmp_path: Path, trouble: str, message: str
) -> None:
    dataset = write_dataset(tmp_path / "data", copies=2).path
    ended = profile(dataset, tmp_path / "s.sqlite", trouble)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith(message), ended.stderr
    assert ended.stderr.count("semacdr: ") == (trouble != "hang-in-c")
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert len(store.all_answers()) == 8  # two batches of four had ended
    again = profile(dataset, tmp_path / "s.sqlite", "none")
    assert again.returncode == 0, again.stderr
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert len(store.valid_profiles("invented")) == 44
        assert len(store.all_answers()) == 44


def test_workers_that_are_silent_end_the_run_as_an_engine_does(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", copies=2).path
    ended = profile(dataset, tmp_path / "s.sqlite", "hang-in-pool")
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("semacdr: the fake engine has not answered for 1 s\n"), ended.stderr
    with AnswerStore(tmp_path / "s.sqlite") as store:
        kept = len(store.all_answers())
    assert 0 < kept < 44
    again = profile(dataset, tmp_path / "s.sqlite", "pool")
    assert again.returncode == 0, again.stderr
    with AnswerStore(tmp_path / "s.sqlite") as store:
        assert len(store.all_answers()) == len(store.valid_profiles("invented")) == 44


def test_a_sign_of_work_sets_the_clock_back_and_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(FakeEngine):
        def generate(self, requests, sampling):
            yield from ({}, {0: Answer("a", "stop")}, {}, {1: Answer("b", "stop")})

    clocks = []

    @contextlib.contextmanager
    def clock(*_: object) -> Iterator[None]:
        clocks.append("set")
        yield

    monkeypatch.setattr("semacdr.profiling.engines.guard._ends_process_after", clock)
    asked = [Request((Message("user", text),)) for text in "ab"]
    groups = list(GuardedEngine(Busy(), 1).generate(asked, Sampling()))
    assert groups == [{0: Answer("a", "stop")}, {1: Answer("b", "stop")}]
    assert len(clocks) == 5  # before each group and each sign, and before the end
