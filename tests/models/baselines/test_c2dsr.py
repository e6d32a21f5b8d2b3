"""C2DSR against its formulas: the graphs by hand, the threads event by event, the infomax in a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semacdr.data.batches import Batch, history_batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences
from semacdr.models.base import SideData
from semacdr.models.baselines.c2dsr import C2DSR, C2DSRConfig, transition_graph

TINY: dict[str, Any] = {
    "embedding_dim": 4,
    "ffn_dim": 5,
    "num_layers": 1,
    "max_seq_len": 6,
    "dropout": 0.0,
    "sequence_loss_weight": 0.5,
}
# Items 1-3 are food, 4-6 pans; 6 is in no training sequence.
DOMAIN = np.array([-1, 0, 0, 0, 1, 1, 1], np.int8)


def sequences(*rows: list[int], targets: list[bool] | None = None) -> TrainSequences:
    items = np.concatenate([np.array(row, np.int32) for row in rows])
    stop = np.cumsum([len(row) for row in rows])
    wanted = np.ones(len(items), np.bool_) if targets is None else np.array(targets)
    return TrainSequences(items, wanted, stop - [len(row) for row in rows], stop, np.arange(len(rows), dtype=np.int32))


TRAIN = sequences([1, 4, 2, 5], [1, 2, 4, 3], [1, 4])


def make(domain: np.ndarray = DOMAIN, train: TrainSequences = TRAIN, **changes: Any) -> C2DSR:
    torch.manual_seed(3)
    names = ("food", "pans", "rugs")[: int(domain.max()) + 1]
    count = np.bincount(train.items, minlength=len(domain))
    ids = np.array(["", *(f"i{item}" for item in range(1, len(domain)))], object)
    catalogue = Catalogue(ids, domain, names, count.astype(np.int64))
    model = C2DSR(C2DSRConfig(**{**TINY, **changes}), catalogue, side=SideData(train=train))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.eval()


def test_graph_of_all_events() -> None:
    graph = transition_graph(TRAIN, 7, None).to_dense()
    expected = torch.zeros(7, 7)
    expected[1, 4], expected[1, 2] = 2 / 3, 1 / 3
    expected[4, 2], expected[4, 3] = 1 / 2, 1 / 2
    expected[2, 5], expected[2, 4] = 1 / 2, 1 / 2
    torch.testing.assert_close(graph, expected)


def test_graph_within_each_domain() -> None:
    graph = transition_graph(TRAIN, 7, DOMAIN).to_dense()
    expected = torch.zeros(7, 7)
    expected[1, 2] = 1
    expected[2, 3] = 1
    expected[4, 5] = 1
    torch.testing.assert_close(graph, expected)


def test_graph_takes_an_event_that_is_no_target_as_a_start_alone() -> None:
    train = sequences([1, 4, 2], [3, 5], targets=[True, False, True, True, True])
    assert transition_graph(train, 7, None).to_dense().nonzero().tolist() == [[3, 5], [4, 2]]
    assert transition_graph(train, 7, DOMAIN).to_dense().nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_convolution_is_the_mean_over_depths(depth: int) -> None:
    model = make(graph_layers=depth)
    table = torch.arange(14.0).reshape(7, 2)
    expected = table.clone()
    if depth >= 1:
        followers = {1: {4: 2 / 3, 2: 1 / 3}, 4: {2: 0.5, 3: 0.5}, 2: {5: 0.5, 4: 0.5}}
        layer = table
        for _ in range(depth):
            moved = torch.zeros_like(table)
            for item, shares in followers.items():
                moved[item] = sum(share * layer[other] for other, share in shares.items())
            layer = moved
            expected = expected + layer
    torch.testing.assert_close(model.convolve(table, model.mixed_graph), expected / (depth + 1))


def test_inputs_are_graph_plus_id_normalised_and_zero_for_unseen_items() -> None:
    model = make()
    with torch.no_grad():
        for table, graph, ids in zip(
            model.inputs(), (model.mixed_graph, model.single_graph), (model.mixed_id.weight, model.single_id.weight)
        ):
            raw = (ids + graph.to_dense() @ ids) / 2 + ids
            for item in range(1, 6):
                centred = raw[item] - raw[item].mean()
                torch.testing.assert_close(table[item], centred / centred.pow(2).mean().sqrt(), rtol=1e-4, atol=1e-5)
            assert (table[6] == 0).all()


def thread(model: C2DSR, encoder: torch.nn.Module, table: Tensor, events: list[int]) -> Tensor:
    """The encoder's state of the newest of ``events``, zero for none."""
    if not events:
        return torch.zeros(4)
    back = torch.arange(len(events) - 1, -1, -1)[None]
    out: Tensor = encoder(table[torch.tensor([events])], back)[0, -1]
    return out


