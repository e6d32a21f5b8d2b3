"""These tests run in the environment of ``make test-vllm``; without vLLM they are not even collected."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("vllm") is None:
    collect_ignore = ["test_engine.py", "test_server.py"]


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory):
    from semacdr.cli import main
    from semacdr.data.item_rows import ItemRows

    folder: Path = tmp_path_factory.mktemp("films") / "data"
    assert main(["data", "convert", "--format", "movielens", "--output", str(folder)]) == 0
    return ItemRows(folder)
