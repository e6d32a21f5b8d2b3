"""A profiling run over the users of a data set: its cost first, then block by block clusters and overall profiles.

The cluster questions of a block come before its overall ones, which are made of their answers. Each answer is found by
the hash of what was asked, so a user whose history grew costs a call for each cluster that now reads otherwise, and one
for the overall profile if a summary came out otherwise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from semacdr.data.dataset import Dataset
from semacdr.errors import InputError
from semacdr.files import write_atomic
from semacdr.profiling.engines.base import Engine, Request
from semacdr.profiling.items import ItemProfiler, Planned, ViewCounts
from semacdr.profiling.prompts import Prompt
from semacdr.profiling.run import LOW_SHARE, SUMMED
from semacdr.profiling.store import AnswerStore, ProfileRow
from semacdr.profiling.users import CLUSTER_VIEW, OVERALL_VIEW, Histories, History, UserPrompts, users_of
from semacdr.progress import Progress, say

NO_SUMMARY = "no_summary"  # none of the user's clusters has a valid summary, so there is nothing to sum up
_CHARACTERS_A_TOKEN = 4  # of English text; what a plan counts with


@dataclass
class ViewCost:
    """What one view of a run will cost.

    Attributes:
        planned: questions there are to answer.
        cached: those whose answer is kept.
        to_generate: different questions that the engine will be asked, without the retries.
        prompt_tokens: of those, about.
    """

    planned: int = 0
    cached: int = 0
    to_generate: int = 0
    prompt_tokens: int = 0


@dataclass
class UserCost:
    """What a run will cost; ``nothing_to_say`` users have no known item with a text and a vector."""

    users: int = 0
    nothing_to_say: int = 0
    cluster: ViewCost = field(default_factory=ViewCost)
    overall: ViewCost = field(default_factory=ViewCost)

    def summed(self) -> dict[str, int]:
        """The cost of both views together."""
        both = {name: count + asdict(self.overall)[name] for name, count in asdict(self.cluster).items()}
        return {
            "users": self.users,
            "nothing_to_say": self.nothing_to_say,
            "clusters": self.cluster.planned,
            **{name: both[name] for name in ("cached", "to_generate", "prompt_tokens")},
        }


def cost_line(cost: Mapping[str, int]) -> str:
    """The cost of a run as its reader sees it."""
    return (
        f"{cost['users']} users, {cost['nothing_to_say']} of them with nothing to say; {cost['clusters']} clusters; "
        f"{cost['cached']} calls cached, {cost['to_generate']} to make, before retries, with about "
        f"{cost['prompt_tokens']} prompt tokens"
    )


def profile_users(
    histories: Histories,
    engine: Engine,
    store: AnswerStore,
    prompts: UserPrompts,
    limit: int | None = None,
    attempts: int = 3,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Profiles the users of a data set and returns the cost and the counts, summed and by view.

    Raises:
        SemacdrError: the engine cannot run, or the store cannot be written. What was finished is kept.
    """
    profiler = ItemProfiler(engine, store, users_of(histories.name), attempts)
    cost = _cost(profiler, histories, prompts, limit)
    views: dict[str, dict[str, Any]] = {}
    if dry_run:
        for prompt, of in ((prompts.cluster, cost.cluster), (prompts.overall, cost.overall)):
            views[prompt.view] = {"prompt": prompt.label, **asdict(of)}
    else:
        say(cost_line(cost.summed()))
        clusters, overall = _run(profiler, histories, prompts, limit, cost)
        for prompt, counts in ((prompts.cluster, clusters), (prompts.overall, overall)):
            views[prompt.view] = {"prompt": prompt.label, **asdict(counts), "valid_share": round(counts.valid_share, 4)}
            if counts.planned and counts.valid_share < LOW_SHARE:
                say(f"{prompt.view}: only {counts.valid_share:.0%} are valid; see: semacdr profile status")
    identity = engine.identity
    return {
        "dataset": histories.name,
        "engine": engine.name,
        "model": identity.model,
        "revision": identity.revision,
        "dry_run": dry_run,
        **({} if dry_run else {name: round(sum(view[name] for view in views.values()), 3) for name in SUMMED}),
        "cost": cost.summed(),
        "views": views,
    }


def _cost(profiler: ItemProfiler, histories: Histories, prompts: UserPrompts, limit: int | None) -> UserCost:
    cost = UserCost()
    empty = _characters(prompts.overall_request([]))
    summary = prompts.cluster.sampling.max_new_tokens
    for users in histories.blocks(limit):
        cost.users += len(users)
        cost.nothing_to_say += sum(not user.clusters for user in users)
        planned = prompts.plan_clusters(users)
        waiting = set(_add_cost(profiler, prompts.cluster, planned, cost.cluster))
        unknown = {question.item_id for question in planned if question.request in waiting}
        known = [user for user in users if unknown.isdisjoint(user.cluster_ids)]
        _add_cost(profiler, prompts.overall, prompts.plan_overall(known, _summaries(profiler, planned)), cost.overall)
        for user in users:
            if not unknown.isdisjoint(user.cluster_ids):  # its prompt is not known before its summaries are
                cost.overall.planned += 1
                cost.overall.to_generate += 1
                cost.overall.prompt_tokens += empty // _CHARACTERS_A_TOKEN + summary * len(user.clusters)
    return cost


def _add_cost(profiler: ItemProfiler, prompt: Prompt, planned: Sequence[Planned], cost: ViewCost) -> list[Request]:
    waiting = profiler.pending(prompt, planned)
    asked = set(waiting)
    cost.planned += len(planned)
    cost.cached += sum(question.request not in asked for question in planned)
    cost.to_generate += len(waiting)
    cost.prompt_tokens += sum(map(_characters, waiting)) // _CHARACTERS_A_TOKEN
    return waiting


def _characters(request: Request) -> int:
    return sum(len(message.content) for message in request.messages) + len(request.prefix)


def _summaries(profiler: ItemProfiler, planned: Sequence[Planned]) -> dict[str, str]:
    return profiler.store.valid_texts(profiler.dataset, CLUSTER_VIEW, [question.item_id for question in planned])


def _run(
    profiler: ItemProfiler, histories: Histories, prompts: UserPrompts, limit: int | None, cost: UserCost
) -> tuple[ViewCounts, ViewCounts]:
    clusters, overall = ViewCounts(), ViewCounts()
    progress = Progress(cost.cluster.planned + cost.users, "user profiles", "summaries")
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
    if clusters.generated + overall.generated:
        progress.close(f"{overall.valid} users with a valid profile")
    return clusters, overall


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


def export_users(dataset: Dataset, store: AnswerStore, out: Path) -> dict[str, int]:
    """Writes the valid overall profiles of a data set's users as parquet (user_id, view, text), in their order.

    Returns:
        view -> number of profiles.

    Raises:
        InputError: the store has no valid profile of a user of this data set.
    """
    texts = store.valid_texts(users_of(dataset.name), OVERALL_VIEW, [str(user) for user in dataset.user_ids])
    if not texts:
        raise InputError(
            f"no valid profile of a user of data set {dataset.name!r}",
            where=str(store.path),
            fix="semacdr profile users first",
        )
    rows = [(user, OVERALL_VIEW, texts[user]) for user in map(str, dataset.user_ids) if user in texts]
    frame = pd.DataFrame(rows, columns=["user_id", "view", "text"])
    write_atomic(out, lambda temporary: frame.to_parquet(temporary, index=False))
    return {OVERALL_VIEW: len(frame)}
