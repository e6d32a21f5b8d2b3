"""ALFM against its formula in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.models.baselines.alfm import ALFM, ALFMConfig, divergence
from tests.models.baselines.reviews import array, batch, catalogue, check_gradient, scramble


@pytest.fixture
def model() -> ALFM:
    config = ALFMConfig(aspects=2, topics=3, embedding_dim=4, reg=0.1, l1=0.2)
    return scramble(ALFM(config, catalogue()))


def test_divergence_by_hand() -> None:
    same = torch.tensor([0.2, 0.8])
    assert float(divergence(same, same)) == pytest.approx(0, abs=1e-7)
    # nearly disjoint: one bit
    assert float(divergence(torch.tensor([1.0, 1e-9]), torch.tensor([1e-9, 1.0]))) == pytest.approx(1, abs=1e-6)
    # p = (1/2, 1/2), q = (1/4, 3/4), middle (3/8, 5/8)
    wanted = 0.5 * (0.5 * np.log2(4 / 3) + 0.5 * np.log2(4 / 5) + 0.25 * np.log2(2 / 3) + 0.75 * np.log2(6 / 5))
    assert float(divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))) == pytest.approx(wanted, rel=1e-5)


def by_hand(model: ALFM, user: int, item: int, user_texts: list[int], item_texts: list[int]) -> float:
    sides = []
    for texts in (user_texts, item_texts):
        count, sums = np.zeros(2), np.zeros((2, 3))
        for text in texts:
            c, s = model.topics(torch.tensor([[text]]))
            count, sums = count + array(c)[0], sums + array(s)[0]
        lam = [(count[a] + 0.5) / (count.sum() + 1) for a in range(2)]
        theta = [(sums[a] + 1 / 3) / (count[a] + 1) for a in range(2)]
        sides.append((lam, theta))
    p, q, w = array(model.user.weight)[user], array(model.item.weight)[item], array(model.weight)
    rating = float(model.bias(torch.tensor([user]), torch.tensor([item])).detach())
    for a in range(2):
        (lu, tu), (li, ti) = sides
        middle = (tu[a] + ti[a]) / 2
        jsd = 0.5 * sum(x[k] * np.log2(x[k] / middle[k]) for x in (tu[a], ti[a]) for k in range(3))
        rating += (lu[a] + li[a]) / 2 * (1 - jsd) * ((w[a] * p) @ (w[a] * q))
    return rating


def test_the_sum_over_aspects_in_plain_loops(model: ALFM) -> None:
    b = batch()
    rows = zip(b.user.tolist(), b.item.tolist(), b.user_texts.tolist(), b.item_texts.tolist())
    expected = [by_hand(model, *row) for row in rows]
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-4)
    loss = model.loss(b)
    assert b.rating is not None
    rec = np.square(np.array(expected) - array(b.rating)).mean()
    users, items = array(model.user.weight)[b.user], array(model.item.weight)[b.item]
    squares = ((users**2).sum(1) + (items**2).sum(1)).mean()
    squares += (array(model.bias.user)[b.user] ** 2 + array(model.bias.item)[b.item] ** 2).mean()
    assert float(loss.total) == pytest.approx(rec + 0.1 * squares + 0.2 * np.abs(array(model.weight)).sum(), rel=1e-4)


def test_without_any_review_aspects_and_topics_are_alike(model: ALFM) -> None:
    importance, theta = model.written_about(torch.zeros(1, 2, dtype=torch.long))
    np.testing.assert_allclose(array(importance), 1 / 2)
    np.testing.assert_allclose(array(theta), 1 / 3, rtol=1e-6)
    importance, theta = model.written_about(torch.tensor([[1, 3]]))
    np.testing.assert_allclose(array(importance.sum(1)), 1, rtol=1e-6)
    np.testing.assert_allclose(array(theta.sum(2)), 1, rtol=1e-6)


def test_gradient(model: ALFM) -> None:
    check_gradient(model, batch())
