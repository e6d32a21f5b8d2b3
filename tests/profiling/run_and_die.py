"""Runs the profiling of the invented catalogue and kills itself at a given call: ``DATASET STORE METHOD:N:before``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from semacdr.data.item_rows import ItemRows
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from tests.profiling.small import FakeEngine


def die_at(target: object, method: str, number: int, when: str) -> None:
    original = getattr(target, method)
    calls = 0

    def counted(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, method, counted)


if __name__ == "__main__":
    rows, engine = ItemRows(sys.argv[1]), FakeEngine()
    store = AnswerStore(Path(sys.argv[2]))
    method, number, when = sys.argv[3].split(":")
    die_at(engine if method == "batch" else store, method, int(number), when)
    profile_items(rows, engine, store, load_prompts(), Vocabulary.load(), RunOptions())
