"""The ``openai`` engine: any server that speaks OpenAI's chat completions, several requests under way at once.

A structured prompt asks for ``response_format`` ``json_schema``. A begun answer (``prefix``) is the last message, with
the role of the assistant: a vLLM server goes on from it as the other engines do; what other servers make of it is up to
them, and where they repeat it, it is taken off. Only a vLLM server is sent what OpenAI's interface does not have:
repetition penalty, and banned words (as many as it takes; validation finds the others). ``no_repeat_ngram`` is not
applied.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from semacdr.errors import InputError, SemacdrError, nearest
from semacdr.profiling.engines.base import Answer, Message, ModelIdentity, Request, Sampling, answer_key
from semacdr.profiling.engines.chat import ended_answer, rules_for
from semacdr.profiling.engines.server import GaveUpError, RequestRefusedError, Server
from semacdr.profiling.words import spellings

CHUNK = 4096
_BANNED_SENT = 64  # a vLLM server takes 128 token sequences, and each spelling may be two
_GIVEN_UP_IN_A_ROW = 32  # requests that may fail with none answered in between, before it is the server's fault
_TOO_LONG = ("maximum context length", "context_length_exceeded", "max_model_len", "maximum model length")


class OpenAIEngine:
    """Asks a server for chat completions.

    Args:
        model: what the server calls the model; needed where it serves several.
        server: where it is.
        concurrency: requests that are under way at once.

    Raises:
        InputError: the server has no such model.
        SemacdrError: the server cannot be reached, or does not accept the key.
    """

    name = "openai"
    structured = True
    chunk = CHUNK

    def __init__(self, model: str | None, server: Server, concurrency: int = 16) -> None:
        self.server = server
        self.concurrency = concurrency
        self.vllm = False
        self.identity = self._identity(model)

    def _identity(self, model: str | None) -> ModelIdentity:
        """The model's name, and as revision who serves it from what, so far as the server says."""
        try:
            listed = {str(entry["id"]): entry for entry in self.server.get("/models")["data"]}
        except GaveUpError as error:
            raise SemacdrError(f"the server cannot be reached ({error})", where=self.server.url) from None
        except (RequestRefusedError, KeyError, TypeError):  # a server that lists nothing may still answer
            listed = {}
        if model is None:
            if len(listed) != 1:
                raise InputError(f"the server lists {len(listed)} models", where=self.server.url, fix="--model NAME")
            model = next(iter(listed))
        if listed and model not in listed:
            raise InputError(f"the server has no model {model!r}", where=self.server.url, fix=nearest(model, listed))
        entry = listed.get(model, {})
        owner, root = str(entry.get("owned_by") or ""), str(entry.get("root") or "")
        self.vllm = owner == "vllm"
        # A root may be a path on the server's disk: its last part is enough to tell one model from another.
        return ModelIdentity(model, ":".join(filter(None, (owner, PurePath(root).name))) or "unknown")

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        """Answers as they come in; a request that the server refuses fails alone.

        Raises:
            SemacdrError: the server does not accept the key, has no such model, or cannot be reached any more.
        """
        todo = iter(enumerate(requests))
        lock, gone = threading.Lock(), threading.Event()
        finished: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()
        answered = given_up = 0

        def outcome_of(request: Request, before: int) -> Answer | Exception:
            nonlocal answered, given_up
            try:
                answer = self._ask(request, sampling, gone)
            except GaveUpError as error:
                with lock:
                    given_up += 1
                # It is this request's fault if others were answered meanwhile and the server is still there, or if one
                # like it is answered now; but the server's if that happens to many in a row.
                if answered > before:
                    blamed = self.server.answers("/models", None)
                else:
                    blamed = given_up <= _GIVEN_UP_IN_A_ROW and self._answers_one_like(request, sampling)
                return Answer(str(error), "failed") if blamed else self._lost(error)
            with lock:
                answered, given_up = answered + 1, 0
            return answer

        def work() -> None:
            while not gone.is_set():
                with lock:
                    place, request = next(todo, (-1, None))
                    before = answered
                if request is None:
                    return
                try:
                    outcome = outcome_of(request, before)
                except Exception as error:
                    outcome = error
                if isinstance(outcome, Exception):  # it ends the run: nothing more is asked from here on
                    gone.set()
                finished.put((place, outcome))

        # Daemons: a command that is interrupted does not wait for answers that are still under way.
        for number in range(min(self.concurrency, len(requests))):
            threading.Thread(target=work, name=f"request-{number}", daemon=True).start()
        left = len(requests)
        try:
            while left:
                group = [finished.get()]
                while not finished.empty():
                    group.append(finished.get())
                left -= len(group)
                good = {place: answer for place, answer in group if isinstance(answer, Answer)}
                if good:
                    yield good
                for _, answer in group:
                    if isinstance(answer, Exception):
                        raise answer
        finally:
            gone.set()

    def _answers_one_like(self, request: Request, sampling: Sampling) -> bool:
        """Whether the server answers a small request that asks for the same form."""
        small = replace(request, messages=(Message("user", "Say yes."),))
        return self.server.answers("/chat/completions", self._body(small, replace(sampling, max_new_tokens=1)))

    def _ask(self, request: Request, sampling: Sampling, gone: threading.Event) -> Answer:
        try:
            said = self.server.ask("/chat/completions", self._body(request, sampling), gone)
        except RequestRefusedError as error:
            if error.status == 404:
                raise SemacdrError(f"the server has nothing at this address ({error})", where=self.server.url) from None
            too_long = any(mark in str(error) for mark in _TOO_LONG)
            return Answer(str(error), "refused" if too_long else "failed")
        try:
            choice, usage = said["choices"][0], said.get("usage") or {}
            text, why = choice["message"].get("content") or "", choice.get("finish_reason")
            text = text.removeprefix(request.prefix)
            cost = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (LookupError, TypeError, AttributeError, ValueError):
            return Answer("the server's answer is not a chat completion", "failed")
        if why not in ("stop", "length"):
            return Answer(f"the server ended the answer ({why})", "failed", *cost)
        return ended_answer(text, why == "stop", rules_for(request, sampling), *cost)

    def _body(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        rules = rules_for(request, sampling)
        turns = [{"role": message.role, "content": message.content} for message in request.messages]
        if request.prefix:
            turns.append({"role": "assistant", "content": request.prefix})
        body: dict[str, Any] = {
            "model": self.identity.model,
            "messages": turns,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            body["top_p"] = sampling.top_p
            body["seed"] = int(answer_key(request, self.identity, sampling)[:12], 16)
        if rules.stop:
            body["stop"] = list(rules.stop)
        if request.schema:
            schema = json.loads(request.schema)
            # What OpenAI calls strict wants every object closed.
            named = {"name": "answer", "schema": schema, "strict": schema.get("additionalProperties") is False}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if self.vllm:
            body["repetition_penalty"] = sampling.repetition_penalty
            body["bad_words"] = _first_spellings(request.banned)
            if request.prefix:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def _lost(self, error: GaveUpError) -> SemacdrError:
        return SemacdrError(
            f"the server does not answer any more ({error})",
            where=self.server.url,
            fix="what was finished is kept: the same command goes on from there; --stall-s gives it more time",
        )


def _first_spellings(banned: Sequence[str]) -> list[str]:
    """The likeliest spellings of all words before the less likely ones of any."""
    spelled = [spellings(word) for word in banned]
    rounds = itertools.zip_longest(*spelled)
    return [text for one in rounds for text in one if text is not None][:_BANNED_SENT]
