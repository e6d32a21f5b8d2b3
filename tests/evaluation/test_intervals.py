from __future__ import annotations

import numpy as np
import pytest

from semacdr.evaluation import intervals
from semacdr.evaluation.intervals import bootstrap_means, percentile_interval


def interval(user: np.ndarray, values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    means = bootstrap_means(user.astype(np.int32), values[:, None], np.ones((len(user), 1), np.bool_), 400, seed)
    low, high = percentile_interval(means)
    return float(low[0, 0]), float(high[0, 0])


def test_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        low, high = interval(np.arange(80), random.normal(0.3, 1.0, 80), trial)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199  # 190 expected, minus a little for 80 users


def test_width_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(2).random(2_500)
    low, high = interval(np.arange(2_500), values)
    assert abs((high - low) / (2 * 1.96 * values.std() / 50) - 1) < 0.12


def test_users_are_resampled_not_targets() -> None:
    values = np.random.default_rng(3).random(300)
    once = interval(np.arange(300), values)
    thrice = interval(np.tile(np.arange(300), 3), np.tile(values, 3))
    np.testing.assert_allclose(thrice, once)  # repeating each user's target tells nothing new


def test_how_many_users_are_summed_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    user, values = random.integers(0, 40, 100), random.random(100)
    together = interval(user, values)
    monkeypatch.setattr(intervals, "USERS_AT_ONCE", 7)
    np.testing.assert_allclose(interval(user, values), together)


def test_subsets_and_metrics_are_kept_apart() -> None:
    user = np.arange(4, dtype=np.int32)
    values = np.array([[1.0, 5.0], [1.0, 5.0], [0.0, 7.0], [0.0, 7.0]])
    inside = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1], [0, 1, 1]], bool)
    means = bootstrap_means(user, values, inside, 300)
    assert means.shape == (300, 3, 2)
    low, high = percentile_interval(means)
    np.testing.assert_allclose(low[:2], [[1, 5], [0, 7]])
    np.testing.assert_allclose(high[:2], [[1, 5], [0, 7]])
    assert low[2, 0] < 0.5 < high[2, 0]


def test_the_seed_decides() -> None:
    values = np.random.default_rng(4).random(50)
    assert interval(np.arange(50), values, 1) == interval(np.arange(50), values, 1)
    assert interval(np.arange(50), values, 1) != interval(np.arange(50), values, 2)
