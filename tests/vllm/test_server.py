"""The openai engine against a real vLLM server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from semacdr.data.item_rows import ItemRows
from semacdr.local_models import embedded_llm
from semacdr.profiling.engines.base import Message, ModelIdentity, Request, Sampling, answers_of
from semacdr.profiling.engines.openai import OpenAIEngine
from semacdr.profiling.engines.server import Server
from semacdr.profiling.prompts import load_prompts
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder
from tests.vllm.films import check_films, profile

START_S = 1200
KEY = "sk-loopback-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(START_S):
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (OSError, urllib.error.HTTPError):
            time.sleep(1)
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(embedded_llm().path), "--served-model-name", "smollm2", "--max-model-len", "4096"]
    command += ["--block-size", "32", "--enforce-eager", "--max-num-seqs", "32"]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    # the key by its environment variable: arguments can be read by everyone on the machine
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": KEY}
    with open(log, "wb") as handle:
        process = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def engine(url: str, monkeypatch: pytest.MonkeyPatch) -> OpenAIEngine:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return OpenAIEngine(None, Server(url, silence_s=4800), concurrency=24)


def test_films(films: ItemRows, engine: OpenAIEngine, tmp_path: Path) -> None:
    folder = embedded_llm().path.name
    assert engine.identity == ModelIdentity("smollm2", f"vllm:{folder}")
    check_films(films, engine, tmp_path)


def test_begun_answers_go_on_from_their_prefix(films: ItemRows, engine: OpenAIEngine) -> None:
    prompts = load_prompts([prompts_folder() / "item" / "domain_agnostic" / "v1.j2"])
    with AnswerStore(None) as store:
        summary = profile(films, engine, store, prompts, limit=6)
        texts = [text for _, _, text in store.valid_profiles("ml-100k")]
    assert summary["valid"] + summary["invalid"] == 6
    assert summary["views"]["domain_agnostic"]["invalid_kinds"].get("failed", 0) == 0
    assert texts
    assert all(text.startswith("It serves the") for text in texts)


def test_a_prompt_that_is_too_long_is_refused_alone(engine: OpenAIEngine) -> None:
    requests = [Request((Message("user", text),)) for text in ("tea", "word " * 9_000, "a lamp")]
    answers = answers_of(engine, requests, Sampling(max_new_tokens=8))
    assert [answer.finish == "refused" for answer in answers] == [False, True, False]
    assert {answers[0].finish, answers[2].finish} <= {"stop", "length"}
    assert answers[0].tokens > 0


def test_a_wrong_key_ends_the_run(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from semacdr.errors import SemacdrError

    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(SemacdrError, match="does not accept the key"):
        OpenAIEngine(None, Server(url))
