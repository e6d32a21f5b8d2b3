"""Two sides of profiles on the same items: two prompt versions, two models, or two stores.

The catalogue is read block by block, and of each view only the items that differ most are kept, so that memory does not
grow with it.
"""

from __future__ import annotations

import difflib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semacdr.data.item_rows import ItemRows
from semacdr.data.item_text import item_fields
from semacdr.data.schema import ITEM_ID
from semacdr.errors import InputError, nearest
from semacdr.profiling.engines.base import ModelIdentity
from semacdr.profiling.items import plan_items
from semacdr.profiling.kinds import VALID
from semacdr.profiling.lookup import kept_attempts
from semacdr.profiling.prompts import Prompt, Vocabulary, shipped_prompt
from semacdr.profiling.store import AnswerStore

ABSENT = "absent"  # the side has no answer about this item


@dataclass(frozen=True)
class Outcome:
    """What one side says about an item: a valid text, or the kind of failure with what could be read."""

    kind: str
    text: str


@dataclass(frozen=True)
class Side:
    """One side: a name for the reader, the views it is about, and what it says of some items: (view, item id) -> that.

    It reads its store as it is asked, which is to be open as long.
    """

    name: str
    views: tuple[str, ...]
    of: Callable[[Sequence[dict[str, Any]]], Mapping[tuple[str, str], Outcome]]


@dataclass(frozen=True)
class Question:
    """What both sides are about: the items, and how prompts are made of them."""

    rows: ItemRows
    vocabulary: Vocabulary
    kind: str | None = None
    limit: int | None = None


def prompt_side(store: AnswerStore, prompts: Sequence[Prompt], identity: ModelIdentity, question: Question) -> Side:
    """What a store has under some prompts and one model, also where its items have newer profiles by now."""

    def outcomes(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Outcome]:
        found = {}
        for prompt in prompts:
            planned, _ = plan_items(rows, prompt, question.vocabulary, question.kind)
            for item_id, attempts in kept_attempts(store, prompt, planned, identity).items():
                if attempts:
                    last = attempts[-1].parse
                    found[prompt.view, item_id] = Outcome(last.kind, last.text)
        return found

    labels = ", ".join(prompt.label for prompt in prompts)
    views = tuple(prompt.view for prompt in prompts)
    return Side(f"{labels} by {identity.model} {identity.revision}", views, outcomes)


def store_side(store: AnswerStore, question: Question) -> Side:
    """What the items have now in a store, whatever it was made with."""
    views = tuple(store.views(question.rows.name))

    def outcomes(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], Outcome]:
        ids = [str(row[ITEM_ID]) for row in rows]
        kept = {view: store.profiles(question.rows.name, view, ids) for view in views}
        return {(view, item): Outcome(*said) for view, items in kept.items() for item, said in items.items()}

    return Side(str(store.path), views, outcomes)


def model_of(store: AnswerStore, name: str | None) -> ModelIdentity:
    """The model of a store's answers: the only one, or the one of that name (``NAME`` or ``NAME@REVISION``).

    Raises:
        InputError: no such model, or several and none named.
    """
    known = {f"{model}@{revision}": ModelIdentity(model, revision) for model, revision in store.models()}
    chosen = [label for label in known if name in (None, label, known[label].model)]
    if len(chosen) == 1:
        return known[chosen[0]]
    what = f"answers of {len(chosen) or 'no'} models" + ("" if name is None else f" called {name!r}")
    raise InputError(what, where=str(store.path), fix=nearest(name or "", known))


def kept_prompts(store: AnswerStore, identity: ModelIdentity) -> list[Prompt]:
    """The newest prompt about items of each view, among those that ship and that a model has answered to."""
    counted = [row for row in store.answer_counts() if ModelIdentity(row["model"], row["revision"]) == identity]
    known = [prompt for row in counted if (prompt := shipped_prompt(row["prompt"])) and prompt.front.given == ("item",)]
    newest = {prompt.view: prompt for prompt in sorted(known, key=lambda prompt: (len(prompt.label), prompt.label))}
    if not newest:
        raise InputError(
            f"{identity.model} has answered to none of the prompts that ship",
            fix="--prompts PATH: those it answered to",
        )
    return list(newest.values())


