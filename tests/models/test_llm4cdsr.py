"""LLM4CDSR's own promises: each loss term by hand, threads that meet at the same event, and what faithful changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semacdr.data.batches import Batch, TrainBatches, history_batch
from semacdr.data.dataset import Catalogue, Dataset
from semacdr.data.splits import make_split
from semacdr.embedding.table import EmbeddingTable, write_table
from semacdr.errors import InputError
from semacdr.models.base import Recommender, SideData
from semacdr.models.llm4cdsr import LLM4CDSR, PUBLISHED, LLM4CDSRConfig
from semacdr.models.losses import clip_soft
from semacdr.models.negatives import UniformNegatives, window_items
from semacdr.models.text_pca import principal_components, project
from semacdr.run import build_model, load_run
from semacdr.training.trainer import train
from tests.models.conformance import FAST, GradientConformance
from tests.planted import write_planted, write_vectors

TINY: dict[str, Any] = {"embedding_dim": 4, "num_layers": 1, "num_heads": 1, "ffn_dim": 4, "max_seq_len": 6}
# items 1-4 of domain 0, 5-8 of domain 1; 4 and 8 were never trained on
CATALOGUE = Catalogue(
    np.array(["", *"abcdefgh"], object),
    np.array([-1, 0, 0, 0, 0, 1, 1, 1, 1], np.int8),
    ("tea", "pans"),
    np.array([0, 2, 2, 2, 0, 2, 2, 2, 0], np.int64),
)


def tiny(side: SideData | None = None, text_dim: int = 5, **settings: Any) -> LLM4CDSR:
    torch.manual_seed(0)
    text = torch.randn(9, text_dim)
    text[0] = 0
    return LLM4CDSR(LLM4CDSRConfig(**{**TINY, "adapter_dim": 6, **settings}), CATALOGUE, {"content": text}, side=side)


def batch_of(*rows: list[int], user: list[int] | None = None) -> Batch:
    """Each row's events but the last as inputs, each following event as a target, the first one as well."""
    width = max(len(row) for row in rows) - 1
    items, targets = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for at, row in enumerate(rows):
        items[at, : len(row) - 1] = torch.tensor(row[:-1])
        targets[at, : len(row) - 1] = torch.tensor(row[1:])
    length = torch.tensor([len(row) - 1 for row in rows])
    first = torch.tensor([row[0] for row in rows])
    return Batch(items, length, targets, first, user=None if user is None else torch.tensor(user))


class TestFaithful(GradientConformance):
    """The published forms keep every promise but one: they look ahead."""

    model = "LLM4CDSR"
    extra: ClassVar[dict[str, Any]] = {"faithful": True}
    beats_popularity_by = 1.0

    def untrained(self, dataset: Dataset, table: Path | None, **changes: Any) -> Recommender:
        """With small item vectors: a score of 30, as planted texts give it, would leave a loss of zero to compare."""
        model = super().untrained(dataset, table, **changes)
        assert isinstance(model, LLM4CDSR)
        with torch.no_grad():
            model.local.weight *= 0.1
            for value in model.adapter[2].parameters():
                value *= 0.1
        return model

    def test_later_events_do_not_change_earlier_positions(self, dataset: Dataset, table: Path | None) -> None:
        with pytest.raises(AssertionError, match="not close"):
            super().test_later_events_do_not_change_earlier_positions(dataset, table)

    def test_training_loss_equals_scoring(self, dataset: Dataset, table: Path | None) -> None:
        """Of the one negative that is drawn for each thread."""
        model = self.untrained(dataset, table, **self.without_regularisation())
        history = dataset.user_items(12)[:6].astype(np.int64)
        target = int(dataset.user_items(12)[6])
        targets = torch.zeros(1, 6, dtype=torch.long)
        targets[0, 5] = target
        batch = Batch(torch.from_numpy(history)[None], torch.tensor([6]), targets)
        torch.manual_seed(0)
        loss = model.loss(batch).total
        torch.manual_seed(0)
        wrong = model.draw_wrong(batch, *model.learned_events(batch))
        scoring = history_batch([history.astype(np.int32)], [int(dataset.item_domain[target])], model.max_seq_len)
        user, items = model.encode(scoring)[0], model.item_vectors()
        middle = len(user) // 2
        right = user @ items[target]
        mixed = user[:middle] @ items[wrong[0][0], :middle] + user[middle:] @ items[wrong[1][0], middle:]
        torch.testing.assert_close(loss, torch.log1p((-right).exp()) + torch.log1p(mixed.exp()), rtol=1e-4, atol=1e-5)


