"""ANR against its formulas in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.models.baselines.anr import ANR, ANRConfig, Importance
from tests.models.baselines.reviews import array, batch, catalogue, check_gradient, scramble, softmax
from tests.models.tiny_bert import write_tiny_bert

A, H1 = 2, 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ANR:
    encoder = str(write_tiny_bert(tmp_path_factory.mktemp("bert")))
    sizes = {"word_dim": 4, "aspects": A, "aspect_dim": H1, "importance_dim": 5, "max_words": 8}
    return scramble(ANR(ANRConfig(encoder=encoder, reg=0.1, **sizes), catalogue()))


def aspects_by_hand(model: ANR, x: np.ndarray) -> np.ndarray:
    """x: (words, W) -> (A, h1)."""
    out = np.zeros((A, H1))
    for a in range(A):
        M = x @ array(model.attention.project)[a]
        query = array(model.attention.query)[a].reshape(-1)
        padded = np.concatenate([np.zeros((1, H1)), M, np.zeros((1, H1))])
        if len(x):
            scores = np.array([padded[t : t + 3].reshape(-1) @ query for t in range(len(x))])
            out[a] = softmax(scores) @ M
    return out


def importance_by_hand(part: Importance, U: np.ndarray, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's matrices as they are written: aspects in columns."""
    W_s, W_x, W_y = array(part.affinity), array(part.W_x), array(part.W_y)
    S = np.maximum(U @ W_s @ V.T, 0)
    H_u = np.maximum(W_x @ U.T + (W_y @ V.T) @ S.T, 0)
    H_i = np.maximum(W_y @ V.T + (W_x @ U.T) @ S, 0)
    return softmax(array(part.v_x) @ H_u), softmax(array(part.v_y) @ H_i)


def test_the_whole_prediction_in_plain_loops(model: ANR) -> None:
    b, expected = batch(), []
    for row in range(3):
        sides = []
        for texts in (b.user_texts, b.item_texts):
            words = [w for t in texts[row].tolist() for w in model.words.words[slice(*model.words.offsets[t : t + 2])]]
            vectors = array(model.words.matrix[words[:8]] @ model.words.projection.weight.T)
            sides.append(aspects_by_hand(model, vectors))
        U, V = sides
        beta_u, beta_i = importance_by_hand(model.importance, U, V)
        user, item = int(b.user[row]), int(b.item[row])
        rating = float(model.bias(torch.tensor([user]), torch.tensor([item])).detach())
        expected.append(rating + sum(beta_u[a] * beta_i[a] * (U[a] @ V[a]) for a in range(A)))
    np.testing.assert_allclose(array(model.predict(b)), expected, rtol=1e-4)


def test_importance_of_users_and_items_are_not_mixed_up(model: ANR) -> None:
    torch.manual_seed(1)
    U, V = torch.randn(2, 1, A, H1)
    both = [array(beta)[0] for beta in model.importance(U, V)]
    for found, wanted in zip(both, importance_by_hand(model.importance, array(U)[0], array(V)[0])):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert not np.allclose(both[0], both[1])


def test_gradient(model: ANR) -> None:
    check_gradient(model, batch())
