"""What every rating model is: a ``torch.nn.Module`` that predicts how many stars a user gives an item.

A model sees a :class:`~semacdr.data.ratings.RatingCatalogue` (training ratings and their reviews) and batches of pairs
with historical reviews. It never sees the rating or, unless it says so, the review of the pair it is asked about.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.models.base import Loss


class RatingRecommender(nn.Module, ABC):
    """Base of all rating models.

    Attributes:
        Config: the model's settings; unknown keys are errors.
        trained_by_gradient: False for models that are fitted by counting (:meth:`fit`).
        reads_own_review: True for a regression of the pair's own review, which is no recommender: it is for
            pre-training and for comparison.
    """

    Config: ClassVar[type[Settings]]
    trained_by_gradient: ClassVar[bool] = True
    reads_own_review: ClassVar[bool] = False

    def __init__(self, config: Settings, catalogue: RatingCatalogue) -> None:
        super().__init__()
        self.config = config
        self.catalogue = catalogue

    @property
    def history_size(self) -> int:
        """k: historical reviews that the model reads of each side; 0 for none."""
        return int(getattr(self.config, "k", 0))

    @property
    def leaks(self) -> bool:
        """Whether a pair's own review may be among what it is predicted from."""
        return bool(getattr(self.config, "faithful", False))

    def fit(self, train: Ratings) -> None:
        """Fits a counting model; gradient models are trained by the trainer instead."""
        raise TypeError(f"{type(self).__name__} is trained by gradient, not by fit()")

    def loss(self, batch: RatingBatch) -> Loss:
        """The training loss of a batch that has ratings."""
        raise TypeError(f"{type(self).__name__} is fitted by counting and has no loss")

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights."""
        self.load_state_dict(dict(tensors))

    def prepare(self) -> None:
        """Drops what was cached for scoring. Called once before an evaluation, and after weights change."""

    @abstractmethod
    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) float32 ratings, not yet clipped to the scale."""
