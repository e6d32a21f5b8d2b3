"""Two sides of profiles on the same items: two prompt versions, two models, or two stores."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
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
    """One side: a name for the reader, and (view, item id) -> what it says."""

    name: str
    outcomes: dict[tuple[str, str], Outcome]


@dataclass(frozen=True)
class Question:
    """What both sides are about: the items, and how prompts are made of them."""

    rows: ItemRows
    vocabulary: Vocabulary
    kind: str | None = None
    limit: int | None = None


def prompt_side(store: AnswerStore, prompts: Sequence[Prompt], identity: ModelIdentity, question: Question) -> Side:
    """What a store has under some prompts and one model, also where its items have newer profiles by now."""
    outcomes = {}
    for prompt in prompts:
        for block in question.rows.blocks(question.limit):
            planned, _ = plan_items(block, prompt, question.vocabulary, question.kind)
            for item_id, attempts in kept_attempts(store, prompt, planned, identity).items():
                if attempts:
                    last = attempts[-1].parse
                    outcomes[prompt.view, item_id] = Outcome(last.kind, last.text)
    labels = ", ".join(prompt.label for prompt in prompts)
    return Side(f"{labels} by {identity.model} {identity.revision}", outcomes)


def store_side(store: AnswerStore, question: Question) -> Side:
    """What the items have now in a store, whatever it was made with."""
    kept = store.profiles(question.rows.name)
    return Side(str(store.path), {(view, item): Outcome(kind, text or "") for view, item, kind, text in kept})


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


def compare(a: Side, b: Side, rows: ItemRows, limit: int | None = None) -> dict[str, Any]:
    """Counts by view and one row an item, those that differ most first.

    Raises:
        InputError: the sides have no view in common.
    """
    views = sorted({view for view, _ in a.outcomes} & {view for view, _ in b.outcomes}, reverse=True)
    if not views:
        have = [", ".join(sorted({view for view, _ in side.outcomes})) or "nothing" for side in (a, b)]
        raise InputError(f"no view in common: {a.name} has {have[0]}, {b.name} has {have[1]}")
    none = Outcome(ABSENT, "")
    entries: dict[str, list[dict[str, Any]]] = {view: [] for view in views}
    for block in rows.blocks(limit):
        for row in block:
            item_id = str(row[ITEM_ID])
            for view in views:
                left, right = a.outcomes.get((view, item_id), none), b.outcomes.get((view, item_id), none)
                if (left, right) != (none, none):
                    title = item_fields(row).get("title", "")
                    entries[view].append(_entry(item_id, title, left, right))
    for listed in entries.values():
        listed.sort(key=lambda entry: entry["likeness"])
    counts = {view: _counts(listed) for view, listed in entries.items()}
    return {"a": a.name, "b": b.name, "dataset": rows.name, "counts": counts, "items": entries}


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


def _counts(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    both = [entry for entry in entries if entry["a"]["kind"] == entry["b"]["kind"] == VALID]
    counts: dict[str, Any] = {
        "items": len(entries),
        "equal": sum(entry["likeness"] == 1 for entry in entries),
        "both_valid": len(both),
        "likeness": round(sum(entry["likeness"] for entry in both) / len(both), 3) if both else None,
    }
    for side in ("a", "b"):
        texts = [entry[side]["text"].split() for entry in entries if entry[side]["kind"] == VALID]
        counts[side] = {
            "kinds": dict(Counter(entry[side]["kind"] for entry in entries).most_common()),
            "words": round(sum(map(len, texts)) / len(texts), 1) if texts else None,
        }
    return counts