def test_the_causal_published_encoder_does_not_look_ahead(tmp_path: Path) -> None:
    """The guard of the failure above: with the mask alone put back, the same promise is kept."""
    suite = TestFaithful()
    suite.extra = {"faithful": True, "causal": True}
    dataset = write_planted(tmp_path / "data")
    table = write_vectors(tmp_path / "table", dataset)
    GradientConformance.test_later_events_do_not_change_earlier_positions(suite, dataset, table)


def test_settings_of_faithful_are_the_published_forms_unless_set() -> None:
    config = LLM4CDSRConfig(faithful=True)
    assert {key: getattr(config, key) for key in PUBLISHED} == PUBLISHED
    assert LLM4CDSRConfig(faithful=True, causal=True).causal
    with pytest.raises(ValueError, match="faithful"):  # 1 would pass for true and leave the forms as they are
        LLM4CDSRConfig(faithful=1)
    assert LLM4CDSRConfig.model_validate(config.model_dump()) == config
    default = LLM4CDSRConfig()
    assert all(getattr(default, key) != value for key, value in PUBLISHED.items())


def test_recommendation_loss_by_hand() -> None:
    """Two events of domain 0 with score gaps and one of domain 1: the mean over each domain, and their sum."""
    model = tiny(embedding_dim=1, threads=["global", "local"])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    states = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])
    right = torch.tensor([0, 1, 2])  # scores 1, 1, 7
    wrong = [torch.tensor([1, 0, 0]), torch.tensor([2, 0, 1])]  # global 0, 0, 3 plus local -2, 0, -1: -2, 0, 2
    loss = model._bce(states, vectors, right, wrong, torch.tensor([0, 0, 1]))

    def soft(x: float) -> float:
        return math.log(1 + math.exp(x))

    expected = (soft(-1) + soft(-2) + soft(-1) + soft(0)) / 2 + soft(-7) + soft(2)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_the_whole_loss_in_plain_loops() -> None:
    """Every term of a batch from the model's own vectors and the states that scoring gives for each prefix."""
    profiles = torch.zeros(4, 3)
    profiles[[0, 2]] = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]])
    model = tiny(SideData(4, profiles), item_loss_weight=0.3, user_loss_weight=0.7, dropout=0.0).train()
    for encoder in model.encoders.values():  # positions count from the newest event, and a prefix ends earlier
        nn.init.zeros_(encoder.position.weight)
    rows = [[1, 5, 2, 6], [6, 2, 7], [3, 1]]
    batch = batch_of(*rows, user=[2, 0, 1])
    torch.manual_seed(5)
    loss = model.loss(batch)
    loss.total.backward()

    torch.manual_seed(5)
    wrong = model.draw_wrong(batch, *batch.events())[0]
    first, second = model.item_pairs(batch.items)
    model.eval()
    items = model.item_vectors()
    by_domain: dict[int, list[float]] = {0: [], 1: []}
    for row, column, target, other in zip(*(values.tolist() for values in batch.events()), wrong.tolist()):
        domain = int(CATALOGUE.item_domain[target])
        assert int(CATALOGUE.item_domain[other]) == domain
        assert other not in rows[row]
        history = np.array(rows[row][: column + 1], np.int32)
        state = model.user_vectors(history_batch([history], [domain], 6))[0]
        right, score = float((state @ items[target]).detach()), float((state @ items[other]).detach())
        by_domain[domain].append(math.log1p(math.exp(-right)) + math.log1p(math.exp(score)))
    assert loss.parts["rec"] == pytest.approx(sum(sum(each) / len(each) for each in by_domain.values()), rel=1e-5)

    assert (first.tolist(), second.tolist()) in [([a, b], [5, 6]) for a in (1, 2) for b in (2,)]
    x, y = model.adapter(model.table[first]), model.adapter(model.table[second])
    assert loss.parts["item"] == pytest.approx(clip_soft(x, y, 1.0).item(), rel=1e-5)

    states = [model.user_vectors(history_batch([np.array(rows[r][:-1], np.int32)], [0], 6))[0, :4] for r in (0, 1)]
    aligned = clip_soft(model.user_adapter(profiles[[2, 0]]), torch.stack(states), 1.0)
    assert loss.parts["user"] == pytest.approx(aligned.item(), rel=1e-5)
    parts = loss.parts
    assert loss.total.item() == pytest.approx(parts["rec"] + 0.3 * parts["item"] + 0.7 * parts["user"], rel=1e-6)
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize("faithful", [False, True])
def test_gradients_of_the_whole_loss(faithful: bool) -> None:
    """The model's own loss by finite differences in float64, in every weight that learns."""
    side = SideData(2, torch.tensor([[1.0, 0.5], [-1.0, 2.0]]))
    weights = {"item_loss_weight": 1, "user_loss_weight": 1, "user_adapter_dim": 3, "max_seq_len": 4}
    model = tiny(side, dropout=0.0, faithful=faithful, **weights).double()
    batch = batch_of([1, 5, 2, 6, 3], [6, 2, 7], user=[0, 1])
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():  # away from the small start, so that each part has a say
        for value in learned.values():
            value += 0.3 * torch.randn_like(value)

    def loss(*values: Tensor) -> Tensor:
        torch.manual_seed(3)
        with nn.utils.stateless._reparametrize_module(model, dict(zip(learned, values))):
            found = model.loss(batch)
        assert set(found.parts) == {"rec", "item", "user"}
        return found.total

    values = tuple(value.detach().clone().requires_grad_() for value in learned.values())
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_threads_meet_at_the_same_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads that repeat their input, a query reads the item before the target, and its domain's newest one."""
    model = tiny(embedding_dim=4)
    monkeypatch.setattr(model, "thread", lambda name, vectors, length: vectors)
    rows = [[1, 5, 6, 2, 7], [5, 6, 1, 1, 2], [3, 2, 1]]
    batch = batch_of(*rows)
    vectors = model.vectors(torch.arange(9))
    row, column, target = batch.events()
    domain = model.item_domain[target]
    read, _ = model.read(vectors[batch.items], batch.items, batch.length, row, column, domain)
    for at in range(len(row)):
        seen = rows[row[at]][: column[at] + 1]
        local = [item for item in seen if CATALOGUE.item_domain[item] == domain[at]]
        mixed = vectors[seen[-1], :4] if seen else model.start[0, domain[at]]
        own = vectors[local[-1], 4:] if local else model.start[1, domain[at]]
        torch.testing.assert_close(read[at], torch.cat([mixed, own]))
    model = tiny(first_events=False)
    learned = {(int(r), int(c)) for r, c, _ in zip(*model.learned_events(batch))}
    assert learned == {(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3), (2, 0), (2, 1)}


