"""What a run would cost: tokens counted or estimated, and time from the rate that earlier runs had."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from semacdr.local_models import ModelFolder
from semacdr.profiling.engines.base import Engine, Request
from semacdr.profiling.engines.chat import render
from semacdr.profiling.prompts import Prompt
from semacdr.profiling.store import AnswerStore, RunRecord

_CHARACTERS_PER_TOKEN = 4
_COUNTED = 256  # prompts of a block of the catalogue that are taken apart; more are counted from these
_RECENT = 20  # runs


class PlanCost:
    """Adds up, block by block, what is to be generated in one view.

    Prompt tokens are counted with the model's own tokenizer where the engine has the model at hand. Tokens of an answer
    and the share of retries are those of earlier runs with this prompt; without any, the most that an answer may take.
    """

    def __init__(self, engine: Engine, store: AnswerStore, prompt: Prompt) -> None:
        self.prompt, self.engine = prompt, engine
        identity = engine.identity
        self._runs = [
            run for run in store.runs()[-_RECENT:] if (run.model, run.revision) == (identity.model, identity.revision)
        ]
        self._count: Callable[[Sequence[Request]], int] | None = None
        self._requests = 0
        self._tokens = 0.0
        self._sampled = False

    def add(self, requests: Sequence[Request]) -> None:
        """Adds first attempts."""
        if not requests:
            return
        if self._count is None:
            self._count = token_counter(self.engine)
        # by chance and not every n-th: alike items stand at regular places of some catalogues
        some = requests if len(requests) <= _COUNTED else random.Random(0).sample(requests, _COUNTED)
        self._sampled |= len(some) < len(requests)
        self._requests += len(requests)
        self._tokens += (self._count or _estimate)(some) * len(requests) / len(some)

    def result(self) -> dict[str, Any]:
        """Prompt and answer tokens, seconds, and what each of them rests on; seconds are None without a rate."""
        mine = [run for run in self._runs if run.prompt == self.prompt.label]
        answers = sum(run.answers for run in mine)
        first = answers - sum(run.retried for run in mine)
        calls = self._requests * (answers / first if first else 1.0)
        each = sum(run.tokens for run in mine) / answers if answers else self.prompt.sampling.max_new_tokens
        prompt_tokens, tokens = self._tokens * calls / max(self._requests, 1), calls * each
        rate = _rate([run for run in mine if run.engine == self.engine.name])
        rate = rate or _rate([run for run in self._runs if run.engine == self.engine.name])
        how = "estimated from the number of characters" if self._count is None else "counted with the model's tokenizer"
        return {
            "calls": round(calls),
            "prompt_tokens": round(prompt_tokens),
            "prompt_tokens_from": how + (", from a sample" if self._sampled else ""),
            "tokens": round(tokens),
            "tokens_from": "earlier runs" if answers else "the most that an answer may take",
            "seconds": None if rate is None else round((prompt_tokens + tokens) / rate, 1),
            "seconds_from": "no run with this model and engine in this store yet"
            if rate is None
            else f"{rate:.4g} prompt and answer tokens a second in an earlier run",
        }


def total_cost(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums over views; seconds are None where one view has no rate to go by."""
    timed = [view["seconds"] for view in views if view["calls"]]
    summed = {name: sum(view[name] for view in views) for name in ("calls", "prompt_tokens", "tokens")}
    return {**summed, "seconds": None if None in timed else round(sum(timed), 1)}


def token_counter(engine: Engine) -> Callable[[Sequence[Request]], int] | None:
    """Counts the prompt tokens of requests with the model's tokenizer; ``None`` where the model is not at hand."""
    folder = _model_folder(engine)
    if folder is None:
        return None
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder.path), local_files_only=True)
    except (ImportError, OSError, ValueError):
        return None

    def count(requests: Sequence[Request]) -> int:
        texts = [render(tokenizer, request) for request in requests]
        return sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))

    return count


def _model_folder(engine: Any) -> ModelFolder | None:
    """The files of the model that an engine, or the one behind it, reads."""
    while engine is not None:
        folder = getattr(engine, "folder", None)
        if isinstance(folder, ModelFolder):
            return folder
        engine = getattr(engine, "engine", None)
    return None


def _estimate(requests: Sequence[Request]) -> int:
    return sum(sum(len(m.content) for m in request.messages) for request in requests) // _CHARACTERS_PER_TOKEN


def _rate(runs: Sequence[RunRecord]) -> float | None:
    """Tokens a second of the largest run: in a small one, loading the model is most of the time."""
    timed = [run for run in runs if run.seconds > 0]
    if not timed:
        return None
    largest = max(timed, key=lambda run: run.prompt_tokens + run.tokens)
    return (largest.prompt_tokens + largest.tokens) / largest.seconds or None
