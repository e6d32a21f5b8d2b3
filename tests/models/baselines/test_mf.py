"""Matrix factorisation by hand."""

from __future__ import annotations

import pytest
import torch

from semacdr.models.baselines.mf import MF, MFConfig
from tests.models.baselines.reviews import batch, catalogue, check_gradient, scramble


def test_by_hand() -> None:
    model = MF(MFConfig(embedding_dim=2, reg=0.5), catalogue())
    with torch.no_grad():
        model.bias.mean.fill_(3.0)
        model.bias.user.copy_(torch.tensor([0.0, 0.5, -1.0, 0.0, 0.0]))
        model.bias.item.copy_(torch.tensor([0.0, 0.0, 0.25, 1.0, 0.0]))
        model.user.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]))
        model.item.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, -1.0], [2.0, 1.0], [0.0, 0.0]]))
    # 3 + .5 + .25 + (.5 - 2);  3 - 1 + 1 + 1;  3 alone, because user 4 is unknown and item 1 is zero here
    assert model.predict(batch()).tolist() == [2.25, 4.0, 3.0]
    loss = model.loss(batch())
    assert loss.parts["rec"] == pytest.approx((1.75**2 + 1 + 0) / 3)
    squares = (5 + 1.25 + 0.25 + 0.0625) + (0.25 + 5 + 1 + 1)
    assert float(loss.total.detach()) == pytest.approx(loss.parts["rec"] + 0.5 * squares / 3)


def test_unknown_ids_are_zero_from_the_start_and_stay_so() -> None:
    model = MF(MFConfig(), catalogue())
    assert not model.user.weight[[0, 4]].any()
    assert model.user.weight[1:4].all()
    model.loss(batch()).total.backward()
    assert model.user.weight.grad is not None
    assert not model.user.weight.grad[0].any()


def test_gradient() -> None:
    check_gradient(scramble(MF(MFConfig(embedding_dim=3, reg=0.1), catalogue())), batch())
