"""What a store holds, counted: profiles by view and model with every kind of failure, answers by attempt, runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from semacdr.profiling.kinds import KINDS, VALID
from semacdr.profiling.store import AnswerStore
from semacdr.profiling.validate import PARSER_VERSION

_VIEW = ("dataset", "view", "prompt", "model", "revision")


def store_status(store: AnswerStore) -> dict[str, Any]:
    """The counts.

    Returns:
        ``profiles``: items by data set, view, prompt, model and kind; ``views``: the same with one row a view, prompt
        and model, and a count of every kind; ``answers``: by view, prompt, model, engine and attempt with their tokens,
        and what this version's parser made of them; ``imports``; ``runs``.
    """
    profiles = store.status()
    views: dict[tuple[str, ...], Counter[str]] = {}
    for row in profiles:
        views.setdefault(tuple(row[name] for name in _VIEW), Counter())[row["kind"]] += row["items"]
    outcomes: dict[tuple[Any, ...], dict[str, int]] = {}
    for counted in store.parse_counts(PARSER_VERSION):
        outcomes.setdefault(counted[:6], {})[counted[6]] = counted[7]
    answers = store.answer_counts()
    for row in answers:
        origin = tuple(row[name] for name in ("view", "prompt", "model", "revision", "engine", "attempt"))
        row["kinds"] = outcomes.get(origin, {})
    return {
        "profiles": profiles,
        "views": [dict(zip(_VIEW, place)) | _counts(kinds) for place, kinds in views.items()],
        "answers": answers,
        "imports": [asdict(record) for record in store.imports()],
        "runs": [asdict(run) for run in store.runs()],
    }


def _counts(kinds: Counter[str]) -> dict[str, Any]:
    items = kinds.total()
    failures = dict.fromkeys(KINDS, 0) | {kind: count for kind, count in kinds.items() if kind != VALID}
    return {"items": items, "valid": kinds[VALID], "valid_share": round(kinds[VALID] / items, 4), "failures": failures}
