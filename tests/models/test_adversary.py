"""Adversaries: values by hand, and that critic and vectors pull in opposite directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from semacdr.models.adversary import conditional_loss, critic, reverse, wasserstein_loss

VECTORS = torch.tensor([[1.0, 2], [3, 0], [0, 1], [2, 2], [4, 1]])
DOMAIN = torch.tensor([0, 0, 1, 1, 1])
LOGITS = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0])


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


def test_reverse_turns_gradients_around() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (reverse(x) * torch.tensor([3.0, 5.0])).sum().backward()
    assert torch.equal(reverse(x), x)
    assert x.grad is not None
    assert x.grad.tolist() == [-3, -5]


def test_conditional_loss_by_hand() -> None:
    weight = [[0.1, 0.2, -0.3, 0.4], [0.5, -0.6, 0.7, 0.8]]
    total = 0.0
    for h, logit, domain in zip(VECTORS.tolist(), LOGITS.tolist(), DOMAIN.tolist()):
        p = 1 / (1 + math.exp(-logit))
        joint = [value * p for value in h] + [value * (1 - p) for value in h]
        scores = [sum(w * value for w, value in zip(row, joint)) for row in weight]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[domain]
    loss = conditional_loss(linear(weight), VECTORS, LOGITS, DOMAIN)
    assert float(loss.detach()) == pytest.approx(total / 5, rel=1e-5)


def test_wasserstein_loss_by_hand() -> None:
    """A linear critic has the same gradient everywhere: lengths 5 and 1."""
    loss = wasserstein_loss(linear([[3.0, 4], [0, 1]]), VECTORS, DOMAIN, 10.0)
    first = (11 + 9) / 2 - (4 + 14 + 16) / 3  # f_0 over domain 0, less f_0 over domain 1
    second = (1 + 2 + 1) / 3 - (2 + 0) / 2
    expected = ((10 * (5 - 1) ** 2 - first) + (10 * 0 - second)) / 2
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_slope_is_taken_between_the_domains() -> None:
    """A relu that is flat at and beyond both sides, and steep between them."""
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
    network[0].weight.data, network[0].bias.data = torch.ones(2, 1), torch.tensor([-1.0, -2.0])
    network[2].weight.data = torch.tensor([[5.0, -5.0], [5.0, -5.0]])
    vectors, domain = torch.tensor([[0.0], [3.0]]), torch.tensor([0, 1])
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        distance = float(wasserstein_loss(network, vectors, domain, 0.0).detach())
        seen.add(round(float(wasserstein_loss(network, vectors, domain, 1.0).detach()) - distance, 4))
    assert seen == {1.0, 16.0, 8.5}  # (0-1)^2, (5-1)^2, and one of each


def test_one_domain_in_a_batch_is_no_distance() -> None:
    vectors = VECTORS.clone().requires_grad_()
    loss = wasserstein_loss(linear([[3.0, 4], [0, 1]]), vectors, torch.zeros(5, dtype=torch.long), 10.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


@pytest.mark.parametrize("kind", ["conditional", "wasserstein"])
def test_the_critic_gets_better_and_the_vectors_make_it_worse(kind: str) -> None:
    torch.manual_seed(0)
    network = critic(4 if kind == "conditional" else 2, 8, 2)

    def loss(vectors: Tensor) -> Tensor:
        if kind == "conditional":
            return conditional_loss(network, vectors, LOGITS, DOMAIN)
        return wasserstein_loss(network, vectors, DOMAIN, 0.0)

    vectors = VECTORS.clone().requires_grad_()
    before = loss(vectors)
    before.backward()
    assert vectors.grad is not None
    moved = float(loss(VECTORS - vectors.grad).detach())
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:  # a bias shifts both sides alike
                parameter -= 0.01 * parameter.grad
    taught = float(loss(VECTORS).detach())
    assert taught < float(before.detach()) - 1e-5 < float(before.detach()) + 1e-5 < moved
