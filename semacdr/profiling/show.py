"""Everything a store has about one item or one user: prompt, answers, parse, keys, and what has changed since.

The store keeps no prompts. They are rendered again, and the keys tell whether they are still those that were asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from semacdr.data.dataset import Dataset
from semacdr.data.item_text import item_fields
from semacdr.data.schema import DOMAIN
from semacdr.errors import InputError
from semacdr.profiling.engines.base import ModelIdentity
from semacdr.profiling.items import Planned, plan_items, source_of
from semacdr.profiling.lookup import kept_attempts
from semacdr.profiling.prompts import Prompt, Vocabulary, shipped_prompt
from semacdr.profiling.store import IMPORT_ENGINE, AnswerStore
from semacdr.profiling.users import CLUSTER_VIEW, OVERALL_VIEW, Histories, UserPrompts, users_of


def show_item(
    dataset: Dataset,
    store: AnswerStore,
    prompts: Sequence[Prompt],
    vocabulary: Vocabulary,
    item_id: str,
    kind: str | None = None,
) -> list[dict[str, Any]]:
    """What there is about one item, an entry a view.

    A view that none of the ``prompts`` is about is shown with the prompt that ships under the name kept.

    Raises:
        InputError: no such item, or nothing about it in the store.
    """
    index = dataset.known_item(item_id)
    shown = store.item_profiles(dataset.name, item_id)
    if not shown:
        raise InputError(f"nothing about item {item_id!r} in this store", where=str(store.path))
    row = {str(name): value for name, value in dataset.item_frame().iloc[index - 1].items()}
    row[DOMAIN] = dataset.domains[dataset.item_domain[index]]
    by_view = {prompt.view: prompt for prompt in prompts}
    for entry in shown:
        entry["other_text"] = entry["source"] not in ("", source_of(item_fields(row)))
        if (entry["engine"] or "").startswith(IMPORT_ENGINE):  # what was asked elsewhere is not known
            continue
        prompt = by_view.get(entry["view"]) or shipped_prompt(entry["prompt"])
        planned = plan_items([row], prompt, vocabulary, kind)[0] if prompt else []
        if prompt and planned:
            _add_prompt(entry, store, prompt, planned[0])
    return shown


def show_user(
    dataset: Dataset,
    store: AnswerStore,
    prompts: Sequence[Prompt],
    user_id: str,
    histories: Histories | None = None,
) -> list[dict[str, Any]]:
    """What there is about one user: an entry for each cluster, then the overall profile.

    Args:
        dataset: the users and their events.
        store: what is shown.
        prompts: in place of those that ship under the names kept.
        user_id: the user.
        histories: with the clusters as they were asked about; without them no prompt can be rendered.

    Raises:
        InputError: no such user, or nothing about it in the store.
    """
    index, name = dataset.known_user(user_id), users_of(dataset.name)
    shown = [*store.cluster_profiles(name, CLUSTER_VIEW, user_id), *store.item_profiles(name, user_id)]
    if not shown:
        raise InputError(
            f"nothing about user {user_id!r} in this store", where=str(store.path), fix="semacdr profile users first"
        )
    user = (histories or Histories(dataset)).of(index)
    summaries = store.valid_texts(name, CLUSTER_VIEW, user.cluster_ids)
    by_view = {prompt.view: prompt for prompt in prompts}
    for entry in shown:
        overall = entry["view"] == OVERALL_VIEW
        entry["other_text"] = overall and entry["source"] not in ("", user.source)
        prompt = by_view.get(entry["view"]) or shipped_prompt(entry["prompt"])
        if histories is None or prompt is None:
            continue
        both = UserPrompts(prompt, prompt)  # only the one that the view is about is asked
        planned = both.plan_overall([user], summaries) if overall else both.plan_clusters([user])
        mine = next((question for question in planned if question.item_id == entry["item_id"]), None)
        entry["other_text"] |= mine is None  # nothing that is known now would be asked about so
        if mine is not None:
            _add_prompt(entry, store, prompt, mine)
    return shown


def _add_prompt(entry: dict[str, Any], store: AnswerStore, prompt: Prompt, planned: Planned) -> None:
    """Adds the question as it would be put now, whether that is the one that was put, and all that was answered."""
    identity = ModelIdentity(entry["model"], entry["revision"])
    attempts = kept_attempts(store, prompt, [planned], identity)[planned.item_id]
    mine = next((attempt for attempt in attempts if attempt.key == entry["answer_key"]), None)
    request = mine.request if mine else planned.request
    entry["messages"] = [asdict(message) for message in request.messages]
    entry["prefix"] = request.prefix
    entry["schema"] = request.schema
    entry["banned"] = list(request.banned)
    entry["prompt_unchanged"] = mine is not None
    entry["attempts"] = [{"kind": a.parse.kind, "answer": a.answer.text, "answer_key": a.key} for a in attempts]
