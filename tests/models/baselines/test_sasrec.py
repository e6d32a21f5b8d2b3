"""SASRec against its formulas, in plain numpy: one event at a time, one head at a time."""

from __future__ import annotations

import math

import numpy as np
import torch

from semacdr.data.batches import Batch, history_batch
from semacdr.models.baselines.sasrec import SASRec, SASRecConfig
from tests.models.baselines.small import catalogue

D, H = 8, 2
SIZES = {"embedding_dim": D, "num_layers": 2, "num_heads": H, "ffn_dim": 12, "max_seq_len": 5}


def model(**settings: object) -> SASRec:
    """Six items of two domains, of which item 5 is not in training; every weight and bias drawn."""
    torch.manual_seed(0)
    one = SASRec(SASRecConfig(**{**SIZES, **settings}), catalogue([0, 0, 0, 1, 0, 1], [3, 2, 1, 1, 0, 2])).eval()
    for parameter in one.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return one


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def normed(x: np.ndarray, eps: float) -> np.ndarray:
    return (x - x.mean()) / math.sqrt(x.var() + eps)


def states(one: SASRec, history: list[int]) -> list[np.ndarray]:
    """The state of every event of a history."""
    table, trained = array(one.id.weight), array(one.trained)
    position = array(one.encoder.position.weight)
    x = [
        normed(table[item], 1e-12) * trained[item] + position[len(history) - 1 - at] for at, item in enumerate(history)
    ]
    for block in one.encoder.blocks:

        def norm(vector: np.ndarray, layer: torch.nn.LayerNorm) -> np.ndarray:
            return normed(vector, layer.eps) * array(layer.weight) + array(layer.bias)

        def linear(vector: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
            return array(layer.weight) @ vector + array(layer.bias)

        parts = [np.split(linear(norm(vector, block.attention_norm), block.qkv), 3) for vector in x]
        told = []
        for at in range(len(x)):
            heads = []
            for head in range(H):
                own = slice(head * D // H, (head + 1) * D // H)
                weights = [math.exp(parts[at][0][own] @ parts[b][1][own] / math.sqrt(D / H)) for b in range(at + 1)]
                heads.append(sum(w * parts[b][2][own] for b, w in enumerate(weights)) / sum(weights))
            told.append(x[at] + linear(np.concatenate(heads), block.attention_out))
        x = []
        for vector in told:
            inner = linear(norm(vector, block.ffn_norm), block.ffn[0])
            inner = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in inner])
            x.append(vector + linear(inner, block.ffn[3]))
    last = one.encoder.norm
    return [normed(vector, last.eps) * array(last.weight) + array(last.bias) for vector in x]


def test_a_users_vector_is_the_state_of_the_newest_event() -> None:
    one = model()
    histories = [[1, 4, 2, 5], [3], []]  # item 5 is no event of training: its input is zero
    found = array(one.user_vectors(history_batch(histories, [0, 1, 0], 5)))
    for row, history in enumerate(histories):
        expected = states(one, history)[-1] if history else array(one.start.weight)[0]
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_softmax_over_trained_items_of_the_targets_domain() -> None:
    one = model()
    items = torch.tensor([[1, 4, 2], [3, 6, 0]])
    targets = torch.tensor([[4, 2, 3], [6, 0, 0]])  # domains 1, 0, 0; 1
    batch = Batch(items=items, length=torch.tensor([3, 2]), targets=targets)
    table, domain = array(one.id.weight), [-1, 0, 0, 0, 1, 0, 1]
    losses = []
    for history, wanted in (([1, 4, 2], [4, 2, 3]), ([3, 6], [6, 0])):
        for state, target in zip(states(one, history), wanted):
            if target:
                rivals = [item for item in (1, 2, 3, 4, 6) if domain[item] == domain[target]]
                logits = {item: table[item] @ state for item in rivals}
                losses.append(math.log(sum(map(math.exp, logits.values()))) - logits[target])
    found = one.loss(batch).total.detach()
    torch.testing.assert_close(float(found), float(np.mean(losses)), rtol=1e-5, atol=0)


def test_an_item_outside_training_scores_zero() -> None:
    one = model()
    assert not one.item_vectors()[[0, 5]].any()
    assert torch.equal(one.item_vectors()[[1, 2, 3, 4, 6]], one.id.weight[[1, 2, 3, 4, 6]])
