"""CoNet and SCoNet: the forward pass by a plain loop from the formulas, training as scoring, users, the lasso."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semacdr.data.batches import Batch, history_batch
from semacdr.errors import InputError
from semacdr.models import pairwise
from semacdr.models.base import SideData
from semacdr.models.baselines.conet import CoNet, CoNetConfig
from semacdr.models.baselines.sconet import SCoNet, SCoNetConfig
from tests.models.baselines.small import catalogue, sequences

DOMAINS = [0, 0, 0, 1, 1, 2, 2]
SMALL = {"embedding_dim": 3, "tower_dims": [5, 4, 2], "max_seq_len": 6}
TRAIN = sequences([[1, 4, 2], [4, 5, 6, 3]], users=[0, 2])


def model(cls: type[CoNet] = CoNet, domains: int = 3, **settings: Any) -> CoNet:
    """Item 7 is not in training; every weight is large enough to matter."""
    torch.manual_seed(0)
    kept = [domain for domain in DOMAINS if domain < domains]
    config = (SCoNetConfig if cls is SCoNet else CoNetConfig)(**{**SMALL, **settings})
    count = [1] * (len(kept) - 1) + [0]
    one = cls(config, catalogue(kept, count), side=SideData(num_users=4, train=TRAIN))
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return one.eval()


def batch(*histories: list[int], user: list[int] | None = None) -> Batch:
    return history_batch([np.array(history, np.int32) for history in histories], [0] * len(histories), 6, user)


def by_hand(one: CoNet, history: list[int], item: int, user: np.ndarray | None = None) -> float:
    """The formulas of the module, one neuron at a time."""
    table = one.id.weight.detach().numpy() * one.trained.float().numpy()[:, None]
    own, domains = DOMAINS[item - 1], one.num_domains
    known = [event for event in history if one.trained[event]]

    def mean(events: list[int]) -> np.ndarray:
        return np.mean([table[event] for event in events], axis=0) if events else np.zeros(table.shape[1])

    u = mean(known) if user is None else user
    a = [np.concatenate([u, mean([event for event in known if DOMAINS[event - 1] == d])]) for d in range(domains)]
    a[own] = np.concatenate([u, table[item]])
    for level, width in enumerate(one.settings.tower_dims):
        above = []
        for d in range(domains):
            layer = one.towers[d][level]
            neurons = []
            for k in range(width):
                total = float(layer.weight[k].detach().numpy() @ a[d] + layer.bias[k].item())
                if level < one.settings.cross_layers and domains > 1:
                    h = one.cross[level][k].detach().numpy()
                    total += float(np.mean([h @ a[e] for e in range(domains) if e != d]))
                neurons.append(max(0.0, total))
            above.append(np.array(neurons))
        a = above
    return float(one.out[own].weight[0].detach().numpy() @ a[own] + one.out[own].bias.item())


@pytest.mark.parametrize("domains", [1, 2, 3])
@pytest.mark.parametrize("cross_layers", [0, 1, 2, 3])
def test_forward_pass_by_hand(domains: int, cross_layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model(domains=domains, cross_layers=cross_layers)
    items = [item for item in range(1, 8) if DOMAINS[item - 1] < domains]
    histories = [[1, 2, 1], [3], []] if domains == 1 else [[1, 4, 2, 5], [4], [1, 3], []]
    expected = torch.tensor([[by_hand(one, history, item) for item in items] for history in histories])
    for pairs in (2, 1 << 16):
        monkeypatch.setattr(pairwise, "BLOCK_PAIRS", pairs)
        scores = one.score(one.encode(batch(*histories)), torch.tensor(items))
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    lists = torch.tensor([items[::-1]] * len(histories))
    torch.testing.assert_close(one.score(one.encode(batch(*histories)), lists), expected.flip(1), rtol=1e-4, atol=1e-5)


def test_scoring_has_the_cross_term() -> None:
    """The defect of a public version: predict() without it."""
    one = model(domains=2)
    before = one.score(one.encode(batch([1, 4])), torch.tensor([2, 5]))
    for matrix in one.cross:
        torch.nn.init.zeros_(matrix)
    after = one.score(one.encode(batch([1, 4])), torch.tensor([2, 5]))
    assert ((before - after).abs() > 1e-3).all()


def test_what_the_user_has_elsewhere_reaches_the_score() -> None:
    """Through the other tower alone: the user's own vector is a row of the table here."""
    one = model(domains=2, user_table=True)
    scores = [one.score(one.encode(batch(history, user=[0])), torch.tensor([2])) for history in ([1, 4], [1, 5])]
    assert abs(float(scores[0] - scores[1])) > 1e-4
    one = model(domains=2, user_table=True, cross_layers=0)
    scores = [one.score(one.encode(batch(history, user=[0])), torch.tensor([2])) for history in ([1, 4], [1, 5])]
    assert torch.equal(*scores)


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_the_loss_is_the_cross_entropy_of_the_scores(num_negatives: int) -> None:
    one = model(num_negatives=num_negatives)
    training = Batch(
        torch.tensor([[1, 4, 2], [5, 6, 0]]),
        torch.tensor([3, 2]),
        torch.tensor([[4, 2, 5], [6, 1, 0]]),
        torch.tensor([1, 0]),
    )
    drawn: list[torch.Tensor] = []
    draw = one.negatives.draw
    one.negatives.draw = lambda *given: drawn.append(draw(*given)) or drawn[0]  # type: ignore[method-assign]
    loss = one.loss(training).total
    events = [([1], 4), ([1, 4], 2), ([1, 4, 2], 5), ([5], 6), ([5, 6], 1), ([], 1)]
    wrong = drawn[0].view(-1, num_negatives).tolist()
    total = 0.0
    for (history, target), items in zip(events, wrong):
        owned = [1, 4, 2, 5] if history[:1] == [1] or not history else [5, 6, 1]
        for item in items:  # of the same domain, trained, and not the user's where there is another
            assert DOMAINS[item - 1] == DOMAINS[target - 1]
            assert item != 7
            rest = {1, 2, 3, 4, 5, 6} - set(owned)
            assert item not in owned or not any(DOMAINS[other - 1] == DOMAINS[target - 1] for other in rest)
        total += F.softplus(torch.tensor(-by_hand(one, history, target))).item()
        total += sum(F.softplus(torch.tensor(by_hand(one, history, item))).item() for item in items)
    assert float(loss.detach()) == pytest.approx(total / len(events), rel=1e-4)


def test_users_of_the_table() -> None:
    one = model(user_table=True)
    users = one.encode(batch([1], [4], user=[2, 0]))[0]
    assert torch.equal(users, one.user.vectors.weight[[2, 0]])
    for strangers in ([1], [-1], None):  # user 1 has no training sequence
        with pytest.raises(InputError, match="1 to be scored are not among them"):
            one.encode(batch([1], user=strangers))
    assert torch.equal(model().encode(batch([1], user=[1]))[0], model().encode(batch([1]))[0])


def test_the_lasso_is_the_sum_of_sizes() -> None:
    training = Batch(torch.tensor([[1, 4]]), torch.tensor([2]), torch.tensor([[4, 2]]))
    losses = []
    for one in (model(SCoNet, l1_weight=0.5), model()):
        torch.manual_seed(3)
        losses.append(float(one.loss(training).total.detach()))
    sizes = sum(abs(value) for matrix in model().cross for row in matrix.tolist() for value in row)
    assert losses[0] - losses[1] == pytest.approx(0.5 * sizes, rel=1e-5)
    alone = model(SCoNet, domains=1).loss(Batch(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([[2]])))
    assert "lasso" not in alone.parts
