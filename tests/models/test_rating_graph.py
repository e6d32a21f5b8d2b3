"""The graph of ratings: where an edge is, and sums, means and softmaxes by place."""

from __future__ import annotations

import numpy as np
import torch

from semacdr.models.rating_graph import RatingGraph, scatter_mean, scatter_softmax, scatter_sum
from tests.models.baselines.reviews import ITEMS, USERS, catalogue


def test_every_edge_is_found_and_nothing_else() -> None:
    order = np.array([3, 0, 5, 1, 4, 2])
    graph = RatingGraph(catalogue(), order)
    edges = list(zip(USERS, ITEMS))
    for user in range(5):
        for item in range(5):
            edge, exists = graph.find(torch.tensor([user]), torch.tensor([item]))
            assert bool(exists) == ((user, item) in edges)
            if exists:
                assert edges[order[int(edge)]] == (user, item)
                assert (int(graph.user[edge]), int(graph.item[edge])) == (user, item)
    assert not graph.state_dict()


def test_scattering_by_hand() -> None:
    place = torch.tensor([2, 0, 2])
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    assert scatter_sum(values, place, 3).tolist() == [[3, 4], [0, 0], [6, 2]]
    assert scatter_mean(values, place, 3).tolist() == [[3, 4], [0, 0], [3, 1]]
    scores = torch.tensor([1000.0, -5.0, 1001.0], requires_grad=True)
    weight = scatter_softmax(scores, place, 3)
    e = np.exp(-1.0)
    np.testing.assert_allclose(weight.detach().numpy(), [e / (1 + e), 1, 1 / (1 + e)], rtol=1e-5)


def test_gradients() -> None:
    torch.manual_seed(0)
    place = torch.tensor([2, 0, 2, 2, 0])
    scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: scatter_softmax(x, place, 3), scores)
    assert torch.autograd.gradcheck(lambda x: scatter_mean(x, place, 3), values)
