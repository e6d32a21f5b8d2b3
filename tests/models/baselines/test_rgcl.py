"""RGCL against its formulas, edge by edge in plain loops; the pair's own edge left out, exactly."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf

from semacdr.data.rating_batches import RatingBatch
from semacdr.errors import InputError
from semacdr.models.baselines.rgcl import RGCL, Messages, RGCLConfig
from semacdr.models.whitening import whiten
from tests.models.baselines.reviews import (
    ITEMS,
    STARS,
    TEXTS,
    USERS,
    array,
    batch,
    catalogue,
    check_gradient,
    scramble,
    sigmoid,
    softmax,
)
from tests.models.tiny_bert import write_tiny_bert

LEVELS = [1, 2, 3, 4, 5]


def make(**settings: Any) -> RGCL:
    """Reviews of the six edges are random vectors here; no encoder is needed."""
    model = scramble(RGCL(RGCLConfig(**{"embedding_dim": 3, "review_dim": 2, **settings}), catalogue()))
    model.encoded.fill_(True)
    torch.manual_seed(2)
    model.reviews.normal_()
    return model


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / 2**0.5)) / 2


def node_by_hand(model: RGCL, side: str, node: int, without: tuple[int, int] | None) -> np.ndarray:
    """h of a user or an item, in the graph that lacks the edge ``without``."""
    part: Messages = model.to_users if side == "user" else model.to_items
    out = model.user_out if side == "user" else model.item_out
    edges = [(u, i, r) for u, i, r in zip(USERS, ITEMS, STARS) if (u, i) != without]
    place = 0 if side == "user" else 1
    near = [edge for edge in edges if edge[place] == node]
    total = np.zeros(3)
    for u, i, r in near:
        e = array(model.reviews)[int(model.graph.find(torch.tensor([u]), torch.tensor([i]))[0])]
        level, other = LEVELS.index(r), (u, i)[1 - place]
        c = sum(edge[1 - place] == other for edge in edges) ** -0.5
        h = array(part.ids)[level, other]
        total += c * (
            h * sigmoid(array(part.w1)[level] @ e) + (e @ array(part.W2)[level]) * sigmoid(array(part.w3)[level] @ e)
        )
    c = max(1, len(near)) ** -0.5
    return array(out.weight) @ gelu(c * total) + array(out.bias)


def rating_by_hand(model: RGCL, user: int, item: int, own: bool = False) -> tuple[float, np.ndarray, np.ndarray]:
    without = None if own else (user, item)
    h = [node_by_hand(model, "user", user, without), node_by_hand(model, "item", item, without)]
    f = array(model.pair[2].weight) @ np.maximum(array(model.pair[0].weight) @ np.concatenate(h), 0)
    p = softmax(array(model.classify.weight) @ f)
    return float(p @ LEVELS), p, f


def test_messages_and_the_expected_rating_in_plain_loops() -> None:
    model, b = make(), batch()  # the first two pairs are training edges, user 4 has none
    expected = [rating_by_hand(model, u, i)[0] for u, i in zip(b.user.tolist(), b.item.tolist())]
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-5)
    leaky = make(faithful=True)
    expected = [rating_by_hand(leaky, u, i, own=True)[0] for u, i in zip(b.user.tolist(), b.item.tolist())]
    np.testing.assert_allclose(array(leaky.predict(b)), expected, rtol=1e-5)
    assert not np.isclose(array(leaky.predict(b))[:2], array(model.predict(b))[:2]).any()


@pytest.mark.parametrize("faithful", [False, True])
def test_the_pairs_own_edge_says_nothing_unless_faithful(faithful: bool) -> None:
    model, b = (
        make(faithful=faithful, embedding_dim=8, dropout=0.1, edge_dropout=0.1),
        batch(user=torch.tensor([1]), item=torch.tensor([2]), rating=torch.tensor([4.0])),
    )
    other = deepcopy(model)
    edge = int(model.graph.find(b.user, b.item)[0])
    other.reviews[edge] += 1
    with torch.no_grad():  # and the vectors of that rating, which no other edge of the two has
        for part in (other.to_users, other.to_items):
            part.ids[LEVELS.index(4)] += 1
    same = bool(torch.isclose(model.predict(b), other.predict(b), rtol=1e-6).all())
    assert same is not faithful
    for one in (model, other):
        one.train()
    losses = []
    for one in (model, other):
        torch.manual_seed(0)
        losses.append(one.loss(b).parts)
    assert np.isclose(losses[0]["rec"], losses[1]["rec"], rtol=1e-6) == (not faithful)
    assert losses[0]["ed"] != losses[1]["ed"]  # where the review is the answer
    neighbour = batch(user=torch.tensor([1]), item=torch.tensor([3]))
    assert not torch.isclose(model.eval().predict(neighbour), other.eval().predict(neighbour)).any()


def test_the_losses_in_plain_loops() -> None:
    model = make(edge_dropout=0.0, dropout=0.0, nd_weight=0.3, ed_weight=0.7)
    b = RatingBatch(
        torch.tensor([1, 3]), torch.tensor([2, 1]), torch.zeros(2, 0), torch.zeros(2, 0), torch.tensor([4.0, 2.0])
    )  # with two pairs, each is the other's wrong answer; the second has no review
    loss = model.loss(b)
    rows = [rating_by_hand(model, 1, 2), rating_by_hand(model, 3, 1)]
    ce = -np.mean([np.log(rows[0][1][3]), np.log(rows[1][1][1])])
    assert loss.parts["rec"] == pytest.approx(ce, rel=1e-5)
    edges = model.graph.find(b.user, b.item)[0]
    e, W = array(model.reviews[edges]), array(model.edges.weight)
    right = np.log1p(np.exp(-(rows[0][2] @ W @ e[0])))
    wrong = np.log1p(np.exp(rows[1][2] @ W @ e[0]))  # only the first review is there, as an answer to either
    assert loss.parts["ed"] == pytest.approx(right + wrong, rel=1e-5)  # and so for the second view, and their mean
    nd = 0.0
    for side, part, ids in (("user", model.users, b.user), ("item", model.items, b.item)):
        h = [node_by_hand(model, side, int(ids[row]), pair) for row, pair in enumerate(((1, 2), (3, 1)))]
        W = array(part.weight)
        terms = [np.log1p(np.exp(-(h[row] @ W @ h[row]))) for row in range(2)]
        terms += [np.log1p(np.exp(h[row] @ W @ h[1 - row])) for row in range(2)]
        nd += np.mean(terms)
    assert loss.parts["nd"] == pytest.approx(nd, rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(ce + 0.3 * nd + 0.7 * loss.parts["ed"], rel=1e-5)


def test_a_discrimination_is_half_the_published_sum_of_right_and_wrong() -> None:
    """So that ED over two views, and ND over two sides, are the published means of the sums."""
    part, ids = make().users, torch.arange(2)
    left, right = torch.randn(2, 3), torch.randn(2, 3)
    scores = left @ part.weight @ right.T
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    published = bce(scores.diag(), torch.ones(2)) + bce(scores.flip(1).diag(), torch.zeros(2))
    torch.testing.assert_close(2 * part(left, right, ids, torch.ones(2, dtype=torch.bool)), published)


def test_weights_and_dropout_are_those_published_for_digital_music() -> None:
    made = RGCLConfig()
    assert (made.dropout, made.edge_dropout, made.nd_weight, made.ed_weight) == (0.7, 0.7, 0.3, 1.0)
    model = make(embedding_dim=1, edge_dropout=0.5).train()
    torch.manual_seed(0)
    seen = torch.stack([model.view()[0][:, 0] for _ in range(400)])  # (400, E) messages to users
    assert ((seen == 0).double().mean(0) - 0.5).abs().max() < 0.1
    torch.testing.assert_close(seen[0][seen[0] != 0], 2 * model.eval().view()[0][:, 0][seen[0] != 0])


def test_the_same_id_is_no_wrong_answer() -> None:
    part = make().users
    left = torch.randn(2, 3)
    alone = part(left, left, torch.tensor([1, 1]), torch.tensor([True, True]))
    torch.testing.assert_close(alone, torch.nn.functional.softplus(-((left @ part.weight) * left).sum(1)).mean())


def test_gradient() -> None:
    check_gradient(make(), batch(user=torch.tensor([1, 2, 3]), item=torch.tensor([2, 3, 3])))


def test_whitened_reviews_are_uncorrelated_and_flat_axes_are_zero() -> None:
    torch.manual_seed(0)
    cloud = torch.randn(200, 4) @ torch.randn(4, 6) + 3  # four directions in six dimensions
    white = whiten(cloud, 5)
    assert white.shape == (200, 5)
    assert not white[:, 4].any()
    np.testing.assert_allclose(array(white.T @ white)[:4, :4] / 200, np.eye(4), atol=1e-4)
    np.testing.assert_allclose(array(white.mean(0)), 0, atol=1e-5)


def test_edges_carry_the_vectors_of_their_own_training_reviews(tmp_path: Path) -> None:
    encoder = str(write_tiny_bert(tmp_path / "bert"))
    config = RGCLConfig(encoder=encoder, review_dim=3)
    model = RGCL(config, catalogue()).eval()
    model.predict(batch())
    edges = [int(model.graph.find(torch.tensor([u]), torch.tensor([i]))[0]) for u, i in zip(USERS, ITEMS)]
    vectors = array(model.reviews)[edges]  # in the order of the ratings: texts 1 to 5, and none
    assert not vectors[5].any()
    np.testing.assert_allclose(vectors[:5].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.square(vectors[:5]).mean(0), 1, rtol=1e-3)
    other = RGCL(config, replace(catalogue(), texts=(*TEXTS[:6], "very very good"))).eval()  # text 6 is held out
    other.predict(batch())
    assert torch.equal(other.reviews, model.reviews)
    fresh = RGCL(RGCLConfig(encoder="/gone", review_dim=3), catalogue()).eval()
    fresh.load_state(model.state_dict())  # needs no encoder
    assert torch.equal(fresh.predict(batch()), model.predict(batch()))


def test_too_many_different_ratings_are_refused() -> None:
    made = catalogue()
    many = replace(made.train.select(np.arange(6).repeat(5)), rating=np.linspace(1, 5, 30).astype(np.float32))
    with pytest.raises(InputError, match="30 different ones"):
        RGCL(RGCLConfig(), replace(made, train=many))