def test_a_thread_without_a_mask_hides_its_own_last_target() -> None:
    """Row 1, 5, 2, 6: the event 2 is the last target of its domain and an input of the next one."""
    model = tiny(faithful=True, dropout=0.0, threads=["local"]).eval()

    def states(other: int, column: int) -> Tensor:
        items = torch.tensor([[1, 5, other]])
        vectors = model.vectors(torch.arange(9))[items]
        at = torch.tensor([1, 2])  # the queries of the targets 2 and 6
        zero, domain = torch.tensor([0, 0]), torch.tensor([0, 1])
        read, _ = model.read(vectors, items, torch.tensor([3]), zero, at, domain)
        return read[column]

    assert torch.equal(states(2, 0), states(3, 0))
    scoring = [model.encode(history_batch([np.array([1, 5, other], np.int32)], [0], 6))[0] for other in (2, 3)]
    assert not torch.allclose(scoring[0], scoring[1], atol=1e-3)  # in scoring it is the newest event


def test_wrong_items() -> None:
    shared, apart = tiny(), tiny(negatives="independent")
    batch = batch_of(*[[1, 5, 2, 6]] * 300)
    row, column, target = batch.events()
    one, same = shared.draw_wrong(batch, row, column, target)
    assert torch.equal(one, same)
    assert set(one[shared.item_domain[target] == 0].tolist()) == {3}  # 1, 2 are owned, 4 is untrained
    assert set(one[shared.item_domain[target] == 1].tolist()) == {7}
    mixed, local = apart.draw_wrong(batch, row, column, target)
    assert set(mixed[(target == 2)].tolist()) == {7}  # of the domain before; 8 is left out by the off-by-one
    assert set(local[(target == 2)].tolist()) == {3}
    assert window_items(batch)[0].tolist() == [1, 5, 2, 6]


def test_uniform_negatives_are_uniform() -> None:
    draws = UniformNegatives(torch.tensor([-1, 0, 0, 1, 1, 0, 1]))
    torch.manual_seed(0)
    drawn = draws.draw(torch.zeros(9000, dtype=torch.long), torch.zeros(9000, dtype=torch.long), torch.tensor([[2, 3]]))
    count = torch.bincount(drawn, minlength=7).tolist()
    assert count[2] == count[3] == count[4] == count[6] == 0
    assert abs(count[1] - 4500) < 200
    owner = draws.draw(torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long), torch.tensor([[1, 2, 5]]))
    assert set(owner.tolist()) <= {1, 2, 5}  # who owns a whole domain still gets something


