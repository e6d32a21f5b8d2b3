"""One bench for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.planted_bench import write_bench


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench folder, with its report."""
    return write_bench(tmp_path_factory.mktemp("reported"))
