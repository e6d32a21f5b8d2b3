"""The openai engine against a server that misbehaves as told."""

from __future__ import annotations

import email.message
import io
import json
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semacdr.cli import main
from semacdr.errors import InputError, SemacdrError
from semacdr.files import canonical_json
from semacdr.profiling.engines.base import Answer, Message, ModelIdentity, Request, Sampling, answers_of
from semacdr.profiling.engines.openai import OpenAIEngine
from semacdr.profiling.engines.server import RETRIES, GaveUpError, Server, _read, _retry_after
from semacdr.profiling.store import AnswerStore
from tests.profiling.fake_server import FakeServer, Reply, completion, problem
from tests.profiling.small import write_dataset

KEY = "sk-secret-of-the-test"
SCHEMA = {"type": "object", "required": ["description"], "properties": {"description": {"type": "string"}}}


def ask(text: str, **changes: Any) -> Request:
    return Request((Message("system", "s"), Message("user", text)), **changes)


def engine_of(fake: FakeServer, model: str | None = None, concurrency: int = 4, silence_s: float = 60) -> OpenAIEngine:
    return OpenAIEngine(model, Server(fake.url, silence_s, first_pause_s=0.001), concurrency)


def always(reply: Reply) -> FakeServer:
    return FakeServer(lambda body, number: reply)


def test_identity_is_what_the_server_says_without_its_paths() -> None:
    with always(completion("x")) as fake:
        assert engine_of(fake).identity == ModelIdentity("m", "vllm:m-folder")
        with pytest.raises(InputError, match="no model 'mm'") as caught:
            engine_of(fake, "mm")
        assert "did you mean 'm'" in str(caught.value)
    with FakeServer(lambda body, number: completion("x"), [{"id": "a"}, {"id": "b"}]) as fake:
        assert engine_of(fake, "b").identity == ModelIdentity("b", "unknown")
        with pytest.raises(InputError, match="lists 2 models"):
            engine_of(fake)


