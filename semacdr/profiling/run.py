"""A profiling run over the views of a data set, and what can be read back from its store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from semacdr.data.item_rows import BLOCK_ROWS, ItemRows
from semacdr.profiling.cost import PlanCost, total_cost
from semacdr.profiling.engines.base import Engine
from semacdr.profiling.items import ItemProfiler, ViewCounts, plan_items
from semacdr.profiling.prompts import Prompt, Vocabulary
from semacdr.profiling.recorded import Record
from semacdr.profiling.store import AnswerStore, RunRecord
from semacdr.progress import Progress, say

LOW_SHARE = 0.5
_COUNTS = ("planned", "no_text", "cached", "generated", "retried", "valid", "invalid", "missing")
_SUMMED = (*_COUNTS, "prompt_tokens", "tokens", "seconds", "cpu_seconds")


@dataclass(frozen=True)
class RunOptions:
    """How a profiling run goes about it; see :class:`~semacdr.profiling.items.ItemProfiler`."""

    limit: int | None = None
    attempts: int = 3
    kind: str | None = None
    dry_run: bool = False
    retry_failed: bool = False


def profile_items(
    items: ItemRows,
    engine: Engine,
    store: AnswerStore,
    prompts: Sequence[Prompt],
    vocabulary: Vocabulary,
    options: RunOptions,
) -> dict[str, Any]:
    """Profiles the items of a data set in every view and returns the counts, summed and by view.

    The catalogue is read, asked about and kept block by block, so memory does not grow with it.

    Raises:
        SemacdrError: the engine cannot run, or the store cannot be written. What was finished is kept.
    """
    profiler = ItemProfiler(engine, store, items.name, options.attempts, options.retry_failed)
    views: dict[str, dict[str, Any]] = {}
    for prompt in prompts:
        if options.dry_run:
            views[prompt.view] = _plan(profiler, items, prompt, vocabulary, options)
            continue
        counts = _run_view(profiler, items, prompt, vocabulary, options)
        views[prompt.view] = {"prompt": prompt.label, **asdict(counts), "valid_share": round(counts.valid_share, 4)}
        if counts.planned and counts.valid_share < LOW_SHARE:
            say(f"{prompt.view}: only {counts.valid_share:.0%} of the profiles are valid; see: semacdr profile status")
    total = summed_counts(views)
    if options.dry_run:
        total["to_generate"] = sum(view["to_generate"] for view in views.values())
        total["cost"] = total_cost([view["cost"] for view in views.values()])
    identity = engine.identity
    return {
        "dataset": items.name,
        "engine": engine.name,
        "model": identity.model,
        "revision": identity.revision,
        "dry_run": options.dry_run,
        **total,
        "views": views,
    }


def _run_view(
    profiler: ItemProfiler, items: ItemRows, prompt: Prompt, vocabulary: Vocabulary, options: RunOptions
) -> ViewCounts:
    started, cpu_started = time.monotonic(), time.process_time()
    counts = ViewCounts()
    progress = Progress(min(options.limit or items.num_items, items.num_items), prompt.view)
    try:
        for rows in items.blocks(options.limit, max(BLOCK_ROWS, profiler.engine.chunk)):
            planned, no_text = plan_items(rows, prompt, vocabulary, options.kind)
            counts.items += len(rows)
            counts.no_text += no_text
            progress.skip(no_text)
            profiler.run(prompt, planned, counts, progress)
    finally:
        if counts.generated:
            profiler.store.add_run(record_of(profiler.engine, prompt, counts))
    if counts.generated:
        progress.close(f"{counts.valid} valid")
    counts.seconds = round(time.monotonic() - started, 3)
    counts.cpu_seconds = round(time.process_time() - cpu_started, 3)
    counts.engine_seconds = round(counts.engine_seconds, 3)
    return counts


def summed_counts(views: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The counts that make sense over views, added up."""
    return {name: round(sum(view[name] for view in views.values()), 3) for name in _SUMMED}


def record_of(engine: Engine, prompt: Prompt, counts: ViewCounts) -> RunRecord:
    """What is kept of a run, so that plans can go by it."""
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    origin = (prompt.view, prompt.label, engine.identity.model, engine.identity.revision, engine.name)
    used = (counts.generated, counts.retried, counts.prompt_tokens, counts.tokens, round(counts.engine_seconds, 6))
    return RunRecord(finished, *origin, *used)


def _plan(
    profiler: ItemProfiler, items: ItemRows, prompt: Prompt, vocabulary: Vocabulary, options: RunOptions
) -> dict[str, Any]:
    counts, calls = ViewCounts(), 0
    cost = PlanCost(profiler.engine, profiler.store, prompt)
    for rows in items.blocks(options.limit):
        planned, no_text = plan_items(rows, prompt, vocabulary, options.kind)
        counts.items += len(rows)
        counts.no_text += no_text
        counts.planned += len(planned)
        counts.distinct += len({item.request for item in planned})
        pending = profiler.pending(prompt, planned)
        calls += len(pending)
        waiting = set(pending)
        counts.cached += sum(item.request not in waiting for item in planned)
        cost.add(pending)
    return {"prompt": prompt.label, **asdict(counts), "to_generate": calls, "cost": cost.result()}


def compare_with_record(store: AnswerStore, record: Record) -> dict[str, int]:
    """How many of a store's answers a record has under the same key, and how many of those are equal.

    An answer can differ under the same key: in bfloat16 what else was in its batch changes the last bits.
    """
    both = [(answer, record.answers[key]) for key, answer in store.all_answers() if key in record.answers]
    return {"compared": len(both), "equal": sum(mine.text == other.text for mine, other in both)}