def test_pairs_are_one_item_of_each_of_two_domains() -> None:
    model = tiny()
    torch.manual_seed(0)
    first, second = model.item_pairs(batch_of(*[[1, 5, 2, 6, 3], [5, 6, 7, 5, 6]] * 50).items)
    assert len(first) == 50  # the other rows have one domain
    assert set(first.tolist()) == {1, 2}
    assert set(second.tolist()) == {5, 6}


def test_profiles_align_only_users_that_have_one() -> None:
    profiles = torch.zeros(3, 2)
    profiles[:2] = torch.tensor([[-1.0, 0.5], [1.0, 1.0]])
    model = tiny(SideData(3, profiles))
    rows = [1, 5, 2], [5, 1, 6]
    assert model.loss(batch_of(*rows, user=[1, 0])).parts["user"] > 0
    assert model.loss(batch_of(*rows, user=[1, 2])).parts["user"] == 0  # no profile, and one alone has no rival
    assert model.loss(batch_of(*rows, user=[1, -1])).parts["user"] == 0  # unknown, which is not the first user
    assert "user" not in model.loss(batch_of([1, 5, 2], [5, 1, 6])).parts
    for off in (tiny(SideData(3)), tiny(), tiny(SideData(3, profiles), user_loss_weight=0)):
        assert "user" not in off.loss(batch_of([1, 5, 2], [5, 1, 6], user=[1, 1])).parts
        assert not any(name.startswith("user_adapter") for name in off.state_dict())


def test_profiles_reach_training(tmp_path: Path) -> None:
    dataset = write_planted(tmp_path / "data", users=40)
    rows = {"view": np.arange(40)}
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    manifest = {"views": ["view"], "fingerprint": "u", "subject": "users"}
    write_table(tmp_path / "users", dataset.user_ids, vectors, rows, manifest)
    table = write_vectors(tmp_path / "table", dataset)
    settings = {**TINY, **FAST, "epochs": 1}
    run = train("LLM4CDSR", dataset.path, tmp_path / "run", table, settings, tmp_path / "users")
    assert load_run(run).model.aligns_users
    assert not load_run(train("LLM4CDSR", dataset.path, tmp_path / "off", table, settings)).model.aligns_users


@pytest.mark.parametrize(
    "switch",
    [
        {"threads": ["global"]},
        {"threads": ["local"]},
        {"random_text": True},
        {"causal": False},
        {"item_loss_weight": 0},
    ],
)
def test_ablations_train_score_and_come_back(switch: dict[str, Any], tmp_path: Path) -> None:
    dataset = write_planted(tmp_path / "data", users=30)
    table = write_vectors(tmp_path / "table", dataset)
    run = train("LLM4CDSR", dataset.path, tmp_path / "run", table, {**TINY, **FAST, **switch, "epochs": 1})
    first, again = load_run(run).model, load_run(run).model
    batch = history_batch([dataset.user_items(3), dataset.user_items(4)[:2]], [0, 1], 6)
    scores = first.score(first.encode(batch), torch.arange(1, dataset.num_items + 1))
    assert torch.equal(again.score(again.encode(batch), torch.arange(1, dataset.num_items + 1)), scores)
    alone = history_batch([dataset.user_items(4)[:2]], [1], 6)
    torch.testing.assert_close(first.encode(alone)[0], first.encode(batch)[1])
    assert first.item_vectors().shape[1] == (4 if "threads" in switch else 8)


def test_axes_are_kept_with_the_weights() -> None:
    """Another machine may find them turned; scores must not depend on it."""
    model, other = tiny().eval(), tiny().eval()
    state = model.state_dict()
    other.load_state({**state, "axes": -state["axes"]})
    torch.testing.assert_close(other.table, -model.table)
    assert "text" not in state
    assert "text" in tiny(random_text=True).state_dict()


