"""One thread a process: tests run side by side, and results do not depend on the machine's cores."""

from __future__ import annotations

import os

import pytest

from semacdr.progress import set_quiet

pytest.register_assert_rewrite("tests.models.conformance")  # its asserts show their values, like those of test files

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def _speaking() -> None:
    # a command that ran with --quiet in this process leaves it so
    set_quiet(False)