def test_what_is_sent_to_a_vllm_server_and_to_others() -> None:
    plain, begun = ask("tea", schema=canonical_json(SCHEMA)), ask("tea", prefix='{"d": "', banned=("cup", "lady"))
    sampling = Sampling(9, 0.7, 0.9, repetition_penalty=1.1, stop=('"',), max_sentences=1)
    with always(completion('{"description": "a"}')) as fake:
        answers_of(engine_of(fake), [plain, begun], sampling)
        first, second = (body for body, _ in sorted(fake.asked, key=lambda pair: "response_format" not in pair[0]))
    assert first["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "stop" not in first  # the schema ends it
    assert [turn["role"] for turn in second["messages"]] == ["system", "user", "assistant"]
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert second["bad_words"][:4] == ["cup", "ladies", "cups", "lady"]
    assert (second["repetition_penalty"], second["stop"], second["max_tokens"]) == (1.1, ['"'], 9)
    assert first["seed"] != second["seed"]
    with FakeServer(lambda body, number: completion('{"d": "a'), [{"id": "m", "owned_by": "other"}]) as fake:
        answers = answers_of(engine_of(fake), [begun], sampling)
        assert {"bad_words", "repetition_penalty", "continue_final_message"}.isdisjoint(fake.asked[0][0])
    assert answers == [Answer("a", "stop", 11, 7)]  # a server that repeats the beginning is not believed


def test_an_answer_ends_by_the_rules_of_every_engine() -> None:
    with always(completion("One. Two. Thr", "length")) as fake:
        assert answers_of(engine_of(fake), [ask("a")], Sampling(max_sentences=2)) == [
            Answer("One. Two.", "stop", 11, 7)
        ]
        assert answers_of(engine_of(fake), [ask("a")], Sampling())[0].finish == "length"


@pytest.mark.parametrize("failure", [problem(429), problem(500), problem(503), (0, None, {}), (200, "half", {})])
def test_what_passes_is_tried_again(failure: Reply) -> None:
    expected = "failed" if failure[0] == 200 else "stop"
    with FakeServer(lambda body, number: failure if number < 3 else completion("fine")) as fake:
        answers = answers_of(engine_of(fake), [ask("a")], Sampling())
    assert [answer.finish for answer in answers] == [expected]
    assert len(fake.asked) == (1 if failure[0] == 200 else 3)


def test_retry_after_is_waited_for() -> None:
    with FakeServer(lambda body, number: problem(429, Retry_After="1") if number == 1 else completion("fine")) as fake:
        started = time.monotonic()
        answers_of(engine_of(fake), [ask("a")], Sampling())
    assert time.monotonic() - started >= 1
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert (_retry_after("2.5"), _retry_after("soon"), _retry_after("nan"), _retry_after("-1")) == (2.5, None, None, 0)


class Clock:
    """Time that passes only where somebody waits, for a server that answers nothing, or asks for a long wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str, silence_s: float) -> None:
        self.now, self.tries = 0.0, 0
        monkeypatch.setattr("semacdr.profiling.engines.server.time.monotonic", lambda: self.now)
        self.server = Server(url, silence_s)

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds

    def is_set(self) -> bool:
        return False


def times_out(clock: Clock, try_s: float) -> None:
    clock.now += try_s
    raise TimeoutError("timed out")


def wants_300_s(clock: Clock, try_s: float) -> None:
    headers = email.message.Message()
    headers["Retry-After"] = "300"
    raise urllib.error.HTTPError("", 429, "busy", headers, io.BytesIO(b"busy"))


@pytest.mark.parametrize("silence_s", [1, 7, 600, 3600])
@pytest.mark.parametrize(("trouble", "tries"), [(times_out, 2), (wants_300_s, 2)])
def test_a_request_comes_to_something_before_its_silence_is_taken_for_a_hang(
    monkeypatch: pytest.MonkeyPatch, silence_s: float, trouble: Callable[[Clock, float], None], tries: int
) -> None:
    clock = Clock(monkeypatch, "http://h/v1", silence_s)

    def once(path: str, content: bytes, try_s: float) -> None:
        clock.tries += 1
        trouble(clock, try_s)

    clock.server._once = once  # type: ignore[method-assign, assignment]
    with pytest.raises(GaveUpError):
        clock.server.ask("/x", {}, clock)  # type: ignore[arg-type]
    assert clock.tries == tries if silence_s < 3600 else clock.tries >= tries
    assert not clock.server.answers("/x", {})
    assert clock.now <= 7 / 8 * silence_s


def test_a_request_that_always_times_out_is_recorded_as_failed_also_as_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, once = write_dataset(tmp_path / "data"), Server._once
    asked: list[bytes] = []

    def slow(self: Server, path: str, content: bytes | None, try_s: float) -> Any:
        if b"Harbour" in (content or b"") and b"Say yes" not in (content or b""):
            asked.append(content or b"")
            raise TimeoutError("timed out")
        return once(self, path, content, try_s)

    monkeypatch.setattr(Server, "_once", slow)
    monkeypatch.setattr("semacdr.profiling.engines.server.FIRST_PAUSE_S", 0.001)
    store = ["--store", str(tmp_path / "s.sqlite"), "--prompts", "prompts/item/domain_specific/v1.j2"]
    with always(completion(" calm thing for people who have time in the evening.")) as fake:
        command = ["profile", "items", "--dataset", str(dataset.path), "--engine", "openai", "--base-url", fake.url]
        command += [*store, "--attempts", "1", "--json"]
        for more in ([], ["--limit", "1", "--retry-failed"]):
            asked.clear()
            assert main([*command, *more]) == 0
            kinds = json.loads(capsys.readouterr().out)["views"]["domain_specific"]["invalid_kinds"]
            assert (kinds, len(asked) > 1) == ({"failed": 1}, True)
    with AnswerStore(tmp_path / "s.sqlite") as kept:
        assert [a.text for _, a in kept.all_answers() if a.finish == "failed"] == ["TimeoutError: timed out"]


def test_an_answer_that_trickles_without_end_is_not_waited_for() -> None:
    class Drops:
        def read1(self, most: int) -> bytes:
            time.sleep(0.02)
            return b" "

    with pytest.raises(TimeoutError, match="has not ended"):
        _read(Drops(), time.monotonic() + 0.1)


def test_a_request_that_is_refused_fails_alone_and_says_why() -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][-1]["content"]
        long = "This model's maximum context length is 10 tokens"
        return {"bad": problem(400, f"bad word {KEY}"), "long": problem(400, long)}.get(text, completion(text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        with FakeServer(reply) as fake:
            answers = answers_of(engine_of(fake), [ask(text) for text in ("a", "bad", "b", "long", "c")], Sampling())
    assert [answer.finish for answer in answers] == ["stop", "failed", "stop", "refused", "stop"]
    assert answers[1].text == "HTTP 400: bad word ***"
    assert [answers[place].text for place in (0, 2, 4)] == ["a", "b", "c"]
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers in fake.asked)


def test_a_request_that_breaks_the_server_fails_alone_where_others_are_answered() -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.01)
        return problem(500, "boom") if body["messages"][-1]["content"] == "bad" else completion("x")

    with FakeServer(reply) as fake:
        answers = answers_of(
            engine_of(fake, concurrency=2), [ask("bad"), *(ask(f"{n}") for n in range(30))], Sampling()
        )
    assert [answer.finish for answer in answers] == ["failed", *["stop"] * 30]
    assert answers[0].text == "HTTP 500: boom"


def test_a_server_that_is_down_ends_the_run_and_keeps_what_was_answered() -> None:
    with FakeServer(lambda body, number: completion("x") if number <= 5 else problem(503, "starting")) as fake:
        engine = engine_of(fake, concurrency=1)
        kept: dict[int, Answer] = {}

        def run() -> None:
            for group in engine.generate([ask(f"{n}") for n in range(9)], Sampling()):
                kept.update(group)

        with pytest.raises(SemacdrError, match=r"does not answer any more \(HTTP 503: starting\)"):
            run()
    assert sorted(kept) == [0, 1, 2, 3, 4]
    assert len(fake.asked) == 5 + 1 + RETRIES + 1  # the last one asks whether it answers anything


def test_many_requests_given_up_in_a_row_are_the_servers_fault_however_it_answers_small_ones() -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        return completion("yes") if body["max_tokens"] == 1 else problem(500, "boom")

    with FakeServer(reply) as fake:
        groups = engine_of(fake, concurrency=1).generate([ask(f"{n}") for n in range(50)], Sampling())
        with pytest.raises(SemacdrError, match="does not answer any more"):
            list(groups)
    assert len(fake.asked) == 32 * (1 + RETRIES + 1) + 1 + RETRIES


def test_a_key_that_is_refused_while_the_server_is_looked_at_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def reply(body: dict[str, Any], number: int) -> Reply:
        return problem(401, "expired") if body["max_tokens"] == 1 else problem(500, "boom")

    with FakeServer(reply) as fake, pytest.raises(SemacdrError, match="does not accept the key"):
        answers_of(engine_of(fake, concurrency=1), [ask("a")], Sampling())


def test_as_many_requests_are_under_way_as_allowed() -> None:
    together = threading.Barrier(3, timeout=30)

    def reply(body: dict[str, Any], number: int) -> Reply:
        together.wait()
        return completion("x")

    with FakeServer(reply) as fake:
        answers = answers_of(engine_of(fake, concurrency=3, silence_s=60), [ask(f"{n}") for n in range(21)], Sampling())
    assert fake.most_at_once == 3
    assert {answer.finish for answer in answers} == {"stop"}


def test_a_refused_key_ends_the_run_at_once_and_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with always(problem(401, f"wrong key {KEY}")) as fake:
        with pytest.raises(SemacdrError, match="OPENAI_API_KEY") as caught:
            answers_of(engine_of(fake, concurrency=1), [ask(f"{n}") for n in range(9)], Sampling())
        assert len(fake.asked) == 1
    assert KEY not in str(caught.value)
    assert caught.value.exit_code == 1


def test_the_key_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with always(completion("x")) as other:
        with always((302, {}, {"Location": f"{other.url}/chat/completions"})) as fake:
            answers = answers_of(engine_of(fake), [ask("a")], Sampling())
        assert [answer.finish for answer in answers] == ["failed"]
        assert other.asked == []


@pytest.mark.parametrize(
    "url", ["http://me:word@host/v1", "http://host/v1?key=word", "host:80/word", "http://h:word/v1"]
)
def test_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Server(url)
    assert "host:80" in url or "word" not in str(caught.value)


def test_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InputError, match="needs a server"):
        Server(None)


def test_command_profiles_through_a_server_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "data")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    good = " calm thing for people who have time in the evening."

    def reply(body: dict[str, Any], number: int) -> Reply:
        bad = "Paper Foxes" in body["messages"][-2]["content"]
        return problem(400, f"not you, {KEY}") if bad else completion(good)

    prompts = [str(path) for path in sorted(Path("prompts/item").glob("domain_*/v1.j2"))]
    with FakeServer(reply) as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        command = ["profile", "items", "--dataset", str(dataset.path), "--engine", "openai", "--json"]
        command += ["--store", str(tmp_path / "s.sqlite"), "--prompts", *prompts]
        assert main(command) == 0
        out, err = capfd.readouterr()
        summary = json.loads(out)
        assert (summary["planned"], summary["valid"], summary["invalid"]) == (22, 20, 2)
        assert (summary["model"], summary["revision"]) == ("m", "vllm:m-folder")
        asked = len(fake.asked)
        assert main(command) == 0
        assert len(fake.asked) == asked
    with AnswerStore(tmp_path / "s.sqlite") as store:
        failed = [answer.text for _, answer in store.all_answers() if answer.finish == "failed"]
    assert set(failed) == {"HTTP 400: not you, ***"}
    assert KEY not in out + err
    for file in tmp_path.glob("s.sqlite*"):
        assert KEY.encode() not in file.read_bytes()


def test_a_key_is_sent_without_its_line_end_and_hidden_before_a_message_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    with always(problem(400, "x" * (200 - len(KEY) // 2) + KEY)) as fake:
        answer = answers_of(engine_of(fake), [ask("tea")], Sampling())[0]
    assert answer.finish == "failed"
    assert KEY[:6] not in answer.text
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\x01-broken")
    with pytest.raises(InputError, match="holds characters") as caught:
        engine_of(fake)
    assert "broken" not in str(caught.value)