class Elsewhere(Tensor):
    """As on a GPU, whose products round otherwise: none may be made before ``cpu``."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        if func in (Tensor.matmul, Tensor.__matmul__, torch.matmul):
            raise AssertionError("a product on the GPU")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_saved_weights_meet_the_table_of_an_unbroken_run() -> None:
    """It was made on the CPU, before the model went to a GPU; so it must be after a resume, to the bit."""
    model = tiny()
    made = model.table.clone()
    model.text = model.text.as_subclass(Elsewhere)
    model.load_state(model.state_dict())
    assert torch.equal(model.table, made)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_saved_weights_meet_the_same_table_on_a_gpu() -> None:
    model = tiny(text_dim=300)
    made = model.table.clone()
    model.cuda().load_state(model.state_dict())
    assert torch.equal(model.table.cpu(), made)


def test_principal_components_by_hand() -> None:
    cloud = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    mean, axes = principal_components(cloud, 5)
    assert mean.tolist() == [0, 1]
    torch.testing.assert_close(axes, torch.eye(2))
    found = project(torch.tensor([[0.0, 0.0], [2.0, 2.0]]), mean, axes[:, :1])
    assert found.tolist() == [[0], [2]]  # no text stays at zero, though the mean is not there


def test_tables_begin_at_the_principal_components() -> None:
    model = tiny(text_dim=7)
    text = model.text
    everything = text[1:] - text[1:].mean(0)
    torch.testing.assert_close(model.table[1:] @ model.table[1:].T, everything @ everything.T)
    assert model.table[0].abs().max() == 0
    own = text[5:] - text[5:].mean(0)  # four items lie on three axes, so four components hold all of it
    torch.testing.assert_close(model.local.weight[5:] @ model.local.weight[5:].T, own @ own.T)
    assert tiny(global_dim=2).table.shape == (9, 2)


def test_frozen_local_tables_and_linear_adapters() -> None:
    model = tiny(faithful=True)
    assert not model.local.weight.requires_grad
    a, b = torch.randn(2, 5), torch.randn(2, 5)
    zero = model.adapter(torch.zeros(2, 5))
    torch.testing.assert_close(model.adapter(a + b) - zero, model.adapter(a) + model.adapter(b) - 2 * zero)
    bent = tiny().adapter
    zero = bent(torch.zeros(2, 5))
    assert not torch.allclose(bent(a + b) - zero, bent(a) + bent(b) - 2 * zero, atol=1e-3)


def test_the_published_encoder_begins_as_published() -> None:
    """The moments of PyTorch's attention after Xavier's normal over its one array of projections."""
    torch.manual_seed(0)
    block = tiny(faithful=True, embedding_dim=64, ffn_dim=64).encoders["local_0"].blocks[0]
    attention = nn.MultiheadAttention(64, 1)
    nn.init.xavier_normal_(attention.in_proj_weight)
    for layer in (block.query, block.key_value):
        assert layer.weight.std().item() == pytest.approx(attention.in_proj_weight.std().item(), rel=0.05)
        assert not layer.bias.any()
    assert not block.attention_out.bias.any()
    assert block.attention_out.weight.std().item() == pytest.approx((1 / 64) ** 0.5, rel=0.05)
    assert block.ffn[0].weight.std().item() == pytest.approx((1 / 64) ** 0.5, rel=0.05)
    assert block.ffn[0].bias.all()


def test_the_global_threads_input_is_scaled_by_the_width_of_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(faithful=True, text_dim=9)
    for name, width in (("global", 9), ("local_0", 4)):
        seen: list[Tensor] = []
        monkeypatch.setattr(model.encoders[name], "forward", lambda x, length, causal, seen=seen: seen.append(x) or x)
        model.thread(name, torch.ones(1, 2, 4), torch.tensor([1]))
        torch.testing.assert_close(seen[0], torch.tensor([[[width**0.5] * 4, [0.0] * 4]]))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_negatives belongs to loss=softmax"):
        LLM4CDSRConfig(num_negatives=4)
    with pytest.raises(ValueError, match="scope=all belongs to loss=softmax"):
        LLM4CDSRConfig(scope="all")
    assert LLM4CDSRConfig(scope="all", loss="softmax").scope == "all"
    with pytest.raises(InputError, match="no text table for view 'spoken'"):
        tiny(views=["spoken"])


def test_bce_training_learns_too(tmp_path: Path) -> None:
    """The default loss, from the first batch to the last of three epochs."""
    dataset = write_planted(tmp_path / "data")
    table = EmbeddingTable.load(write_vectors(tmp_path / "table", dataset))
    torch.manual_seed(0)
    split = make_split(dataset)
    model = build_model("LLM4CDSR", {**TINY, "embedding_dim": 16}, dataset, split, table).train()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for epoch in range(3):
        for batch in TrainBatches(split.train, 16, 6, 0).epoch(epoch):
            loss = model.loss(batch).total
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3


def test_without_a_shared_user_there_is_nothing_to_align() -> None:
    loss = tiny().loss(batch_of([1, 2, 3], [5, 6, 7, 6]))
    assert set(loss.parts) == {"rec"}
    loss.total.backward()
