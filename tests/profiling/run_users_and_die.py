"""Runs the user profiles of the invented wares and kills itself at a given call: ``DATASET STORE METHOD:N:before``."""

from __future__ import annotations

import sys
from pathlib import Path

from semacdr.data.dataset import Dataset
from semacdr.profiling.store import AnswerStore
from tests.profiling.run_and_die import die_at
from tests.profiling.small import FakeEngine
from tests.profiling.test_users import run

if __name__ == "__main__":
    dataset, engine = Dataset.load(sys.argv[1]), FakeEngine(chunk=2)
    store = AnswerStore(Path(sys.argv[2]))
    method, number, when = sys.argv[3].split(":")
    die_at(engine if method == "batch" else store, method, int(number), when)
    run(dataset, store, engine)
