"""What every recommender is: a ``torch.nn.Module`` that can be trained on batches and asked for scores.

A model sees a :class:`~semacdr.data.dataset.Catalogue` (items, domains, training counts) and, if it reads text, one
frozen text embedding per view; what else some models know stands in :class:`SideData`. It never sees users' names,
files or RecBole: the trainer, the evaluator and the RecBole wrapper all drive the same few methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.review_texts import EventReviews
from semacdr.data.splits import TrainSequences
from semacdr.errors import InputError, nearest

TextTables = Mapping[str, Tensor]
"""View name -> (N+1, E) frozen text vectors; row 0 and the rows of items without that text are zero."""


def select_views(text: TextTables, views: list[str] | None) -> dict[str, Tensor]:
    """The tables of the wanted views, all for None; a view that the tables lack is an :class:`InputError`."""
    if views is None:
        return dict(text)
    for view in views:
        if view not in text:
            known = nearest(view, text) if text else "no tables are given: use --embeddings DIR"
            raise InputError(f"no text table for view {view!r}", fix=known)
    return {view: text[view] for view in views}


def needed_views(model: str, text: TextTables | None, views: list[str] | None) -> dict[str, Tensor]:
    """:func:`select_views` for a model that knows items by text alone: no table at all is an :class:`InputError`."""
    chosen = select_views(text or {}, views)
    if not chosen:
        raise InputError(f"{model} knows items by their text alone", fix="give text vectors: --embeddings DIR")
    return chosen


@dataclass(frozen=True)
class ItemCodes:
    """Semantic ids of a catalogue's items.

    Attributes:
        codes: (N+1, M+1) int64: M codes, coarse to fine, and the last token that tells items with equal codes apart;
            row 0 (padding) is zero.
        sizes: entries of each of the M codebooks, whether or not an item uses them.
    """

    codes: Tensor
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class SideData:
    """What some models know beside item vectors.

    Attributes:
        num_users: U, above every index in ``Batch.user``.
        user_vectors: (U, E) frozen vectors of the users' profiles, zero for a user without one; None where none are
            given, or the model reads none. E need not be that of the items.
        item_texts: (N+1,) content text of each item, "" for padding and for items without text; None where the model
            reads none, or RecBole's settings name none.
        train: the training sequences, for models that make a graph of them.
        reviews: the reviews of training events; None where the data have none, or the model reads none.
        codes: semantic ids of the items; None where none are given, or the model reads none.
    """

    num_users: int = 0
    user_vectors: Tensor | None = None
    item_texts: Sequence[str] | None = None
    train: TrainSequences | None = None
    reviews: EventReviews | None = None
    codes: ItemCodes | None = None


@dataclass
class Loss:
    """A training loss: ``total`` is what is minimised, ``parts`` are its terms for the log."""

    total: Tensor
    parts: dict[str, float] = field(default_factory=dict)


class Recommender(nn.Module, ABC):
    """Base of all models.

    Attributes:
        Config: the model's settings; unknown keys are errors.
        trained_by_gradient: False for models that are fitted by counting (:meth:`fit`).
        reads_text: whether :class:`TextTables` are used where they are given.
        reads_users: whether vectors of users' profiles are used where they are given.
        reads_item_texts: whether the items' texts themselves are read.
        reads_reviews: whether users' reviews are read where there are any.
        reads_sequences: whether the training sequences are read to build the model.
        reads_codes: whether there are settings under which semantic ids are read (:meth:`needs_codes`).
    """

    Config: ClassVar[type[Settings]]
    trained_by_gradient: ClassVar[bool] = True
    reads_text: ClassVar[bool] = False
    reads_users: ClassVar[bool] = False
    reads_item_texts: ClassVar[bool] = False
    reads_reviews: ClassVar[bool] = False
    reads_sequences: ClassVar[bool] = False
    reads_codes: ClassVar[bool] = False
    item_domain: Tensor  # (N+1,), -1 for padding

    def __init__(
        self, config: Settings, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData | None = None
    ) -> None:
        """Takes what is known; ``side`` is only given to a class that says that it reads some of it."""
        super().__init__()
        self.config = config
        self.catalogue = catalogue
        self.register_buffer("item_domain", torch.from_numpy(catalogue.item_domain).long(), persistent=False)

    @classmethod
    def reads_side(cls) -> bool:
        """Whether the constructor takes ``side``."""
        return any((cls.reads_users, cls.reads_item_texts, cls.reads_reviews, cls.reads_sequences, cls.reads_codes))

    @classmethod
    def needs_codes(cls, config: Any) -> bool:
        """Whether items are known by their semantic ids under these settings, so that there must be some."""
        return cls.reads_codes

    @property
    def num_items(self) -> int:
        """N, without the padding id."""
        return self.catalogue.num_items

    @property
    def max_seq_len(self) -> int:
        """L: how many events of a history the model reads."""
        return int(getattr(self.config, "max_seq_len", 1_000_000))

    def notes(self) -> Sequence[str]:
        """What a training should say once: what this model does without on these data."""
        return ()

    def fit(self, train: TrainSequences) -> None:
        """Fits a counting model; gradient models are trained by the trainer instead."""
        raise TypeError(f"{type(self).__name__} is trained by gradient, not by fit()")

    def loss(self, batch: Batch) -> Loss:
        """The training loss of a batch that has ``targets``."""
        raise TypeError(f"{type(self).__name__} is fitted by counting and has no loss")

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; models whose buffers change size while they are fitted override it."""
        self.load_state_dict(dict(tensors))

    def prepare(self) -> None:
        """Caches what scoring needs of the items. Called once before an evaluation, and after weights change."""

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """What scoring needs of the users of a batch, computed once; opaque to the caller."""

    @abstractmethod
    def score(self, encoded: Any, items: Tensor) -> Tensor:
        """Scores, higher is better, float32.

        Args:
            encoded: what :meth:`encode` gave for B users.
            items: (n,) item indices scored for every user, or (B, K) a list for each user.

        Returns:
            (B, n) or (B, K).
        """


class VectorRecommender(Recommender):
    """A recommender whose score is the inner product of a user vector and an item vector.

    The evaluator knows such models: it counts in blocks of matrix products and settles near-ties in float64.
    """

    _items: Tensor | None = None

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """(N+1, D) vectors of all items; row 0 is padding and never scored."""

    @abstractmethod
    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) vectors of the batch's users for ``batch.target_domain``."""

    def prepare(self) -> None:
        """Computes and keeps the item vectors."""
        with torch.no_grad():
            self._items = self.item_vectors().detach().float().contiguous()  # a bare parameter would be registered

    def prepared_items(self) -> Tensor:
        """(N+1, D) float32: the kept item vectors."""
        if self._items is None:
            self.prepare()
        assert self._items is not None
        return self._items

    def train(self, mode: bool = True) -> VectorRecommender:
        """Switches mode; going back to training drops the kept item vectors."""
        if mode:
            self._items = None
        super().train(mode)
        return self

    def encode(self, batch: Batch) -> Tensor:
        """(B, D) float32 user vectors."""
        with torch.no_grad():
            return self.user_vectors(batch).float()

    def score(self, encoded: Tensor, items: Tensor) -> Tensor:
        """Inner products of user and item vectors."""
        vectors = self.prepared_items()[items]  # (n, D) or (B, K, D)
        if items.dim() == 1:
            return encoded @ vectors.T
        return torch.bmm(vectors, encoded.unsqueeze(2)).squeeze(2)
