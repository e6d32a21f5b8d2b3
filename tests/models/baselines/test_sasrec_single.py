"""SASRecSingle on mixed rows is SASRec on each domain's rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semacdr.data.batches import Batch, history_batch
from semacdr.models.baselines.sasrec import SASRec, SASRecConfig
from semacdr.models.baselines.sasrec_single import SASRecSingle, SASRecSingleConfig
from tests.models.baselines.small import catalogue

SIZES = {"embedding_dim": 8, "num_layers": 2, "num_heads": 2, "ffn_dim": 12, "max_seq_len": 9, "dropout": 0.0}
DOMAINS = [0, 1, 2, 0, 1, 0, 1, 2, 0, 1]
ROWS = [[1, 2, 4, 3, 6, 5, 7, 9], [10, 2, 5], [4, 1, 9, 6], [3, 8]]


@pytest.fixture
def single() -> SASRecSingle:
    torch.manual_seed(0)
    return SASRecSingle(SASRecSingleConfig(**SIZES), catalogue(DOMAINS))


def alone(single: SASRecSingle, domain: int) -> SASRec:
    """SASRec with the weights that one domain has."""
    model = SASRec(SASRecConfig(**SIZES), catalogue(DOMAINS))
    model.id.weight, model.encoder = single.id.weight, single.encoder[domain]
    model.start.weight.data = single.start.weight.data[domain : domain + 1]
    return model


def training(rows: list[list[int]], domain: int | None = None) -> Batch:
    """Every event is predicted, the first one from nothing; of one domain's events alone, if one is given.

    A mixed row's last event is only a target, so the other domains keep their last event as an input that predicts
    nothing.
    """
    inputs = [row[:-1] if domain is None else of(row[:-1], domain) for row in rows]
    wanted = [row if domain is None else of(row, domain) for row in rows]
    width = max(len(row) for row in inputs)
    items, targets = torch.zeros(2, len(rows), width, dtype=torch.long)
    first = torch.zeros(len(rows), dtype=torch.long)
    for at, (row, after) in enumerate(zip(inputs, wanted)):
        items[at, : len(row)] = torch.tensor(row)
        targets[at, : len(after[1:])] = torch.tensor(after[1:])
        first[at] = after[0] if after else 0
    return Batch(items, torch.tensor([len(row) for row in inputs]), targets, first)


def of(row: list[int], domain: int) -> list[int]:
    return [item for item in row if DOMAINS[item - 1] == domain]


def test_scores_are_those_of_the_domains_own_rows(single: SASRecSingle) -> None:
    single.eval()
    histories = [*ROWS, []]
    for domain in range(3):
        model = alone(single, domain).eval()
        mixed = history_batch([np.array(row, np.int32) for row in histories], [domain] * 5, 9)
        own = history_batch([np.array(of(row, domain), np.int32) for row in histories], [domain] * 5, 9)
        torch.testing.assert_close(single.encode(mixed), model.encode(own))


def test_loss_and_gradient_are_those_of_the_domains_own_rows(single: SASRecSingle) -> None:
    loss = single.loss(training(ROWS)).total
    (gradient,) = torch.autograd.grad(loss, single.id.weight)
    total, expected = torch.zeros(()), torch.zeros_like(gradient)
    events = sum(len(row) for row in ROWS)
    for domain in range(3):
        share = sum(len(of(row, domain)) for row in ROWS) / events
        part = alone(single, domain).loss(training(ROWS, domain)).total * share
        total = total + part
        expected += torch.autograd.grad(part, single.id.weight)[0]
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(gradient, expected)
    assert gradient.abs().sum() > 0.01


def test_other_domains_do_not_matter(single: SASRecSingle) -> None:
    single.eval()
    a, b = (single.encode(history_batch([np.array(row, np.int32)], [0], 9)) for row in ([1, 2, 4, 3], [1, 5, 4, 7]))
    assert torch.equal(a, b)
    c = single.encode(history_batch([np.array([1, 2, 6, 3], np.int32)], [0], 9))
    assert not torch.allclose(a, c)
