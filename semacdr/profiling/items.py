"""Profiles of items: the plan, the batches, the retries.

The plan is made block by block of the catalogue in a fixed order, and what the store has already is left out. Batches
are cut from what remains of a block, in order; each group of answers that the engine yields is one transaction. Where
the groups are whole batches, after a kill exactly those that had not ended remain, cut as before, so that every answer
equals that of an unbroken run, although what else is in a batch changes an answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from semacdr.data.item_text import item_fields
from semacdr.data.schema import DOMAIN, ITEM_ID
from semacdr.files import fingerprint
from semacdr.profiling.engines.base import Answer, Engine, Request, Sampling, answer_key
from semacdr.profiling.kinds import FAILED, VALID
from semacdr.profiling.prompts import Forbidden, Kind, Prompt, Vocabulary
from semacdr.profiling.store import AnswerStore, Origin, ProfileRow
from semacdr.profiling.validate import PARSER_VERSION, Parse, parse, parse_key
from semacdr.progress import Progress

MISSING = "missing"  # a recorded engine has no answer


@dataclass(frozen=True)
class Planned:
    """One item's question in one view."""

    item_id: str
    request: Request
    forbidden: Forbidden
    source: str = ""  # hash of the text that is asked about


@dataclass
class ViewCounts:
    """What a run did in one view.

    Attributes:
        items: of the catalogue; ``no_text`` of them have nothing to ask about, ``planned`` have.
        distinct: different questions among the planned items.
        cached: items whose outcome needed no call.
        generated: answers that the engine gave; ``retried`` of them at a second or later attempt.
        valid: items with a valid profile; ``invalid`` failed at every attempt, ``missing`` are not in the record.
        prompt_tokens: of the generated answers, as ``tokens`` is.
        engine_seconds: of ``seconds``, what passed while the engine was at work.
    """

    items: int = 0
    no_text: int = 0
    planned: int = 0
    distinct: int = 0
    cached: int = 0
    generated: int = 0
    retried: int = 0
    valid: int = 0
    invalid: int = 0
    missing: int = 0
    invalid_kinds: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    engine_seconds: float = 0.0

    @property
    def valid_share(self) -> float:
        """Valid profiles among the planned items."""
        return self.valid / self.planned if self.planned else 0.0


def plan_items(
    rows: Sequence[dict[str, Any]], prompt: Prompt, vocabulary: Vocabulary, kind: str | None = None
) -> tuple[list[Planned], int]:
    """The questions of one view about some items, in their order, and how many have no text to ask about.

    Args:
        rows: of ``items.parquet``.
        prompt: the view's prompt.
        vocabulary: what the items of each domain are.
        kind: overrules the vocabulary's choice for all domains.
    """
    kinds: dict[str, Kind] = {}
    planned = []
    for row in rows:
        fields = item_fields(row)
        if fields:
            domain = row[DOMAIN]
            if domain not in kinds:
                kinds[domain] = vocabulary.kind(domain, kind)
            of = kinds[domain]
            asked = {"item": fields}
            request, forbidden = prompt.request(asked, of), prompt.forbidden(asked, of)
            planned.append(Planned(str(row[ITEM_ID]), request, forbidden, source_of(fields)))
    return planned, len(rows) - len(planned)


def source_of(fields: dict[str, str]) -> str:
    """A hash of an item's text: whether a profile was asked about what the item says now."""
    return fingerprint(fields)[:16]


def attempt_of(prompt: Prompt, request: Request, attempt: int, failure: str = "") -> tuple[Request, Sampling]:
    """The request and the sampling of one attempt.

    Args:
        prompt: the first attempt is decoded as it says, later ones are sampled.
        request: as it is first put.
        attempt: 0 for the first.
        failure: the kind of failure of the attempt before; a prompt may have a word to say about it.
    """
    if not attempt:
        return request, prompt.sampling
    repair = prompt.repair(failure)
    if repair:
        *before, last = request.messages
        request = replace(request, messages=(*before, replace(last, content=f"{last.content}\n\n{repair}")))
    return replace(request, attempt=attempt), prompt.retry_sampling


