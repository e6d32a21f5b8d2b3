"""Recommendations from a finished run: for a known user, for a history of item ids, and for an item given as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semacdr.data.batches import Batch, history_batch
from semacdr.data.schema import TITLE, Int32Array
from semacdr.errors import InputError
from semacdr.models.base import VectorRecommender
from semacdr.models.semacdr import SemaCDR
from semacdr.models.semacdr_gen import SemaCDRGen
from semacdr.run import LoadedRun, load_run
from semacdr.serving.build_index import query_of, run_fingerprint
from semacdr.serving.index import SearchIndex, check_count
from semacdr.serving.new_items import ItemPlacer


@dataclass(frozen=True)
class Recommendation:
    """One recommended item; ``title`` is None where the data set has none."""

    item_id: str
    title: str | None
    domain: str
    score: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class NewItem:
    """What an item that training never saw is to the model.

    Attributes:
        neighbours: the items of the domain whose vectors are nearest by their cosine, which stands as their score.
        score: for the given history, None without one.
        rank: where it would stand among the items of its domain that the history does not hold, 1 being the first.
        candidates: how many these are.
    """

    neighbours: list[Recommendation]
    score: float | None = None
    rank: int | None = None
    candidates: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class RunRecommender:
    """Answers questions with a trained model.

    Histories are item ids, oldest first, from any domains; scores are comparable inside one answer only.
    """

    def __init__(self, run: LoadedRun, index: SearchIndex | None = None) -> None:
        self.run, self.dataset, self.model, self.index = run, run.dataset, run.model, index

    @classmethod
    def load(cls, path: str | Path, index: str | Path | None = None, **places: Any) -> RunRecommender:
        """Opens a run folder; ``dataset=``, ``embeddings=``, ``user_embeddings=`` and ``ids=`` say where the data are.

        With ``index``, a folder of ``semacdr index``, its items are searched in place of scoring the data set's; an
        index of another run is an :class:`InputError`.
        """
        run = load_run(path, **places)
        found = None if index is None else SearchIndex.load(index, run_fingerprint(run.path, run.manifest))
        return cls(run, found)

    @cached_property
    def titles(self) -> list[str | None]:
        """Title of each item index; index 0 is padding."""
        frame = self.dataset.item_frame()
        if TITLE not in frame:
            return [None] * (self.dataset.num_items + 1)
        return [None, *(title if isinstance(title, str) else None for title in frame[TITLE])]

    def history(self, history: Sequence[str] | None = None, user: str | None = None) -> Int32Array:
        """Item indices of an explicit history or of all events of a known user.

        Raises:
            InputError: neither or both given, or an unknown id.
        """
        if (history is None) == (user is None):
            raise InputError("give either a history or a user", fix="--history ID,ID,... or --user ID")
        if user is not None:
            return self.dataset.user_items(self.dataset.known_user(user))
        known = [item for item in history or () if not self._is_added(str(item))]
        return np.array([self.dataset.known_item(item) for item in known], np.int32)

    def _is_added(self, item_id: str) -> bool:
        """Whether the index alone knows an item, or knew it: it came after the training; a history is read without."""
        if self.index is None or item_id in self.dataset.item_index:
            return False
        return item_id in self.index or self.index.was_removed(item_id)

    def recommend(
        self,
        history: Sequence[str] | None = None,
        target_domain: str | None = None,
        k: int = 10,
        user: str | None = None,
        beam: int | None = None,
    ) -> list[Recommendation]:
        """The k best items of a domain that the history does not hold, equal scores in the order of the items.

        Args:
            history: item ids, oldest first; may be empty. Those that were added to the index are kept out of the answer
                and are otherwise not read.
            target_domain: name of the domain to recommend from; may be left out where there is only one.
            k: how many.
            user: a user of the data set, in place of a history.
            beam: semantic ids are decoded by a beam of this width, in place of scoring every item; fewer than ``k``
                items may come of a narrow one.

        Raises:
            InputError: an unknown id or domain, a negative ``k``, or a beam for a model that decodes nothing.
        """
        check_count(k)
        items = self.history(history, user)
        domain = self._domain(target_domain)
        if beam is not None:
            return self._decoded(items, domain, k, user, beam)
        if self.index is not None:
            added = [str(item) for item in history or () if self._is_added(str(item))]
            return self._searched(self.index, items, domain, k, user, added)
        candidates = self._candidates(items, domain)
        scores = self._scores(items, domain, candidates, user)
        best, order = torch.sort(scores, descending=True, stable=True)  # torch.topk gives ties in any order
        return self._named(candidates[order[:k]], best[:k])

    def _named(self, items: torch.Tensor, scores: torch.Tensor) -> list[Recommendation]:
        return [
            Recommendation(
                item_id=str(self.dataset.item_ids[item]),
                title=self.titles[item],
                domain=self.dataset.domains[self.dataset.item_domain[item]],
                score=round(score, 6),
            )
            for item, score in zip(items.tolist(), scores.tolist())
        ]

    def _decoded(self, items: Int32Array, domain: int, k: int, user: str | None, width: int) -> list[Recommendation]:
        model, where = self.model, str(self.run.path)
        if not isinstance(model, SemaCDRGen):
            name = self.run.manifest["model"]
            raise InputError(f"{name} decodes no semantic ids, so it has no use for a beam", where=where, fix="no beam")
        if width < 1 or self.index is not None:
            raise InputError("a beam is one prefix wide or more, and needs no index", where=where)
        seen = torch.from_numpy(items.astype(np.int64))[None]
        all_of_them = int((self.dataset.item_domain == domain).sum())
        found, scores = model.beam(self._batch(items, domain, user), min(k, all_of_them), min(width, all_of_them), seen)
        there = found[0] > 0
        return self._named(found[0][there], self._numbers(scores[0])[there])

    def _searched(
        self, index: SearchIndex, items: Int32Array, domain: int, k: int, user: str | None, added: Sequence[str]
    ) -> list[Recommendation]:
        query = query_of(self.run, items, domain, -1 if user is None else self.dataset.known_user(user))
        seen = [*(str(self.dataset.item_ids[item]) for item in items), *added]
        return [
            Recommendation(
                item_id=hit.item_id,
                title=self._title(index, hit.item_id),
                domain=hit.domain,
                score=round(hit.score, 6),
            )
            for hit in index.search(query, k, self.dataset.domains[domain], [seen])[0]
        ]

    def _title(self, index: SearchIndex, item_id: str) -> str | None:
        """The index may hold items that came after the data set, or in place of one of its items."""
        added = index.added_title(item_id)
        if added is not None:
            return added or None
        known = self.dataset.item_index
        return self.titles[known[item_id]] if item_id in known else None

    def thread_weights(
        self, history: Sequence[str] | None = None, target_domain: str | None = None, user: str | None = None
    ) -> dict[str, float] | None:
        """How much each thread counted for this history, or None for models without threads."""
        if not isinstance(self.model, SemaCDR):
            return None
        items = self.history(history, user)
        weights = self.model.thread_weights(self._batch(items, self._domain(target_domain), user))
        return {name: round(float(weight[0]), 4) for name, weight in weights.items()}

    def new_item(
        self,
        text: str,
        target_domain: str | None = None,
        history: Sequence[str] | None = None,
        user: str | None = None,
        encoder: str | None = None,
        k: int = 10,
    ) -> NewItem:
        """Places an item that is in no data set, from its text alone.

        Args:
            text: what is known of the item.
            target_domain: see :meth:`recommend`.
            history: item ids, oldest first, to score it for; without one, and without a user, it gets neighbours alone.
            user: a user of the data set, in place of a history.
            k: how many neighbours.
            encoder: where the text encoder of the run's table is, if the table does not say.

        Raises:
            InputError: see :class:`semacdr.serving.new_items.ItemPlacer`; an empty text, an unknown id or domain.
        """
        check_count(k)
        domain = self._domain(target_domain)
        placer = ItemPlacer(self.run, encoder)
        vector = torch.from_numpy(placer.vectors([text], [domain]))
        neighbours = self._neighbours(placer.model, vector, domain, k)
        if history is None and user is None:
            return NewItem(neighbours)
        items = self.history(history, user)
        with torch.no_grad():
            score = float((vector @ placer.model.encode(self._batch(items, domain, user)).T).item())
        scores = self._scores(items, domain, self._candidates(items, domain), user)
        return NewItem(neighbours, round(score, 6), 1 + int((scores > score).sum()), len(scores))

    def _neighbours(self, model: SemaCDR, vector: torch.Tensor, domain: int, k: int) -> list[Recommendation]:
        members = self._candidates(np.zeros(0, np.int32), domain)
        cosine = torch.cosine_similarity(model.prepared_items()[members], vector, dim=1)
        best, order = torch.sort(cosine, descending=True, stable=True)
        return self._named(members[order[:k]], best[:k])

    def _domain(self, name: str | None) -> int:
        domains = self.dataset.domains
        if name is None:
            if len(domains) > 1:
                raise InputError("no target domain given", fix=f"--target-domain, one of: {', '.join(domains)}")
            return 0
        return self.dataset.catalogue().domain_index(name)

    def _batch(self, items: Int32Array, domain: int, user: str | None) -> Batch:
        index = -1 if user is None else self.dataset.known_user(user)
        return history_batch([items], [domain], self.model.max_seq_len, [index])

    def _candidates(self, items: Int32Array, domain: int) -> torch.Tensor:
        members = np.flatnonzero(self.dataset.item_domain == domain)
        return torch.from_numpy(members[~np.isin(members, items)])

    def _scores(self, items: Int32Array, domain: int, candidates: torch.Tensor, user: str | None) -> torch.Tensor:
        with torch.no_grad():
            encoded = self.model.encode(self._batch(items, domain, user))
            scores = self.model.score(encoded, candidates)[0]
        return self._numbers(scores)

    def _numbers(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores, if they are some; minus infinity stands for what cannot be, but for an inner product."""
        wrong = torch.isnan(scores)
        if isinstance(self.model, VectorRecommender):
            wrong = ~torch.isfinite(scores)
        if wrong.any():
            raise InputError("the model gives scores that are not numbers", where=str(self.run.path), fix="train again")
        return scores
