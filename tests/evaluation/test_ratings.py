"""Errors of predicted ratings by hand, with intervals; what a biased and a constant model come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from semacdr.config import Settings
from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue, RatingData, Ratings, load_ratings
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.domains import gains, similarity_table
from semacdr.evaluation.ratings import evaluate_ratings, predict, validation_errors
from semacdr.models.baselines.biases import Biases, BiasesConfig
from semacdr.models.rating import RatingRecommender
from tests.planted_reviews import write_reviews


class Says(RatingRecommender):
    """Predicts the number it is told, by user."""

    Config = Settings

    def __init__(self, catalogue: RatingCatalogue, by_user: list[float]) -> None:
        super().__init__(Settings(), catalogue)
        self.register_buffer("by_user", torch.tensor(by_user))

    def predict(self, batch: RatingBatch) -> torch.Tensor:
        assert batch.rating is None
        by_user: torch.Tensor = self.get_buffer("by_user")
        return by_user[batch.user]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "data", users=12)


def by_hand() -> RatingData:
    """Twelve training ratings of 3, then four test ratings: 5 and 4 of user 1, 1 of user 2, 2 of user 3."""
    user = np.r_[np.ones(12), [1, 1, 2, 3]].astype(np.int32)
    rating = np.r_[np.full(12, 3), [5, 4, 1, 2]].astype(np.float32)
    item = np.r_[np.arange(12), [0, 1, 2, 3]].astype(np.int32) + 1
    part = np.r_[np.zeros(12), np.full(4, 2)].astype(np.int8)
    users = np.array(["", "a", "b", "c"], dtype=object)
    items = np.array(["", *(f"i{n}" for n in range(12))], dtype=object)
    return RatingData("tea", users, items, ("",), Ratings(user, item, rating, np.zeros(16, np.int32)), part, 0)


def test_errors_by_hand_and_clipping(dataset: Dataset) -> None:
    data = by_hand()
    model = Says(data.catalogue(), [0.0, 7.5, 2.0, -3.0])  # clipped to 5, 2 and 1
    result = evaluate_ratings(model, dataset, data)
    assert result.per_user["prediction"].tolist() == [5, 5, 2, 1]
    expected = {"mse": 3 / 4, "mae": 3 / 4, "rmse": (3 / 4) ** 0.5}
    assert result.metrics == {"all": pytest.approx(expected), "tea": pytest.approx(expected)}
    rows = {(row["subset"], row["metric"]): row for row in result.statistics if row["domain"] == "all"}
    assert rows["user 0", "mse"]["mean"] == 1
    assert rows["user 0", "mse"]["n_users"] == 2
    assert rows["user >5", "mse"]["mean"] == 0.5
    for row in rows.values():
        assert row["ci_low"] <= row["mean"] + 1e-9
        assert row["mean"] <= row["ci_high"] + 1e-9
    assert {row["protocol"] for row in result.rows()} == {"rating"}


def test_a_model_that_gives_no_number_is_refused(dataset: Dataset) -> None:
    data = by_hand()
    with pytest.raises(SemacdrError, match="not finite"):
        predict(Says(data.catalogue(), [0.0, float("nan"), 0.0, 0.0]), data, "test")
    with pytest.raises(InputError, match="did you mean 'rating'"):
        evaluate_ratings(Says(data.catalogue(), [3.0] * 4), dataset, data, "ratin")


def test_biases_solve_the_regularised_problem(dataset: Dataset) -> None:
    """Against the normal equations, written out."""
    data = load_ratings(dataset, "tea")
    train = data.catalogue().train
    model = Biases(BiasesConfig(reg=2.5), data.catalogue())
    model.fit(train)
    users, items = data.catalogue().num_users, data.catalogue().num_items
    design = np.zeros((len(train), users + items))
    design[np.arange(len(train)), train.user - 1] = 1
    design[np.arange(len(train)), users + train.item - 1] = 1
    rest = train.rating - train.rating.mean(dtype=np.float64)
    solved = np.linalg.solve(design.T @ design + 2.5 * np.eye(users + items), design.T @ rest)
    np.testing.assert_allclose(model.user_bias[1:], solved[:users], atol=1e-5)
    np.testing.assert_allclose(model.item_bias[1:], solved[users:], atol=1e-5)
    own = validation_errors(model, data, own_review=False)["all"]
    mean = Says(data.catalogue(), [float(train.rating.mean())] * (users + 1))
    assert own < validation_errors(mean, data, own_review=False)["all"]


class Letters:
    """Counts two letters: a sentence encoder that can be checked by hand."""

    identity: dict[str, str] = {}  # noqa: RUF012
    text_dim = 2

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count("t"), text.count("p")] for text in texts], np.float32)


def test_similarity_is_the_cosine_of_mean_vectors(dataset: Dataset) -> None:
    table = similarity_table(dataset, Letters(), reviews=10_000)
    assert list(table) == list(dataset.domains)
    means = {}
    for domain in dataset.domains:
        data = load_ratings(dataset, domain)
        means[domain] = Letters().encode(list(data.texts[1:])).mean(0)
    a, b = means["tea"], means["pans"]
    assert table["tea"]["pans"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-4)
    assert table["tea"]["tea"] == 1
    assert similarity_table(dataset, Letters(), 10, seed=1) == similarity_table(dataset, Letters(), 10, seed=1)


def test_gains_want_evaluated_runs_of_loid(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        gains([tmp_path], {})
