"""What a store has on planned questions, without an engine: every attempt, from the first to the one that stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semacdr.profiling.engines.base import Answer, ModelIdentity, Request, Sampling, answer_key
from semacdr.profiling.items import Planned, attempt_of
from semacdr.profiling.prompts import Prompt
from semacdr.profiling.store import AnswerStore
from semacdr.profiling.validate import Parse, parse

_MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class Attempt:
    """One answer that is kept: what was asked, what came back, what was read out of it."""

    number: int
    request: Request
    sampling: Sampling
    key: str
    answer: Answer
    parse: Parse


def kept_attempts(
    store: AnswerStore, prompt: Prompt, planned: Sequence[Planned], identity: ModelIdentity
) -> dict[str, list[Attempt]]:
    """Item id -> its attempts in order, as far as the store has them: the last is valid, or the last that was made."""
    found: dict[str, list[Attempt]] = {item.item_id: [] for item in planned}
    pending = list(planned)
    for number in range(_MOST_ATTEMPTS):
        asked = {
            item.item_id: attempt_of(
                prompt, item.request, number, found[item.item_id][-1].parse.kind if found[item.item_id] else ""
            )
            for item in pending
        }
        keys = {item_id: answer_key(request, identity, sampling) for item_id, (request, sampling) in asked.items()}
        kept = store.answers(sorted(set(keys.values())))
        pending = [item for item in pending if keys[item.item_id] in kept]
        for item in pending:
            key = keys[item.item_id]
            parsed = parse(kept[key], prompt, item.forbidden)
            found[item.item_id].append(Attempt(number, *asked[item.item_id], key, kept[key], parsed))
        pending = [item for item in pending if not found[item.item_id][-1].parse.ok]
        if not pending:
            break
    return found
