"""CDAN: attention, gate and scores by a plain loop, and what the loss is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semacdr.data.batches import Batch, history_batch
from semacdr.models import pairwise
from semacdr.models.adversary import conditional_loss, wasserstein_loss
from semacdr.models.baselines.cdan import CDAN, CDANConfig
from semacdr.models.pairwise import cross_entropy
from tests.models.baselines.small import catalogue

DOMAINS = [0, 0, 0, 1, 1, 2, 2]
HISTORIES = [[1, 4, 2, 5, 6, 7, 4], [4], [1, 3], [7], []]


def model(domains: int = 3, **settings: Any) -> CDAN:
    """Item 7 is not in training; every weight is large enough to matter."""
    torch.manual_seed(0)
    kept = [domain for domain in DOMAINS if domain < domains]
    config = CDANConfig(**{"embedding_dim": 3, "hidden_dim": 4, "max_seq_len": 8, "attended": 2, **settings})
    one = CDAN(config, catalogue(kept, [1] * (len(kept) - 1) + [0]))
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return one.eval()


def batch(*histories: list[int]) -> Batch:
    return history_batch([np.array(history, np.int32) for history in histories], [0] * len(histories), 8)


def by_hand(one: CDAN, history: list[int], item: int) -> tuple[np.ndarray, float]:
    """The vector h of a user and an item, and its logit."""
    weights = {name: value.detach().numpy() for name, value in one.networks[DOMAINS[item - 1]].named_parameters()}
    table = one.id.weight.detach().numpy() * one.trained.numpy()[:, None]
    known = [event for event in history if one.trained[event]]
    own = [event for event in known if DOMAINS[event - 1] == DOMAINS[item - 1]]
    other = [event for event in known if DOMAINS[event - 1] != DOMAINS[item - 1]][-one.settings.attended :]
    u = np.mean(table[own], axis=0) if own else np.zeros(3)
    hidden = weights["user.weight"] @ u + weights["user.bias"] + weights["item.weight"] @ table[item]
    z = weights["inner.weight"] @ np.maximum(hidden, 0) + weights["inner.bias"]
    c = np.zeros(3)
    if other:
        match = np.exp([z @ (weights["key.weight"] @ table[event]) / 3**0.5 for event in other])
        for share, event in zip(match / match.sum(), other):
            c = c + share * (weights["value.weight"] @ table[event])
    gate = 1 / (1 + np.exp(-(weights["gate.weight"][0] @ np.concatenate([z, c]) + weights["gate.bias"][0])))
    h = z + gate * c
    h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
    return h, float(weights["out.weight"][0] @ h + weights["out.bias"][0])


@pytest.mark.parametrize("domains", [1, 2, 3])
@pytest.mark.parametrize("attended", [1, 2, 20])
def test_scores_by_hand(domains: int, attended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model(domains, attended=attended)
    items = [item for item in range(1, 8) if DOMAINS[item - 1] < domains]
    histories = [[item for item in history if item in items] for history in HISTORIES]
    expected = torch.tensor([[by_hand(one, history, item)[1] for item in items] for history in histories])
    for pairs in (2, 1 << 16):
        monkeypatch.setattr(pairwise, "BLOCK_PAIRS", pairs)
        scores = one.score(one.encode(batch(*histories)), torch.tensor(items))
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)
    lists = torch.tensor([items[::-1]] * len(histories))
    torch.testing.assert_close(one.score(one.encode(batch(*histories)), lists), expected.flip(1), rtol=1e-3, atol=1e-4)


TRAINING = Batch(
    torch.tensor([[1, 4, 2], [5, 6, 0]]),
    torch.tensor([3, 2]),
    torch.tensor([[4, 2, 5], [6, 1, 0]]),
    torch.tensor([1, 0]),
)
EVENTS = [([1], 4), ([1, 4], 2), ([1, 4, 2], 5), ([5], 6), ([5, 6], 1), ([], 1)]


@pytest.mark.parametrize("adversary", ["wasserstein", "conditional"])
def test_loss_by_hand(adversary: str) -> None:
    one = model(adversary=adversary, adversary_weight=0.3, gradient_penalty=0.0, num_negatives=2)
    drawn: list[torch.Tensor] = []
    draw = one.negatives.draw
    one.negatives.draw = lambda *given: drawn.append(draw(*given)) or drawn[0]  # type: ignore[method-assign]
    loss = one.loss(TRAINING)
    pairs = [
        [by_hand(one, history, item) for item in (target, *wrong)]
        for (history, target), wrong in zip(EVENTS, drawn[0].view(-1, 2).tolist())
    ]
    vectors = torch.tensor(np.array([[h for h, _ in row] for row in pairs]), dtype=torch.float32).flatten(0, 1)
    logits = torch.tensor([[logit for _, logit in row] for row in pairs])
    domain = torch.tensor([DOMAINS[target - 1] for _, target in EVENTS]).repeat_interleave(3)
    if adversary == "wasserstein":
        expected = wasserstein_loss(one.critic, vectors, domain, 0.0)
    else:
        expected = conditional_loss(one.critic, vectors, logits.flatten(), domain)
    assert loss.parts["adversary"] == pytest.approx(float(expected.detach()), rel=1e-3)
    assert loss.parts["rec"] == pytest.approx(float(cross_entropy(logits)), rel=1e-3)
    assert float(loss.total.detach()) == pytest.approx(loss.parts["rec"] + 0.3 * loss.parts["adversary"], rel=1e-5)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.0], [0.0, 3.0, 1.0]])
    expected = torch.log1p(torch.exp(torch.tensor([-2.0, -1, 0, 0, 3, 1]))).sum() / 2
    torch.testing.assert_close(cross_entropy(logits), expected)


def test_without_a_weight_or_another_domain_there_is_no_adversary() -> None:
    assert set(model(adversary_weight=0).loss(TRAINING).parts) == {"rec"}
    training = Batch(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([[2]]))
    assert set(model(domains=1).loss(training).parts) == {"rec"}
