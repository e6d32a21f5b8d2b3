"""What SemaCDR promises beyond the suite: fusion, id residual, start vector, any number of domains, switches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semacdr.data.batches import TrainBatches, history_batch
from semacdr.data.dataset import Catalogue, Dataset
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.models.adapter import ItemEncoder
from semacdr.models.base import ItemCodes
from semacdr.models.semacdr import SemaCDR, SemaCDRConfig
from tests.planted import write_planted

TINY: dict[str, Any] = {
    "embedding_dim": 16,
    "num_layers": 1,
    "ffn_dim": 32,
    "max_seq_len": 10,
    "adapter_dim": 16,
    "dropout": 0.0,
    "adapter_dropout": 0.0,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("data"))


def make(dataset: Dataset, tables: tuple[str, ...] = ("content",), **changes: Any) -> SemaCDR:
    torch.manual_seed(1)
    text = {view: torch.randn(dataset.num_items + 1, 6) for view in tables}
    for table in text.values():
        table[0] = 0
    catalogue = dataset.catalogue(make_split(dataset).train_count)
    return SemaCDR(SemaCDRConfig(**{**TINY, **changes}), catalogue, text).eval()


def items_of(dataset: Dataset, domain: int, count: int) -> np.ndarray:
    return np.flatnonzero(dataset.item_domain == domain)[:count].astype(np.int32)


def test_an_empty_target_thread_has_weight_zero(dataset: Dataset) -> None:
    model = make(dataset)
    tea = items_of(dataset, 0, 4)
    weights = model.thread_weights(history_batch([tea, tea], [1, 0], 10))
    assert weights["target"][0] == 0  # no event in domain 1
    assert weights["source"][1] == 0  # no event outside domain 0
    assert weights["target"][1] > 0
    torch.testing.assert_close(sum(weights.values()), torch.ones(2))


def test_no_event_at_all_gives_the_start_vector(dataset: Dataset) -> None:
    model = make(dataset)
    empty = np.zeros(0, np.int32)
    vectors = model.encode(history_batch([empty, empty], [0, 1], 10))
    torch.testing.assert_close(vectors, model.start.weight.detach())


def test_the_start_vector_is_trained(dataset: Dataset) -> None:
    model = make(dataset).train()
    batch = next(TrainBatches(make_split(dataset).train, 64, 10, 0).epoch(0))
    model.loss(batch).total.backward()
    assert model.start.weight.grad is not None
    assert (model.start.weight.grad.abs().sum(1) > 0).all()


def test_the_id_residual_of_an_untrained_item_is_exactly_zero(dataset: Dataset) -> None:
    model = make(dataset)
    untrained = int(np.flatnonzero(model.catalogue.train_count[1:] == 0)[0]) + 1
    ids = torch.tensor([untrained, 1])
    before = model.items(ids).detach().clone()
    with torch.no_grad():
        model.items.id.weight.add_(1.0)
    after = model.items(ids).detach()
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("given", [{"content"}, {"semantic_id"}, {"content", "domain_agnostic", "semantic_id"}])
def test_a_new_item_is_what_an_untrained_one_with_the_same_views_is(given: set[str]) -> None:
    """By text, by codes and by all of it; a view that is missing is masked, not stood in for."""
    torch.manual_seed(0)
    ids, count = np.array(["", "a", "b", "c"], object), np.array([0, 3, 0, 0], np.int64)
    catalogue = Catalogue(ids, np.array([-1, 0, 1, 1], np.int8), ("x", "y"), count)
    text = {view: torch.randn(4, 5) for view in ("content", "domain_agnostic")}
    codes = ItemCodes(torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]), (2, 2))
    for view, table in text.items():
        table[0] = 0
        if view not in given:
            table[2] = 0
    encoder = ItemEncoder(catalogue, text, 4, 4, 0.0, codes=codes, code_buckets=8, new_item_scale=1.5).eval()
    torch.nn.init.normal_(encoder.gate_out.weight)
    if "semantic_id" not in given:
        encoder.has_semantic_id[2] = False
    own = {view: table[2:3] for view, table in text.items() if view in given}
    code = codes.codes[2:3, :2] if "semantic_id" in given else None
    found = encoder.new_vectors(own, torch.tensor([1]), code)
    torch.testing.assert_close(found, encoder(torch.tensor([2])))
    plain = ItemEncoder(catalogue, text, 4, 4, 0.0, codes=codes, code_buckets=8).eval()
    plain.load_state_dict(encoder.state_dict())
    if "semantic_id" not in given:
        plain.has_semantic_id[2] = False
    torch.testing.assert_close(found, 1.5 * plain(torch.tensor([2])))
    assert torch.equal(plain(torch.tensor([1])), encoder(torch.tensor([1])))  # a trained item is as long as it was
    with pytest.raises(ValueError, match="none of the views"):
        encoder.new_vectors({}, torch.tensor([1]))


def test_an_untrained_item_is_in_no_denominator(dataset: Dataset) -> None:
    model = make(dataset, use_id=False).train()
    untrained = int(np.flatnonzero(model.catalogue.train_count[1:] == 0)[0]) + 1
    batch = next(TrainBatches(make_split(dataset).train, 64, 10, 0).epoch(0))
    torch.manual_seed(0)
    before = model.loss(batch).parts["rec"]
    model.items.get_buffer("text_content")[untrained] *= 50
    torch.manual_seed(0)
    assert model.loss(batch).parts["rec"] == before


def test_item_vector_by_hand() -> None:
    """Two views, one of them missing for item 2: its gate is all on the other."""
    catalogue = Catalogue(
        np.array(["", "a", "b"], object), np.array([-1, 0, 0], np.int8), ("d",), np.array([0, 3, 0], np.int64)
    )
    text = {
        "content": torch.tensor([[0.0, 0], [1, 2], [3, 4]]),
        "domain_agnostic": torch.tensor([[0.0, 0], [1, 1], [0, 0]]),
    }
    torch.manual_seed(0)
    encoder = ItemEncoder(catalogue, text, 4, 4, 0.0).eval()
    ids = torch.tensor([1, 2])
    z = {view: encoder.view_vectors(view, ids) for view in text}
    # the gate starts as the plain mean of the views that are there
    weight = torch.sigmoid(2 * torch.log(torch.tensor(4.0)) - 3.0)
    expected_1 = 0.5 * (z["content"][0] + z["domain_agnostic"][0]) * 4**-0.5 + weight * encoder.id.weight[1]
    expected_2 = z["content"][1] * 4**-0.5
    torch.testing.assert_close(encoder(ids), torch.stack([expected_1, expected_2]))


def test_two_domains_by_the_shared_grid_equal_the_general_path(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two domains the source thread runs once for both; the general path runs it once a domain."""
    model = make(dataset)
    histories = [dataset.user_items(user) for user in range(8, 14)]
    batch = history_batch(histories, [0, 1, 0, 1, 0, 1], 10)
    fast = model.encode(batch)
    plain = SemaCDR.thread_states

    def general(self: SemaCDR, items: torch.Tensor, length: torch.Tensor, vectors: torch.Tensor) -> Any:
        states = plain(self, items, length, vectors)
        x = torch.nn.functional.layer_norm(vectors, (self.settings.embedding_dim,), eps=1e-12)
        domain = self.item_domain[items]
        runs = []
        for d in range(2):
            rows = []
            for row in range(len(items)):  # compacted by hand: only the events outside domain d
                at = ((domain[row] != d) & (items[row] > 0)).nonzero().squeeze(1)
                out = torch.zeros_like(x[row])
                if len(at):
                    positions = torch.arange(len(at) - 1, -1, -1)[None]
                    out[at] = self.encoders["source"](x[row, at][None], positions)[0]
                rows.append(out)
            runs.append(torch.stack(rows))
        states["source"] = torch.stack(runs)
        return states

    monkeypatch.setattr(SemaCDR, "thread_states", general)
    torch.testing.assert_close(model.encode(batch), fast, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("domain_weights", [False, True])
def test_no_domain_is_special(dataset: Dataset, domain_weights: bool) -> None:
    """Swapped domains, with what belongs to each swapped too, give the same users and the same items."""
    tables = ("content", "domain_specific", "domain_agnostic")
    model = make(dataset, tables, domain_weights=domain_weights)
    c = model.catalogue
    other = np.where(c.item_domain < 0, c.item_domain, 1 - c.item_domain).astype(c.item_domain.dtype)
    text = {view: model.items.get_buffer(f"text_{view}") for view in tables}
    swapped = SemaCDR(model.settings, Catalogue(c.item_ids, other, c.domains[::-1], c.train_count), text).eval()
    state = dict(model.state_dict())
    for name in ("start.weight", "domain_vector.weight", "items.gate_domain.weight"):
        state[name] = state[name].flip(0)
    for name in [n for n in state if ".networks.1." in n]:
        twin = name.replace(".networks.1.", ".networks.0.")
        state[name], state[twin] = state[twin], state[name]
    swapped.load_state(state)
    histories = [dataset.user_items(user) for user in range(8, 14)] + [np.zeros(0, np.int32)]
    first = model.encode(history_batch(histories, [0, 1, 0, 1, 0, 1, 0], 10))
    second = swapped.encode(history_batch(histories, [1, 0, 1, 0, 1, 0, 1], 10))
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(swapped.item_vectors()[1:], model.item_vectors()[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"threads": ["mixed"]},
        {"threads": ["target", "mixed"]},
        {"threads": ["source"]},
        {"fusion": "mean"},
        {"item_loss_weight": 0.0},
        {"sequence_loss_weight": 0.0},
        {"target_temperature": None},
        {"use_id": False},
        {"domain_weights": True},
        {"views": ["domain_agnostic"]},
        {"scope": "all"},
        {"num_negatives": 8},
    ],
)
def test_every_switch_trains_and_scores(dataset: Dataset, changes: dict[str, Any]) -> None:
    model = make(dataset, ("content", "domain_specific", "domain_agnostic"), **changes).train()
    batch = next(TrainBatches(make_split(dataset).train, 32, 10, 0).epoch(0))
    model.loss(batch).total.backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, "parameters that the loss never reaches"
    model.eval()
    tea = items_of(dataset, 0, 4)
    scores = model.score(model.encode(history_batch([tea, tea[:0]], [1, 0], 10)), torch.arange(1, 5))
    assert torch.isfinite(scores).all()


def test_an_unknown_view_is_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="domain_agnostik"):
        make(dataset, ("content", "domain_agnostic"), views=["domain_agnostik"])