HISTORIES = [[1, 4, 2, 5], [1, 2], [4], [3, 5, 5, 1, 2]]


@pytest.mark.parametrize("domain", [0, 1])
def test_scores_are_the_classifier_of_both_threads(domain: int) -> None:
    model = make()
    batch = history_batch([np.array(h, np.int32) for h in HISTORIES], [domain] * 4, 6)
    with torch.no_grad():
        mixed_table, single_table = model.inputs()
        scores = model.score(model.encode(batch), torch.arange(1, 7))
        for row, history in zip(scores, HISTORIES):
            state = thread(model, model.mixed_encoder, mixed_table, history)
            own = [item for item in history if DOMAIN[item] == domain]
            state = state + thread(model, model.single_encoders[domain], single_table, own)
            for item in range(1, 6):
                expected = model.classifier.weight[item] @ state + model.bias[item]
                torch.testing.assert_close(row[item - 1], expected, rtol=1e-4, atol=1e-5)
            assert row[5] == model.bias[1:6].min()


def training_batch(rows: list[list[int]]) -> Batch:
    width = max(len(row) for row in rows) - 1
    items = torch.stack([F.pad(torch.tensor(row[:-1]), (0, width + 1 - len(row))) for row in rows])
    targets = torch.stack([F.pad(torch.tensor(row[1:]), (0, width + 1 - len(row))) for row in rows])
    return Batch(items, torch.tensor([len(row) - 1 for row in rows]), targets)


def test_cross_entropies_are_over_the_seen_items_of_the_targets_domain() -> None:
    model = make(sequence_loss_weight=0.0, shared_loss_weight=0.3)
    loss = model.loss(training_batch([[1, 4, 2], [5, 3]]))
    seen = {0: [1, 2, 3], 1: [4, 5]}
    with torch.no_grad():
        tables = model.inputs()
        events = [([1], 4, 1), ([1, 4], 2, 0), ([5], 3, 0)]  # history, target, events of the row that come later
        total = {"both": torch.zeros(()), "shared": torch.zeros(())}
        for history, target, later in events:
            d = int(DOMAIN[target])
            back = torch.arange(len(history) - 1, -1, -1)[None] + later
            mixed = model.mixed_encoder(tables[0][torch.tensor([history])], back)[0, -1]
            own = [item for item in history if DOMAIN[item] == d]
            states = {"both": mixed + thread(model, model.single_encoders[d], tables[1], own), "shared": mixed}
            for name, state in states.items():
                logits = torch.stack([model.classifier.weight[i] @ state + model.bias[i] for i in seen[d]])
                total[name] += (logits.logsumexp(0) - logits[seen[d].index(target)]) / 3
    assert loss.parts["rec"] == pytest.approx(total["both"].item(), rel=1e-4)
    assert loss.parts["shared"] == pytest.approx(total["shared"].item(), rel=1e-4)
    assert loss.total.item() == pytest.approx((total["both"] + 0.3 * total["shared"]).item(), rel=1e-4)


