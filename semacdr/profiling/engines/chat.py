"""How a request becomes the text that a model in this process reads, and how its answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from semacdr.local_models import EMBEDDED, ModelFolder, embedded_llm, named_model
from semacdr.profiling.engines.base import Answer, ModelIdentity, Request, Sampling
from semacdr.profiling.engines.sentences import find_end


def find_model(model: str) -> tuple[ModelFolder, ModelIdentity]:
    """The embedded model, a local folder or a hub name, and how answers' keys name it."""
    folder = embedded_llm() if model == EMBEDDED else named_model(model)
    # A folder of the user's has no version: its weights are its revision.
    revision = folder.revision if folder.revision != "local" else folder.weights_sha256[:16]
    return folder, ModelIdentity(folder.name, revision)


def render(tokenizer: Any, request: Request) -> str:
    """The conversation in the model's own chat template, up to and with the start of the answer."""
    if tokenizer.chat_template is None:
        lines = [f"{message.role}: {message.content}" for message in request.messages]
        return "\n".join([*lines, f"assistant: {request.prefix}"])
    turns = [{"role": message.role, "content": message.content} for message in request.messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)) + request.prefix


def spelled_tokens(tokenizer: Any, spelled: Sequence[str]) -> list[list[int]]:
    """The token sequences of spellings of banned words, behind a space and without one."""
    texts = [lead + text for text in spelled for lead in ("", " ")]
    return [tokens for tokens in tokenizer(texts, add_special_tokens=False)["input_ids"] if tokens]


def rules_for(request: Request, sampling: Sampling) -> Sampling:
    """The sampling as it holds for a request: what is decoded by a schema is ended by the schema alone."""
    return replace(sampling, stop=(), max_sentences=0) if request.schema else sampling


def ended_answer(text: str, stopped: bool, rules: Sampling, prompt_tokens: int, tokens: int) -> Answer:
    """The answer up to where its rules end it; ``stopped`` says that the model ended it itself."""
    end = find_end(text, rules.stop, rules.max_sentences)
    return Answer(text[:end], "stop" if stopped or end is not None else "length", prompt_tokens, tokens)
