"""What is trained for: the batches of an epoch, and the validation score that early stopping follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from semacdr.data.batches import TrainBatches
from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import Histories, RatingBatches
from semacdr.data.ratings import RatingData
from semacdr.data.splits import Split
from semacdr.evaluation.ratings import validation_errors
from semacdr.evaluation.validate import METRIC, validation_score
from semacdr.models.base import Recommender
from semacdr.models.rating import RatingRecommender
from semacdr.training.settings import RatingTrainSettings, TrainSettings


class Batches(Protocol):
    """The training batches; the order within an epoch depends on nothing but a seed and the epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Any]:
        """The batches of one epoch, from ``first_batch`` on; each can be moved with ``to(device)``."""
        ...


class Task(Protocol):
    """A model's task on one data set.

    Attributes:
        metric: name of the validation score.
        lower_is_better: of that score.
        validates_in_bf16: validation may run in the precision of training.
        batches: the training batches.
        watched: whether there is anything to validate on.
    """

    metric: str
    lower_is_better: bool
    validates_in_bf16: bool
    batches: Batches

    @property
    def watched(self) -> bool:
        """Whether there is anything to validate on."""
        ...

    def validate(self) -> dict[str, float]:
        """Validation scores; that of ``all`` decides."""
        ...


class RankingTask:
    """Next items, judged by the rank of the validation targets."""

    metric, lower_is_better, validates_in_bf16 = METRIC, False, False

    def __init__(self, model: Recommender, dataset: Dataset, split: Split, settings: TrainSettings) -> None:
        self.model, self.dataset, self.split, self.settings = model, dataset, split, settings
        self.batches: Batches = TrainBatches(split.train, settings.batch_size, model.max_seq_len, settings.seed)

    @property
    def watched(self) -> bool:
        """Whether there is a validation target."""
        return len(self.split.valid) > 0

    def validate(self) -> dict[str, float]:
        """ndcg@10, overall and for each domain."""
        return validation_score(self.model, self.split.valid, self.dataset, self.settings.valid_protocol)


class RatingTask:
    """Ratings of one domain, judged by the mean squared error."""

    metric, lower_is_better, validates_in_bf16 = "mse", True, True

    def __init__(self, model: RatingRecommender, data: RatingData, settings: RatingTrainSettings) -> None:
        self.model, self.data = model, data
        histories = Histories(model.catalogue, model.history_size, model.leaks)
        self.batches: Batches = RatingBatches(histories, settings.batch_size, settings.seed, model.reads_own_review)

    @property
    def watched(self) -> bool:
        """Whether there is a validation rating."""
        return len(self.data.rows("valid")) > 0

    def validate(self) -> dict[str, float]:
        """Mean squared error; a model that leaks is validated as it was trained."""
        training = self.model.training
        self.model.eval()
        errors = validation_errors(self.model, self.data, self.model.leaks)
        self.model.train(training)
        return errors