def compare(a: Side, b: Side, rows: ItemRows, most: int, limit: int | None = None) -> dict[str, Any]:
    """Counts by view over all items, and the ``most`` items that differ most, those first.

    Raises:
        InputError: the sides have no view in common.
    """
    tallies = {view: _Tally(most) for view in sorted({*a.views, *b.views}, reverse=True)}
    none = Outcome(ABSENT, "")
    for block in rows.blocks(limit):
        of_a, of_b = a.of(block), b.of(block)
        for row in block:
            item_id = str(row[ITEM_ID])
            for view, tally in tallies.items():
                left, right = of_a.get((view, item_id), none), of_b.get((view, item_id), none)
                if (left, right) != (none, none):
                    tally.add(_entry(item_id, item_fields(row).get("title", ""), left, right))
    common = {view: tally for view, tally in tallies.items() if tally.said("a") and tally.said("b")}
    if not common:
        have = [", ".join(view for view, t in tallies.items() if t.said(side)) or "nothing" for side in ("a", "b")]
        raise InputError(f"no view in common: {a.name} has {have[0]}, {b.name} has {have[1]}")
    return {
        "a": a.name,
        "b": b.name,
        "dataset": rows.name,
        "counts": {view: tally.counts() for view, tally in common.items()},
        "items": {view: tally.told() for view, tally in common.items()},
    }


class _Tally:
    """The counts of one view, and its items that differ most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._told: list[tuple[float, int, dict[str, Any]]] = []  # a heap, the most alike and latest on top
        self._items = self._equal = self._both_valid = 0
        self._likeness = 0.0
        self._kinds: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
        self._words = {"a": 0, "b": 0}

    def add(self, entry: dict[str, Any]) -> None:
        """Counts an item."""
        likeness = entry["likeness"]
        self._items += 1
        self._equal += likeness == 1
        if entry["a"]["kind"] == entry["b"]["kind"] == VALID:
            self._both_valid += 1
            self._likeness += likeness
        for side in ("a", "b"):
            kind = entry[side]["kind"]
            self._kinds[side][kind] += 1
            self._words[side] += len(entry[side]["text"].split()) if kind == VALID else 0
        heapq.heappush(self._told, (-likeness, -self._items, entry))
        if len(self._told) > self.most:
            heapq.heappop(self._told)

    def said(self, side: str) -> bool:
        """Whether a side says anything about any item."""
        return any(kind != ABSENT for kind in self._kinds[side])

    def told(self) -> list[dict[str, Any]]:
        """The items that differ most, in the catalogue's order where they differ as much."""
        return [entry for *_, entry in sorted(self._told, key=lambda told: (-told[0], -told[1]))]

    def counts(self) -> dict[str, Any]:
        """The counts over all items."""
        counts: dict[str, Any] = {
            "items": self._items,
            "equal": self._equal,
            "both_valid": self._both_valid,
            "likeness": round(self._likeness / self._both_valid, 3) if self._both_valid else None,
        }
        for side, kinds in self._kinds.items():
            valid = kinds[VALID]
            words = round(self._words[side] / valid, 1) if valid else None
            counts[side] = {"kinds": {kind: n for kind, n in kinds.most_common() if n}, "words": words}
        return counts


def _entry(item_id: str, title: str, a: Outcome, b: Outcome) -> dict[str, Any]:
    words = difflib.SequenceMatcher(None, a.text.split(), b.text.split(), autojunk=False)
    likeness = 1.0 if a == b else 0.0 if ABSENT in (a.kind, b.kind) else min(words.ratio(), 0.999)
    return {
        "item_id": item_id,
        "title": title,
        "likeness": round(likeness, 3),
        "a": {"kind": a.kind, "text": a.text},
        "b": {"kind": b.kind, "text": b.text},
    }