@dataclass(frozen=True)
class ItemProfiler:
    """Runs plans on an engine against a store.

    Attributes:
        engine: answers what the store does not have.
        store: keeps answers and parses.
        dataset: name under which the items' profiles are kept.
        attempts: how often an item is asked before its failure stands.
        retry_failed: ask again what an engine gave up on in an earlier run.
    """

    engine: Engine
    store: AnswerStore
    dataset: str
    attempts: int = 3
    retry_failed: bool = False

    def run(
        self, prompt: Prompt, planned: Sequence[Planned], counts: ViewCounts, progress: Progress | None = None
    ) -> None:
        """Brings every planned item to a valid profile, or to a failure with a named kind, and adds to the counts."""
        by_request: dict[Request, list[Planned]] = {}
        for item in planned:
            by_request.setdefault(item.request, []).append(item)
        counts.planned += len(planned)
        counts.distinct += len(by_request)
        called: set[Request] = set()
        outcome: dict[Request, str] = {}
        last: dict[Request, str] = {}
        pending = list(by_request)
        for attempt in range(self.attempts):
            asked = {r: attempt_of(prompt, r, attempt, outcome.get(r, "")) for r in pending}
            outcome.update(self._attempt(prompt, by_request, asked, attempt, counts, called, last, progress))
            pending = [request for request in pending if outcome[request] not in (VALID, MISSING)]
        failures: Counter[str] = Counter(counts.invalid_kinds)
        for request, items in by_request.items():
            kind = outcome[request]
            counts.valid += len(items) * (kind == VALID)
            counts.missing += len(items) * (kind == MISSING)
            counts.cached += len(items) * (request not in called and kind != MISSING)
            if kind not in (VALID, MISSING):
                failures[kind] += len(items)
        counts.invalid_kinds = dict(failures.most_common())
        counts.invalid = failures.total()

    def pending(self, prompt: Prompt, planned: Sequence[Planned]) -> list[Request]:
        """The distinct first questions that the store cannot answer: what a dry run counts."""
        keys = {answer_key(item.request, self.engine.identity, prompt.sampling): item.request for item in planned}
        kept = self._kept(sorted(keys))
        return [request for key, request in keys.items() if key not in kept]

    def _kept(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers that stand."""
        kept = self.store.answers(keys)
        return {key: a for key, a in kept.items() if a.finish != FAILED} if self.retry_failed else kept

    def _attempt(
        self,
        prompt: Prompt,
        by_request: dict[Request, list[Planned]],
        asked: dict[Request, tuple[Request, Sampling]],
        attempt: int,
        counts: ViewCounts,
        called: set[Request],
        last: dict[Request, str],
        progress: Progress | None,
    ) -> dict[Request, str]:
        """One attempt at the requests that are ``asked`` (as first put -> as put now); the kind of outcome of each."""
        identity = self.engine.identity
        keys = {request: answer_key(again, identity, sampling) for request, (again, sampling) in asked.items()}
        kept = self._kept(list(keys.values()))
        kinds: dict[Request, str] = {}
        known = [request for request in asked if keys[request] in kept]
        if attempt and known:  # a store of an older version does not say what these were retries of
            self.store.add_retries((keys[request], last[request]) for request in known)
        self._settle(prompt, by_request, {r: (keys[r], kept[keys[r]]) for r in known}, kinds)

        todo = [request for request in asked if keys[request] not in kept]
        todo.sort(key=lambda request: (-_length(request), keys[request]))
        if progress and attempt == 0:
            progress.skip(sum(len(by_request[request]) for request in known))
        origin = Origin(prompt.view, prompt.label, identity.model, identity.revision, self.engine.name, attempt)
        chunk = self.engine.chunk
        for start in range(0, len(todo), chunk):
            batch = todo[start : start + chunk]
            started = time.monotonic()
            for group in self.engine.generate([asked[request][0] for request in batch], asked[batch[0]][1]):
                counts.engine_seconds += time.monotonic() - started
                found = {batch[place]: answer for place, answer in group.items() if answer.finish != MISSING}
                given = {request: (keys[request], answer) for request, answer in found.items()}
                self.store.add_answers((key, origin, answer) for key, answer in given.values())
                if attempt:
                    self.store.add_retries((key, last[request]) for request, (key, _) in given.items())
                self._settle(prompt, by_request, given, kinds)
                self._count(counts, list(found.values()), attempt)
                called.update(given)
                if progress:
                    items = sum(len(by_request[batch[place]]) for place in group)
                    note = f"attempt {attempt + 1}, " if attempt else ""
                    progress.update(items if attempt == 0 else 0, f"{note}{counts.generated} answers")
                started = time.monotonic()
        last.update(keys)
        lost = [request for request in todo if request not in kinds]
        if attempt == 0:
            self._keep_missing(prompt, [item for request in lost for item in by_request[request]])
        kinds.update(dict.fromkeys(lost, MISSING))
        return kinds

    def _settle(
        self,
        prompt: Prompt,
        by_request: dict[Request, list[Planned]],
        answers: dict[Request, tuple[str, Answer]],
        kinds: dict[Request, str],
    ) -> None:
        """Parses answers, or finds their parses, and keeps what the items have now."""
        parse_keys = {request: parse_key(key, prompt) for request, (key, _) in answers.items()}
        kept = self.store.parses(list(parse_keys.values()))
        fresh: list[tuple[str, str, int, Parse]] = []
        rows: list[ProfileRow] = []
        for request, (key, answer) in answers.items():
            items = by_request[request]
            parsed = kept.get(parse_keys[request])
            if parsed is None or parsed.kind == FAILED:
                parsed = parse(answer, prompt, items[0].forbidden)
                fresh.append((parse_keys[request], key, PARSER_VERSION, parsed))
            kinds[request] = parsed.kind
            rows.extend(ProfileRow(item.item_id, parsed.kind, key, parse_keys[request], item.source) for item in items)
        self.store.add_parses(fresh)
        self._set_profiles(prompt, rows)

    def _keep_missing(self, prompt: Prompt, items: list[Planned]) -> None:
        self._set_profiles(prompt, [ProfileRow(item.item_id, MISSING, None, None, item.source) for item in items])

    def _set_profiles(self, prompt: Prompt, rows: list[ProfileRow]) -> None:
        identity = self.engine.identity
        self.store.set_profiles(self.dataset, prompt.view, prompt.label, identity.model, identity.revision, rows)

    @staticmethod
    def _count(counts: ViewCounts, answers: list[Answer], attempt: int) -> None:
        counts.generated += len(answers)
        counts.retried += len(answers) * (attempt > 0)
        counts.prompt_tokens += sum(answer.prompt_tokens for answer in answers)
        counts.tokens += sum(answer.tokens for answer in answers)


def _length(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)
