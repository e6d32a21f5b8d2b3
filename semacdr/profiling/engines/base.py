"""What an engine is: something that turns requests into answers, and says which model it does that with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from semacdr.files import fingerprint

Finish = Literal["stop", "length", "missing", "refused", "failed"]
"""``stop``: the model or a stop rule ended the answer; ``length``: cut at ``max_new_tokens``; ``missing``: not in the
record that is replayed; ``refused``: the prompt is longer than the model reads; ``failed``: the engine gave up on this
request alone, for the reason that stands in the answer's text."""


@dataclass(frozen=True)
class Message:
    """One turn of the conversation that is put to the model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How an answer is decoded.

    Attributes:
        max_new_tokens: the answer is cut here.
        temperature: 0 takes the likeliest token; above 0 samples, seeded from the answers' keys.
        top_p: samples from the likeliest tokens that make up this probability.
        repetition_penalty: divides the score of tokens that the prompt or the answer has; 1 is off.
        no_repeat_ngram: no run of this many tokens of prompt or answer occurs twice; 0 is off.
        stop: the answer ends before the first of these strings.
        max_sentences: the answer ends with this sentence; 0 is off.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    stop: tuple[str, ...] = ()
    max_sentences: int = 0


@dataclass(frozen=True)
class Request:
    """One question: the conversation, what the answer must start with, and the words that it must not hold.

    Attributes:
        messages: the turns, what many requests share first, so that engines can cache it.
        prefix: the start of the answer, written for the model; the engine's text goes on after it.
        banned: words (lower case) that are not decoded, whatever their case.
        attempt: 0 for the first try; it is part of the key, so that a retry is another answer.
        schema: JSON schema, as canonical JSON, that the answer is decoded by; empty for free text. A request has a
            prefix or a schema, not both.
    """

    messages: tuple[Message, ...]
    prefix: str = ""
    banned: tuple[str, ...] = ()
    attempt: int = 0
    schema: str = ""


def whole_characters(text: str) -> str:
    """A text that can be encoded: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class Answer:
    """What came back: the text after the prefix and before the stop, white space and all, why it ended, its cost."""

    text: str
    finish: Finish
    prompt_tokens: int = 0
    tokens: int = 0

    def __post_init__(self) -> None:
        # Half a surrogate pair, which a cut can leave, can be kept nowhere.
        object.__setattr__(self, "text", whole_characters(self.text))


@dataclass(frozen=True)
class ModelIdentity:
    """The model as an answer's key names it, and what else is worth keeping about it."""

    model: str
    revision: str
    details: dict[str, Any] = field(default_factory=dict, compare=False)


class Engine(Protocol):
    """Anything that generates.

    Attributes:
        name: for provenance; answers of different engines under one model share their keys.
        identity: the model.
        structured: whether answers can be decoded by a JSON schema.
        chunk: how many requests it is worth giving at once.
    """

    name: str
    identity: ModelIdentity
    structured: bool
    chunk: int

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Mapping[int, Answer]]:
        """Answers requests, in groups as they are finished: place in ``requests`` -> answer, each place once.

        What is yielded together is kept in one transaction. An engine whose answers depend on what else is in a batch
        yields whole batches, so that after a kill the batches that remain are cut as before. A bad request fails alone
        (``refused``, ``failed``); an engine that can do nothing more raises. An empty group says that it is at work.
        """
        ...


def answers_of(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
    """All answers, in the order of the requests."""
    found: dict[int, Answer] = {}
    for group in engine.generate(requests, sampling):
        found.update(group)
    return [found[place] for place in range(len(requests))]


def answer_key(request: Request, identity: ModelIdentity, sampling: Sampling) -> str:
    """Hex SHA-256 of everything that an answer depends on: rendered prompt, model, revision, sampling, attempt.

    The engine is not part of it, so that a recorded answer is found under the key of the engine that made it.
    """
    asked = asdict(request)
    if not request.schema:
        del asked["schema"]  # keys of requests without one are as old as the shipped records
    return fingerprint(
        {"request": asked, "model": identity.model, "revision": identity.revision, "sampling": asdict(sampling)}
    )