def infomax_by_hand(model: C2DSR, rows: list[list[int]], domain: np.ndarray, exchanged: dict[int, int]) -> float:
    """Every corrupted event of domain d is exchanged for item ``exchanged[d]``; rows without both sides are skipped."""
    tables, total = model.inputs(), 0.0
    for d, other in exchanged.items():
        terms = []
        for row in rows:
            own = [item for item in row if domain[item] == d]
            outside = [at for at, item in enumerate(row) if domain[item] != d]
            if not own or not outside:
                continue
            back = torch.arange(len(own) - 1, -1, -1)[None]
            r = model.single_encoders[d](tables[1][torch.tensor([own])], back)[0].mean(0)
            back = torch.arange(len(row) - 1, -1, -1)[None]
            scores = []
            for version in (row, [other if domain[item] == d else item for item in row]):
                mixed = model.mixed_encoder(tables[0][torch.tensor([version])], back)[0]
                z = torch.stack([mixed[at] for at in outside]).mean(0)
                scores.append(z @ model.discriminators[d].weight @ r)
            terms.append(-torch.log(torch.sigmoid(scores[0])) - torch.log(1 - torch.sigmoid(scores[1])))
        total += float(sum(terms) / len(terms)) if terms else 0.0
    return total


def first_members(high: int, size: Any, **_: Any) -> Tensor:
    return torch.zeros(size, dtype=torch.long)


def test_infomax_equals_its_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randint", first_members)
    model = make()
    rows = [[2, 4, 3, 5, 2], [5, 2], [3, 2, 2], [4, 5]]  # the last two live in one domain
    batch = training_batch([[*row, 1] for row in rows])
    with torch.no_grad():
        expected = infomax_by_hand(model, rows, DOMAIN, {0: 1, 1: 4})
        parts = model.loss(batch).parts
    assert expected > 0.1
    assert parts["sequence"] == pytest.approx(expected, rel=1e-4)
    without = make(sequence_loss_weight=0.0)
    without.load_state_dict({k: v for k, v in model.state_dict().items() if "discriminators" not in k})
    with torch.no_grad():
        rest = without.loss(batch).total.item()
        assert model.loss(batch).total.item() == pytest.approx(rest + 0.5 * expected, rel=1e-4)


def test_infomax_of_three_domains_and_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randint", first_members)
    three = np.array([-1, 0, 0, 1, 1, 2, 2], np.int8)
    model = make(three, sequences([1, 2, 3, 4, 5, 6]))
    rows = [[2, 4, 6, 1, 4], [6, 5, 2]]
    with torch.no_grad():
        expected = infomax_by_hand(model, rows, three, {0: 1, 1: 3, 2: 5})
        parts = model.loss(training_batch([[*row, 1] for row in rows])).parts
    assert parts["sequence"] == pytest.approx(expected, rel=1e-4)
    one = make(np.array([-1, 0, 0, 0, 0, 0, 0], np.int8))
    assert not hasattr(one, "discriminators")
    assert "sequence" not in one.loss(training_batch([[1, 2, 3]])).parts


def test_a_batch_within_one_domain_has_no_infomax() -> None:
    assert make().loss(training_batch([[1, 2, 3], [2, 3]])).parts["sequence"] == 0


def test_exchanged_items_are_of_the_domain_and_seen() -> None:
    """Item 6, which training never saw, would stand in the corrupted sequence as a zero."""
    model, asked = make(), []
    encode = model.mixed_encoder.forward

    def listening(x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        asked.append(x)
        out: Tensor = encode(x, positions, mask)
        return out

    model.mixed_encoder.forward = listening  # type: ignore[method-assign]
    model.loss(training_batch([[1, 4, 2]] * 200))
    table = model.inputs()[0]
    for corrupted, column, allowed in ((asked[1], 0, [1, 2, 3]), (asked[2], 1, [4, 5])):
        distance = torch.cdist(corrupted[:, column], table)
        assert set(distance.argmin(1).tolist()) == set(allowed)
        torch.testing.assert_close(corrupted[:, 1 - column], table[[4, 1][column]].expand(200, -1))


def test_bf16_autocast_gives_nearly_the_same_loss_and_gradients() -> None:
    losses, batch = [], training_batch([[2, 4, 3, 5, 2], [5, 2, 1]])
    for enabled in (False, True):
        model = make()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model.loss(batch).total
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
