"""A profiling run over the users of a data set: its cost first, then block by block clusters and overall profiles.

The cluster questions of a block come before its overall ones, which are made of their answers. Each answer is found by
the hash of what was asked, so a user whose history grew costs a call for each cluster that now reads otherwise, and one
for the overall profile if a summary came out otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from typing import Any

from semacdr.profiling.cost import PlanCost, total_cost
from semacdr.profiling.engines.base import Engine, Request
from semacdr.profiling.items import ItemProfiler, Planned, ViewCounts
from semacdr.profiling.prompts import Prompt
from semacdr.profiling.run import LOW_SHARE, RunOptions, record_of, summed_counts
from semacdr.profiling.store import AnswerStore, ProfileRow
from semacdr.profiling.users import CLUSTER_VIEW, Histories, History, UserPrompts, users_of
from semacdr.progress import Progress, duration, say

NO_SUMMARY = "no_summary"  # none of the user's clusters has a valid summary, so there is nothing to sum up


class _ViewPlan:
    """Adds up the questions of one view: those whose answer is kept, and those that the engine will be asked."""

    def __init__(self, profiler: ItemProfiler, prompt: Prompt) -> None:
        self._profiler, self.prompt = profiler, prompt
        self._cost = PlanCost(profiler.engine, profiler.store, prompt)
        self.planned = self.cached = self.to_generate = 0

    def add(self, planned: Sequence[Planned]) -> set[Request]:
        """Adds questions and returns those without an answer."""
        waiting = self._profiler.pending(self.prompt, planned)
        asked = set(waiting)
        self.planned += len(planned)
        self.cached += sum(question.request not in asked for question in planned)
        self._wait(waiting)
        return asked

    def add_unknown(self, like: Sequence[Request]) -> None:
        """Adds questions that cannot be put yet, by others of about their length."""
        self.planned += len(like)
        self._wait(like)

    def _wait(self, requests: Sequence[Request]) -> None:
        self.to_generate += len(requests)
        self._cost.add(requests)

    def result(self) -> dict[str, Any]:
        """The plan of the view."""
        counts = {"planned": self.planned, "cached": self.cached, "to_generate": self.to_generate}
        return {"prompt": self.prompt.label, **counts, "cost": self._cost.result()}


def plan_users(
    profiler: ItemProfiler, histories: Histories, prompts: UserPrompts, limit: int | None = None
) -> dict[str, Any]:
    """What a run will ask and cost, before it asks anything.

    The overall question of a user is known once all its clusters are summarised; until then it counts as one to ask.

    Returns:
        ``users``, ``nothing_to_say`` (users without any known item that has a text and a vector), ``clusters``,
        ``cached`` and ``to_generate`` (calls, without retries), ``cost``, and the same for each view in ``views``.
    """
    users_seen = silent = 0
    clusters, overall = _ViewPlan(profiler, prompts.cluster), _ViewPlan(profiler, prompts.overall)
    typical = prompts.cluster.example_texts or ["What this person likes is told in one sentence of middling length."]
    for users in histories.blocks(limit):
        users_seen += len(users)
        silent += sum(not user.clusters for user in users)
        planned = prompts.plan_clusters(users)
        waiting = clusters.add(planned)
        open_clusters = {question.item_id for question in planned if question.request in waiting}
        known = [user for user in users if open_clusters.isdisjoint(user.cluster_ids)]
        overall.add(prompts.plan_overall(known, _summaries(profiler, planned)))
        unknown = [user for user in users if not open_clusters.isdisjoint(user.cluster_ids)]
        overall.add_unknown(
            [prompts.overall_request(list(islice(cycle(typical), len(user.clusters)))) for user in unknown]
        )
    views = {view.prompt.view: view.result() for view in (clusters, overall)}
    return {
        "users": users_seen,
        "nothing_to_say": silent,
        "clusters": clusters.planned,
        "cached": clusters.cached + overall.cached,
        "to_generate": clusters.to_generate + overall.to_generate,
        "cost": total_cost([view["cost"] for view in views.values()]),
        "views": views,
    }


def plan_lines(plan: Mapping[str, Any]) -> str:
    """A plan as its reader sees it."""
    cost = plan["cost"]
    seconds = "time not known" if cost["seconds"] is None else f"about {duration(cost['seconds'])}"
    return (
        f"{plan['users']} users, {plan['nothing_to_say']} of them with nothing to say; {plan['clusters']} clusters; "
        f"{plan['cached']} calls cached, {plan['to_generate']} to make\n"
        f"  about {cost['calls']} calls with retries, {cost['prompt_tokens']} prompt tokens, "
        f"{cost['tokens']} answer tokens; {seconds}"
    )


def profile_users(
    histories: Histories,
    engine: Engine,
    store: AnswerStore,
    prompts: UserPrompts,
    options: RunOptions,
) -> dict[str, Any]:
    """Profiles the users of a data set and returns the plan, then the counts, summed and by view.

    Args:
        histories: the users.
        engine: answers what the store does not have.
        store: keeps answers and profiles.
        prompts: of the clusters and of the overall profile.
        options: as for items; ``limit`` counts users, and there is no ``kind`` of user.

    Raises:
        SemacdrError: the engine cannot run, or the store cannot be written. What was finished is kept.
    """
    profiler = ItemProfiler(engine, store, users_of(histories.name), options.attempts, options.retry_failed)
    plan = plan_users(profiler, histories, prompts, options.limit)
    identity = engine.identity
    summary = {
        "dataset": histories.name,
        "engine": engine.name,
        "model": identity.model,
        "revision": identity.revision,
        "dry_run": options.dry_run,
        "plan": plan,
    }
    if options.dry_run:
        return summary
    say(plan_lines(plan))
    views: dict[str, dict[str, Any]] = {}
    for prompt, counts in _run(profiler, histories, prompts, options.limit, plan):
        views[prompt.view] = {"prompt": prompt.label, **asdict(counts), "valid_share": round(counts.valid_share, 4)}
        if counts.planned and counts.valid_share < LOW_SHARE:
            say(f"{prompt.view}: only {counts.valid_share:.0%} are valid; see: semacdr profile status")
    return {**summary, **summed_counts(views), "views": views}


def _summaries(profiler: ItemProfiler, planned: Sequence[Planned]) -> dict[str, str]:
    return profiler.store.valid_texts(profiler.dataset, CLUSTER_VIEW, [question.item_id for question in planned])


def _run(
    profiler: ItemProfiler, histories: Histories, prompts: UserPrompts, limit: int | None, plan: Mapping[str, Any]
) -> list[tuple[Prompt, ViewCounts]]:
    clusters, overall = ViewCounts(), ViewCounts()
    progress = Progress(plan["clusters"] + plan["users"], "user profiles", "summaries")
    done = [(prompts.cluster, clusters), (prompts.overall, overall)]
    try:
        for users in histories.blocks(limit):
            with _timed(clusters):
                planned = prompts.plan_clusters(users)
                clusters.items += len(planned)
                profiler.run(prompts.cluster, planned, clusters, progress)
            with _timed(overall):
                questions = prompts.plan_overall(users, _summaries(profiler, planned))
                overall.items += len(users)
                overall.no_text += len(users) - len(questions)
                progress.skip(len(users) - len(questions))
                _forget(profiler, prompts.overall, users, questions)
                profiler.run(prompts.overall, questions, overall, progress)
    finally:
        for prompt, counts in done:
            if counts.generated:
                profiler.store.add_run(record_of(profiler.engine, prompt, counts))
            counts.engine_seconds = round(counts.engine_seconds, 3)
    if clusters.generated + overall.generated:
        progress.close(f"{overall.valid} users with a valid profile")
    return done


def _forget(profiler: ItemProfiler, prompt: Prompt, users: Sequence[History], questions: Sequence[Planned]) -> None:
    """A user without a summary has no profile either, whatever there was before."""
    asked = {question.item_id for question in questions}
    rows = [ProfileRow(user.user_id, NO_SUMMARY, None, None) for user in users if user.clusters]
    identity = profiler.engine.identity
    gone = [row for row in rows if row.item_id not in asked]
    profiler.store.set_profiles(profiler.dataset, prompt.view, prompt.label, identity.model, identity.revision, gone)


@contextlib.contextmanager
def _timed(counts: ViewCounts) -> Iterator[None]:
    started, cpu_started = time.monotonic(), time.process_time()
    yield
    counts.seconds = round(counts.seconds + time.monotonic() - started, 3)
    counts.cpu_seconds = round(counts.cpu_seconds + time.process_time() - cpu_started, 3)
