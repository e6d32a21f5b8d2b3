"""The evaluation of rating models: MSE, MAE and RMSE of held-out ratings, with intervals over users.

Predictions are clipped to the scale. Protocol ``rating`` scores a pair with historical reviews of the training part
alone. Protocol ``rating-own-review`` lets the pair's own review be among them, for a model that was trained so: it
shows how far a leaking label carries, and no such number is a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np
import pandas as pd
import torch

from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import Histories, pair_batches
from semacdr.data.ratings import HIGHEST, LOWEST, RatingData
from semacdr.data.schema import BoolArray, Float64Array, FloatArray, SplitName
from semacdr.errors import InputError, SemacdrError, nearest
from semacdr.evaluation.evaluate import ALL, ITEM_BUCKETS, RESAMPLES, USER_BUCKETS, Result, buckets
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval
from semacdr.evaluation.protocols import Protocol
from semacdr.models.rating import RatingRecommender
from semacdr.progress import Progress

METRICS = ("mse", "mae", "rmse")
RATING, OWN_REVIEW = "rating", "rating-own-review"
PROTOCOLS: Mapping[str, Protocol] = {name: Protocol(name, rates=True) for name in (RATING, OWN_REVIEW)}
BATCH_SIZE = 256


def get_rating_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        InputError: an unknown name, or one of a ranking.
    """
    if name not in PROTOCOLS:
        raise InputError(f"no protocol {name!r} for a rating model", fix=nearest(name, PROTOCOLS))
    return PROTOCOLS[name]


def predict(
    model: RatingRecommender,
    data: RatingData,
    on: SplitName,
    own_review: bool = False,
    progress: Progress | None = None,
) -> FloatArray:
    """(E',) predictions for one part, clipped to the scale, in the order of ``data.rows(on)``.

    Raises:
        SemacdrError: the model gives numbers that are none.
    """
    pairs = data.ratings.select(data.rows(on))
    histories = Histories(model.catalogue, model.history_size, own_review)
    device = next(chain(model.buffers(), model.parameters())).device
    out = np.zeros(len(pairs), np.float32)
    model.prepare()
    with torch.no_grad():
        for rows, batch in pair_batches(histories, pairs, BATCH_SIZE, model.reads_own_review):
            out[rows] = model.predict(batch.to(device)).float().cpu().numpy()
            if progress:
                progress.update(len(rows))
    if not np.isfinite(out).all():
        raise SemacdrError(
            f"{type(model).__name__} predicts ratings that are not finite numbers",
            fix="the training has probably diverged: try a lower learning_rate",
        )
    return np.clip(out, LOWEST, HIGHEST)


def validation_errors(model: RatingRecommender, data: RatingData, own_review: bool) -> dict[str, float]:
    """Mean squared error on the validation part."""
    error = predict(model, data, "valid", own_review) - data.ratings.rating[data.rows("valid")]
    return {ALL: float(np.square(error, dtype=np.float64).mean())}


def evaluate_ratings(
    model: RatingRecommender,
    dataset: Dataset,
    data: RatingData,
    protocol: str = RATING,
    on: SplitName = "test",
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
) -> Result:
    """Predicts the held-out ratings of a part and sums up.

    Args:
        model: a trained model.
        dataset: the data set.
        data: its ratings, as they were divided for the training of the model.
        protocol: ``rating`` or ``rating-own-review``.
        on: ``test``, to be read once, or ``valid``.
        resamples: of the bootstrap over users.
        progress: counts pairs, and is closed.

    Returns:
        a result whose ``per_user`` has one row a pair: ``user_id, item_id, domain, rating, prediction,
        user_train_count, item_train_count``.
    """
    chosen = get_rating_protocol(protocol)
    if not len(data.rows(on)):
        raise InputError(f"no {on} ratings", where=dataset.name)
    predicted = predict(model, data, on, chosen.name == OWN_REVIEW, progress)
    if progress:
        progress.close()
    pairs = data.ratings.select(data.rows(on))
    frame = pd.DataFrame(
        {
            "user_id": data.user_ids[pairs.user],
            "item_id": data.item_ids[pairs.item],
            "domain": data.domain,
            "rating": pairs.rating,
            "prediction": predicted,
            "user_train_count": model.catalogue.user_count[pairs.user],
            "item_train_count": model.catalogue.item_count[pairs.item],
        }
    )
    statistics = _statistics(frame, pairs.user, data.domain, resamples)
    return Result(dataset.name, "random 8:1:1", on, chosen, type(model).__name__, statistics, frame)


def errors(frame: pd.DataFrame) -> Float64Array:
    """(n, 2) squared and absolute error of each pair."""
    error = frame["prediction"].to_numpy(np.float64) - frame["rating"].to_numpy(np.float64)
    return np.stack([error**2, np.abs(error)], axis=1)


def rating_subsets(frame: pd.DataFrame) -> dict[str, BoolArray]:
    """Which pairs belong to which subset: all, and the cold buckets of items and of users."""
    return {
        ALL: np.ones(len(frame), np.bool_),
        **buckets("item", frame["item_train_count"].to_numpy(), ITEM_BUCKETS),
        **buckets("user", frame["user_train_count"].to_numpy(), USER_BUCKETS),
    }


def _statistics(frame: pd.DataFrame, user: np.ndarray, domain: str, resamples: int) -> list[dict[str, object]]:
    """One row for each subset that has a pair and each metric; the domain's row stands for ``all`` too."""
    values = errors(frame)
    inside = {name: member for name, member in rating_subsets(frame).items() if member.any()}
    means = bootstrap_means(user, values, np.stack(list(inside.values()), axis=1), resamples)  # (R, S, 2)
    means = np.concatenate([means, np.sqrt(means[:, :, :1])], axis=2)
    low, high = percentile_interval(means)
    rows: list[dict[str, object]] = []
    for at, (subset, member) in enumerate(inside.items()):
        mse, mae = values[member].mean(axis=0)
        for column, mean in enumerate((mse, mae, np.sqrt(mse))):
            for place in (ALL, domain):
                rows.append(
                    {
                        "subset": subset,
                        "domain": place,
                        "metric": METRICS[column],
                        "mean": float(mean),
                        "ci_low": float(low[at, column]),
                        "ci_high": float(high[at, column]),
                        "n_users": len(np.unique(user[member])),
                        "n_targets": int(member.sum()),
                        "candidates_min": None,
                        "candidates_max": None,
                    }
                )
    return rows
