"""BiGI against its formulas, node by node in plain loops."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from semacdr.models.baselines.bigi import BiGI, BiGIConfig, Layer
from tests.models.baselines.reviews import (
    ITEMS,
    USERS,
    array,
    batch,
    catalogue,
    check_gradient,
    scramble,
    sigmoid,
    softmax,
)

Edges = list[tuple[int, int]]
ALL: Edges = list(zip(USERS, ITEMS))
D = 3


def make(**settings: Any) -> BiGI:
    model = scramble(
        BiGI(BiGIConfig(**{"embedding_dim": D, "infomax_weight": 0.4, "reg": 0.1, **settings}), catalogue())
    )
    with torch.no_grad():  # as it starts: ids that training never saw are zero
        for table in (model.user, model.item):
            table.weight[[0, 4]] = 0
    return model


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def mean(vectors: list[np.ndarray]) -> np.ndarray:
    return np.mean(vectors, axis=0) if vectors else np.zeros(D)


def side_by_hand(layer: Layer, own: list[np.ndarray], edges: Edges, place: int) -> list[np.ndarray]:
    W = [array(layer.there.weight), array(layer.back.weight), array(layer.join.weight)]
    b = [array(layer.there.bias), array(layer.back.bias)]
    between = [leaky(W[0] @ mean([own[e[place]] for e in edges if e[1 - place] == other]) + b[0]) for other in range(5)]
    seen = [leaky(W[1] @ mean([between[e[1 - place]] for e in edges if e[place] == node]) + b[1]) for node in range(5)]
    return [W[2] @ np.concatenate([seen[node], own[node]]) for node in range(5)]


def nodes_by_hand(model: BiGI, edges: Edges) -> tuple[list[np.ndarray], list[np.ndarray]]:
    users, items = list(array(model.user.weight)), list(array(model.item.weight))
    for user_layer, item_layer in zip(model.user_layers, model.item_layers):
        assert isinstance(user_layer, Layer)
        assert isinstance(item_layer, Layer)
        users, items = side_by_hand(user_layer, users, edges, 0), side_by_hand(item_layer, items, edges, 1)
    return users, items


def local_by_hand(
    model: BiGI, users: list[np.ndarray], items: list[np.ndarray], edges: Edges, pair: tuple[int, int]
) -> np.ndarray:
    u, v = pair

    def half(query: Any, key: Any, node: np.ndarray, near: list[np.ndarray]) -> np.ndarray:
        if not near:
            return sigmoid(node)
        scores = np.array([(array(key.weight) @ x) @ (array(query.weight) @ node) / D**0.5 for x in near])
        return sigmoid(node + softmax(scores) @ np.stack(near))

    of_user = half(model.user_query, model.user_key, users[u], [items[e[1]] for e in edges if e[0] == u])
    of_item = half(model.item_query, model.item_key, items[v], [users[e[0]] for e in edges if e[1] == v])
    return np.concatenate([of_user, of_item])


def rating_by_hand(model: BiGI, users: list[np.ndarray], items: list[np.ndarray], u: int, v: int) -> float:
    return float(users[u] @ items[v] + float(model.bias(torch.tensor([u]), torch.tensor([v])).detach()))


def test_the_prediction_in_plain_loops() -> None:
    model, b = make(), batch()
    users, items = nodes_by_hand(model, ALL)
    expected = [rating_by_hand(model, users, items, u, v) for u, v in zip(b.user.tolist(), b.item.tolist())]
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-4)


@pytest.mark.parametrize("own_edge", [False, True])
def test_the_loss_in_plain_loops(own_edge: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(own_edge=own_edge)
    b = batch(user=torch.tensor([1, 2]), item=torch.tensor([2, 3]), rating=torch.tensor([4.0, 5.0]))
    edges = ALL if own_edge else [e for e in ALL if e not in ((1, 2), (2, 3))]
    monkeypatch.setattr(torch, "randperm", lambda n: torch.arange(n).roll(1))  # item ends move by one; so do the chosen
    users, items = nodes_by_hand(model, edges)
    rec = np.mean([(rating_by_hand(model, users, items, *p) - r) ** 2 for p, r in (((1, 2), 4), ((2, 3), 5))])
    known = np.concatenate([np.mean(users[1:4], axis=0), np.mean(items[1:4], axis=0)])
    first, last = model.readout[0], model.readout[2]
    hidden = np.maximum(array(first.weight) @ sigmoid(known) + array(first.bias), 0)
    g = array(last.weight) @ hidden + array(last.bias)
    shuffled = [(edge[0], edges[at - 1][1]) for at, edge in enumerate(edges)]
    wrong_users, wrong_items = nodes_by_hand(model, shuffled)
    terms = []
    for pair in ((1, 2), (2, 3)):
        score = local_by_hand(model, users, items, edges, pair) @ array(model.agree.weight) @ g
        terms.append(np.log1p(np.exp(-score)))
    for pair in (shuffled[-1], shuffled[0]):
        score = local_by_hand(model, wrong_users, wrong_items, shuffled, pair) @ array(model.agree.weight) @ g
        terms.append(np.log1p(np.exp(score)))
    loss = model.loss(b)
    assert loss.parts["rec"] == pytest.approx(rec, rel=1e-4)
    assert loss.parts["infomax"] == pytest.approx(np.mean(terms), rel=1e-4)
    squares = (array(model.bias.user)[[1, 2]] ** 2 + array(model.bias.item)[[2, 3]] ** 2).mean()
    assert float(loss.total.detach()) == pytest.approx(0.4 * np.mean(terms) + 0.6 * rec + 0.1 * squares, rel=1e-4)


def test_who_training_never_saw_has_no_part_in_the_whole() -> None:
    model = make()
    other = deepcopy(model)
    with torch.no_grad():
        users, items = model.nodes(model.graph.user, model.graph.item)
        moved = users.clone()
        moved[[0, 4]] += 5
    assert torch.equal(model.whole(users, items), other.whole(moved, items))


def test_gradient() -> None:
    check_gradient(make(), batch())
