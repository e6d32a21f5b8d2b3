"""UniSRec: the mixture of whitening layers and the temperature, against the formulas."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from semacdr.data.batches import Batch, history_batch
from semacdr.models.baselines.unisrec import NOISE_FLOOR, ExpertAdaptor, UniSRec, UniSRecConfig, Whitening
from tests.models.baselines.small import catalogue

SIZES = {"embedding_dim": 8, "num_layers": 1, "num_heads": 2, "ffn_dim": 12, "max_seq_len": 9, "num_experts": 3}


def model(**settings: object) -> UniSRec:
    """Five items; item 3 has no text, items 2 and 5 have the same, item 5 is not in training."""
    torch.manual_seed(0)
    text = torch.randn(6, 4)
    text[0] = text[3] = 0
    text[5] = text[2]
    items = catalogue([0, 0, 0, 1, 0], [3, 2, 1, 1, 0])
    one = UniSRec(UniSRecConfig(**{**SIZES, **settings}), items, {"content": text})
    for expert in one.adaptor.experts:
        torch.nn.init.normal_(expert.bias)  # with which a text of zeros is no vector of zeros
    return one


@torch.no_grad()
def test_the_adaptor_is_the_gated_sum_of_its_experts() -> None:
    torch.manual_seed(1)
    adaptor = ExpertAdaptor(3, 2, 2, 0.5).eval()
    for parameter in adaptor.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(4, 3)
    out = adaptor(x)
    for row in range(4):
        logits = [sum(float(x[row, e] * adaptor.gate[e, k]) for e in range(3)) for k in range(2)]
        mass = sum(math.exp(logit) for logit in logits)
        for d in range(2):
            expected = 0.0
            for k, expert in enumerate(adaptor.experts):
                projected = sum(float((x[row, e] - expert.bias[e]) * expert.linear.weight[d, e]) for e in range(3))
                expected += math.exp(logits[k]) / mass * projected
            assert abs(float(out[row, d]) - expected) < 1e-5


@torch.no_grad()
def test_dropout_is_on_the_text_and_not_on_the_bias() -> None:
    torch.manual_seed(1)
    layer = Whitening(6, 2, 0.5).train()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(50, 6)
    torch.manual_seed(2)
    out = layer(x)
    torch.manual_seed(2)
    torch.testing.assert_close(out, (layer.dropout(x) - layer.bias) @ layer.linear.weight.T)


def test_the_gate_has_noise_in_training_alone() -> None:
    torch.manual_seed(1)
    adaptor = ExpertAdaptor(3, 2, 2, 0.0)
    x = torch.randn(5, 3)
    assert torch.equal(adaptor.eval().weights(x), torch.full((5, 2), 0.5))  # even to begin with
    torch.nn.init.normal_(adaptor.noise)
    torch.manual_seed(2)
    noisy = adaptor.train().weights(x)
    torch.manual_seed(2)
    noise = torch.randn(5, 2) * (torch.log1p(torch.exp(x @ adaptor.noise)) + NOISE_FLOOR)
    torch.testing.assert_close(noisy, torch.softmax(noise, dim=1))


def test_a_whitening_layer_can_whiten() -> None:
    """With the mean as bias and the inverse root of the covariance as weight, the vectors come out white."""
    torch.manual_seed(1)
    x = torch.randn(500, 3) @ torch.tensor([[2.0, 1, 0], [0, 1, 3], [0, 0, 0.5]]) + 4
    layer = Whitening(3, 3, 0.0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    layer.bias.data, layer.linear.weight.data = x.mean(0), (vectors / values.sqrt()).T
    white = layer(x)
    torch.testing.assert_close(white.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(3), atol=1e-4, rtol=0)


def test_scores_are_cosines_over_the_temperature() -> None:
    one = model(temperature=0.07).eval()
    batch = history_batch([np.array([1, 4, 2], np.int32), np.array([], np.int32)], [0, 0], 9)
    scores = one.score(one.encode(batch), torch.arange(1, 6))
    vectors = one.adaptor(one.text)
    x = F.layer_norm(F.normalize(vectors[[1, 4, 2]], dim=1), (8,), eps=1e-12)[None]
    state = one.encoder(x, torch.tensor([[2, 1, 0]]))[0, 2]
    for user, vector in enumerate((state, one.start.weight[0])):
        expected = F.cosine_similarity(vector[None], vectors[1:], dim=1) / 0.07
        expected[2] = 0  # no text
        torch.testing.assert_close(scores[user], expected)
    assert scores[0, 1] == scores[0, 4]  # a new item goes by its text
    assert scores[0, 0] != scores[0, 1]


def test_loss_by_hand() -> None:
    """Items 1, 2 and 3 are the trained ones of the first domain; item 3's logit is 0."""
    one = model(dropout=0.0, adapter_dropout=0.0).eval()
    batch = Batch(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([[2]]), torch.tensor([1]))
    loss = one.loss(batch).total
    logits = one.score(
        one.encode(history_batch([np.array([1], np.int32), np.array([], np.int32)], [0, 0], 9)), torch.arange(1, 4)
    )
    expected = sum(torch.logsumexp(row, 0) - row[target - 1] for row, target in zip(logits, (2, 1))) / 2
    torch.testing.assert_close(loss, expected)
