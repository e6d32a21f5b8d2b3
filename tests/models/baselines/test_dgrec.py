"""DGRec: both sides of the graph, the attention over layers and the weighted BPR, by plain loops from the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from semacdr.data.batches import Batch, history_batch
from semacdr.errors import InputError
from semacdr.models.base import SideData
from semacdr.models.baselines import dgrec
from semacdr.models.baselines.dgrec import DGRec, DGRecConfig, event_weights
from semacdr.models.facility import representatives
from tests.models.baselines.small import catalogue, sequences

DOMAINS = [0, 0, 0, 1, 1, 0]
HAD = {0: {1, 2, 4}, 2: {2, 3, 4, 5}, 3: {5}}
TRAIN = sequences([[1, 4, 2, 1], [4, 5, 2, 3], [5]], users=[0, 2, 3])
COUNT = [2, 2, 1, 2, 2, 0]


def model(**settings: Any) -> DGRec:
    """Item 6 is not in training, and neither is user 1."""
    torch.manual_seed(0)
    config = DGRecConfig(**{"embedding_dim": 3, "max_seq_len": 6, "neighbours": 2, "num_negatives": 2, **settings})
    one = DGRec(config, catalogue(DOMAINS, COUNT), side=SideData(num_users=4, train=TRAIN))
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter)
    return one.eval()


def attended(one: DGRec, layers: list[np.ndarray]) -> np.ndarray:
    weight, query = one.attention.weight.detach().numpy(), one.query.detach().numpy()
    logits = [math.exp(query @ (weight @ layer)) for layer in layers]
    return sum(logit / sum(logits) * layer for logit, layer in zip(logits, layers))


def free(one: DGRec) -> np.ndarray:
    return one.id.weight.detach().numpy() * np.array([0, 1, 1, 1, 1, 1, 0])[:, None]


def users_of(item: int) -> list[int]:
    return [user for user, items in HAD.items() if item in items]


def item_by_hand(one: DGRec, item: int) -> np.ndarray:
    v = free(one)
    heard = np.zeros(3)
    for user in users_of(item):
        if one.settings.user_table:
            own = one.user.vectors.weight[user].detach().numpy()
        else:
            own = sum(v[other] for other in HAD[user]) / len(HAD[user])
        heard = heard + own / math.sqrt(len(users_of(item)) * len(HAD[user]))
    return attended(one, [v[item], heard])


def user_by_hand(one: DGRec, history: list[int], own: np.ndarray | None = None) -> np.ndarray:
    v = free(one)
    items = [item for item in dict.fromkeys(history) if item != 6]
    if not items:
        return attended(one, [np.zeros(3) if own is None else own, np.zeros(3)])
    messages = np.array([v[item] / math.sqrt(len(users_of(item))) for item in items])
    member = torch.ones(1, len(items), dtype=torch.bool)
    chosen = representatives(torch.from_numpy(messages)[None], member, one.settings.neighbours)[0].numpy()
    heard = messages[chosen].sum(0) / math.sqrt(len(items))
    return attended(one, [v[items].mean(0) if own is None else own, heard])


def batch(*histories: list[int], user: list[int] | None = None) -> Batch:
    return history_batch([np.array(history, np.int32) for history in histories], [0] * len(histories), 6, user)


HISTORIES = [[1, 4, 2, 1, 5], [3], [], [6, 2, 6, 3, 4], [6]]


@pytest.mark.parametrize("neighbours", [1, 2, 20])
def test_scores_by_hand(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model(neighbours=neighbours)
    items = np.array([item_by_hand(one, item) for item in range(1, 7)])
    expected = np.array([[user_by_hand(one, history) @ item for item in items] for history in HISTORIES])
    assert abs(expected[[0, 1, 3], :5]).min() > 1e-3
    for block in (1, 2, 512):
        monkeypatch.setattr(dgrec, "BLOCK_HISTORIES", block)
        with torch.no_grad():
            scores = one.score(one.encode(batch(*HISTORIES)), torch.arange(1, 7)).numpy()
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_table_of_users_by_hand() -> None:
    one = model(user_table=True)
    own = one.user.vectors.weight[2].detach().numpy()
    expected = [user_by_hand(one, [1, 5], own) @ item_by_hand(one, item) for item in range(1, 7)]
    scores = one.score(one.encode(batch([1, 5], user=[2])), torch.arange(1, 7))[0]
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="user_table=false"):
        one.encode(batch([1, 5], user=[1]))


def test_loss_by_hand() -> None:
    one = model(balance=0.5)
    training = Batch(
        torch.tensor([[1, 4, 2], [5, 3, 0]]),
        torch.tensor([3, 2]),
        torch.tensor([[4, 2, 5], [3, 0, 0]]),
        torch.tensor([1, 5]),
    )
    drawn: list[torch.Tensor] = []
    draw = one.negatives.draw
    one.negatives.draw = lambda *given: drawn.append(draw(*given)) or drawn[0]  # type: ignore[method-assign]
    loss = float(one.loss(training).total.detach())
    events = [([1], 4), ([1, 4], 2), ([1, 4, 2], 5), ([5], 3)]
    # of four items with two events and one with one: 2/3 and 1 before the mean is made 1
    weight = {item: (1 if item == 3 else 2 / 3) / ((1 + 4 * 2 / 3) / 5) for item in range(1, 6)}
    total = 0.0
    for (history, target), wrong in zip(events, drawn[0].view(-1, 2).tolist()):
        user = user_by_hand(one, history)
        assert all(DOMAINS[item - 1] == DOMAINS[target - 1] and item != 6 for item in wrong)
        gaps = [user @ (item_by_hand(one, target) - item_by_hand(one, item)) for item in wrong]
        total += weight[target] * sum(math.log(1 + math.exp(-gap)) for gap in gaps) / 2
    assert loss == pytest.approx(total / 4, rel=1e-4)


def test_weights_of_events() -> None:
    count = torch.tensor([0, 1, 2, 0, 5])
    expected = [0.1 / (1 - 0.9**n) for n in (1, 2, 5)]
    weights = event_weights(count, 0.9)
    assert weights[[0, 3]].tolist() == [0, 0]
    assert weights[[1, 2, 4]].tolist() == pytest.approx([w * 3 / sum(expected) for w in expected])
    assert event_weights(count, 0.0).tolist() == [0, 1, 1, 0, 1]
