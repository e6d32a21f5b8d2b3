"""DeepCoNN against its formulas in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.models.baselines.deepconn import DeepCoNN, DeepCoNNConfig, FactorisationMachine, Tower
from tests.models.baselines.reviews import array, batch, catalogue, check_gradient, scramble
from tests.models.tiny_bert import write_tiny_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DeepCoNN:
    encoder = str(write_tiny_bert(tmp_path_factory.mktemp("bert")))
    config = DeepCoNNConfig(encoder=encoder, word_dim=4, kernels=3, factors=2, fm_dim=2, max_words=8)
    return scramble(DeepCoNN(config, catalogue()))


def test_factorisation_machine_by_hand_and_as_a_sum_over_pairs() -> None:
    fm = FactorisationMachine(3, 2, 1.0)
    with torch.no_grad():
        fm.w.copy_(torch.tensor([1.0, 0.0, -1.0]))
        fm.V.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]]))
    # 1 + (2 - 1) + <v1,v2> 2*3 + <v1,v3> 2*1 + <v2,v3> 3*1 = 2 + 12 + 0 + 9
    assert fm(torch.tensor([[2.0, 3.0, 1.0]])).tolist() == [23.0]
    z = np.random.default_rng(0).normal(size=3)
    V = array(fm.V)
    pairs = sum(V[a] @ V[b] * z[a] * z[b] for a in range(3) for b in range(a + 1, 3))
    value = fm(torch.tensor(z[None], dtype=torch.float32))
    assert float(value.detach()) == pytest.approx(1 + z[0] - z[2] + pairs, rel=1e-5)


def tower_by_hand(tower: Tower, x: np.ndarray) -> np.ndarray:
    """x: (words, W) of one document."""
    weight, bias = array(tower.conv.weight), array(tower.conv.bias)  # (C, W, 3)
    pooled = np.zeros(len(weight))
    for channel in range(len(weight)):
        for t in range(len(x)):
            value = bias[channel]
            for place in (-1, 0, 1):
                if 0 <= t + place < len(x):
                    value += weight[channel, :, place + 1] @ x[t + place]
            pooled[channel] = max(pooled[channel], value)
    return array(tower.linear.weight) @ pooled + array(tower.linear.bias)


def test_the_whole_prediction_in_plain_loops(model: DeepCoNN) -> None:
    b, expected = batch(), []
    for row in range(3):
        sides = []
        for tower, texts in ((model.user_tower, b.user_texts), (model.item_tower, b.item_texts)):
            words = [w for t in texts[row].tolist() for w in model.words.words[slice(*model.words.offsets[t : t + 2])]]
            vectors = array(model.words.matrix[words[:8]] @ model.words.projection.weight.T)
            sides.append(tower_by_hand(tower, vectors))
        z, V = np.concatenate(sides), array(model.fm.V)
        pairs = sum(V[a] @ V[c] * z[a] * z[c] for a in range(4) for c in range(a + 1, 4))
        expected.append(float(model.fm.w0) + array(model.fm.w) @ z + pairs)
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-4)
    assert b.rating is not None
    loss = model.loss(b)
    assert float(loss.total) == pytest.approx(np.square(np.array(expected) - array(b.rating)).mean(), rel=1e-4)


def test_gradient(model: DeepCoNN) -> None:
    check_gradient(model, batch())
