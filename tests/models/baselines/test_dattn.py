"""D-Attn against its formulas in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from semacdr.models.baselines.dattn import DAttn, DAttnConfig, Tower
from tests.models.baselines.reviews import array, batch, catalogue, check_gradient, scramble, sigmoid
from tests.models.tiny_bert import write_tiny_bert


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DAttn:
    encoder = str(write_tiny_bert(tmp_path_factory.mktemp("bert")))
    sizes = {"word_dim": 4, "local_kernels": 3, "global_kernels": 2, "hidden": 5, "factors": 2, "max_words": 7}
    return scramble(DAttn(DAttnConfig(encoder=encoder, **sizes), catalogue()))


def convolution(layer: nn.Conv1d, x: np.ndarray, first: int) -> np.ndarray:
    """(words, W) -> (words, C): at word t the filter's first place lies on word t + first."""
    weight, bias = array(layer.weight), array(layer.bias)
    out = np.zeros((len(x), len(weight)))
    for t in range(len(x)):
        out[t] = bias
        for place in range(weight.shape[2]):
            if 0 <= t + first + place < len(x):
                out[t] += weight[:, :, place] @ x[t + first + place]
    return out


def tower_by_hand(tower: Tower, x: np.ndarray) -> np.ndarray:
    near = x * sigmoid(convolution(tower.local_score, x, -2))  # W_l sees x_{t-2..t+2}
    far = x * sigmoid(convolution(tower.global_score, x, -3))  # seven places, centred at t
    parts = [convolution(tower.local_conv, near, 0)]
    for layer, first in zip(tower.global_convs, (0, -1, -1)):  # widths 2, 3, 4
        assert isinstance(layer, nn.Conv1d)
        parts.append(convolution(layer, far, first))
    pooled = np.concatenate([part.max(0, initial=0) for part in parts])  # initial 0: the ReLU
    hidden = np.maximum(array(tower.head[0].weight) @ pooled + array(tower.head[0].bias), 0)
    return array(tower.head[3].weight) @ hidden + array(tower.head[3].bias)


def test_the_whole_prediction_in_plain_loops(model: DAttn) -> None:
    b, expected = batch(), []
    for row in range(3):
        sides = []
        for tower, texts in ((model.user_tower, b.user_texts), (model.item_tower, b.item_texts)):
            words = [w for t in texts[row].tolist() for w in model.words.words[slice(*model.words.offsets[t : t + 2])]]
            vectors = array(model.words.matrix[words[:7]] @ model.words.projection.weight.T)
            sides.append(tower_by_hand(tower, vectors))
        expected.append(float(model.mean) + sides[0] @ sides[1])
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-4)


def test_the_global_attention_reads_the_whole_document_and_the_local_one_does_not(model: DAttn) -> None:
    x = np.random.default_rng(0).normal(size=(7, 4))
    other = x.copy()
    other[6] += 1
    scores = [sigmoid(convolution(model.user_tower.global_score, d, -3)) for d in (x, other)]
    assert not np.isclose(scores[0][3], scores[1][3])
    scores = [sigmoid(convolution(model.user_tower.local_score, d, -2)) for d in (x, other)]
    assert np.isclose(scores[0][3], scores[1][3])


def test_gradient(model: DAttn) -> None:
    check_gradient(model, batch())
