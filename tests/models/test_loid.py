"""LoID against plain loops and by hand: losses, directions, what learns, what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semacdr import api
from semacdr.cli import main
from semacdr.config import build
from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import Histories, RatingBatch, RatingBatches
from semacdr.data.ratings import RatingCatalogue, Ratings, load_ratings
from semacdr.errors import InputError
from semacdr.files import read_json
from semacdr.models.loid import LoID, LoIDConfig
from semacdr.models.losses import triplet
from semacdr.models.reviews import ReviewAttention
from semacdr.rating_run import load_rating_run
from semacdr.training.rating import train_rating
from tests.models.tiny_bert import write_tiny_bert
from tests.planted_reviews import write_reviews

TEXTS = ("", "good tea", "bad tea", "fine tea", "very good", "poor")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "data", users=20)


def catalogue() -> RatingCatalogue:
    """Users 1 to 3 and items 1 to 3; user 4 and item 4 are not in training."""
    ids = np.array([1, 2, 3, 1], np.int32)
    items = np.array([1, 2, 3, 2], np.int32)
    return RatingCatalogue(4, 4, TEXTS, Ratings(ids, items, np.array([5, 1, 3, 4], np.float32), ids))


def made(tiny: Path, **settings: Any) -> LoID:
    torch.manual_seed(0)
    values = {"encoder": str(tiny), "rank": 2, "dropout": 0.0, "k": 2, **settings}
    model = LoID(build(LoIDConfig, values), catalogue())
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "_id" in name:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def batch(**changes: Any) -> RatingBatch:
    values: dict[str, Any] = {
        "user": torch.tensor([1, 2, 1]),
        "item": torch.tensor([2, 3, 1]),
        "user_texts": torch.tensor([[1, 2], [3, 0], [4, 1]]),
        "item_texts": torch.tensor([[2, 5], [4, 3], [0, 0]]),
        "rating": torch.tensor([5.0, 1.0, 3.0]),
    }
    return RatingBatch(**{**values, **changes})


def test_triplet_by_hand() -> None:
    anchor, positive = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    negative = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    # D+ = 1 in both rows; D- = 1 + 4 and 1: max(0, 1 + 1 - 5) and max(0, 1 + 1 - 1)
    assert triplet(anchor, positive, negative, 1.0).tolist() == [0.0, 1.0]
    assert triplet(anchor, positive, negative, 5.5).tolist() == [1.5, 5.5]
    anchor.requires_grad_()
    triplet(anchor, positive, negative, 1.0).sum().backward()
    # d/da (|a-p|^2 - |a-n|^2) = 2 (n - p) where the hinge is open
    assert anchor.grad is not None
    assert anchor.grad.tolist() == [[0.0, 0.0], [2.0, 2.0]]


def test_attention_by_hand() -> None:
    attention = ReviewAttention(2)
    with torch.no_grad():
        for layer, scale in ((attention.query, 1.0), (attention.key, 2.0), (attention.value, 3.0)):
            layer.weight.copy_(scale * torch.eye(2))
            layer.bias.zero_()
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    reviews = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [9.0, 9.0]], [[7.0, 7.0], [7.0, 7.0]]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    out = attention(query, reviews, mask)
    a = np.exp(2 / 2**0.5)  # the first key says 2, the second 0
    first = 3 * a / (a + 1)
    expected = torch.tensor([[1 + first, 3 - first], [1 + 3.0, 0.0], [0.5, 0.5]], dtype=torch.float32)
    torch.testing.assert_close(out, expected)


def test_the_whole_loss_in_plain_loops(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, b = made(tiny, triplet_weight=0.3, margin=2.0), batch()
    vectors = {t: model.reviews(torch.tensor([t]))[0] for t in range(1, 6)}
    monkeypatch.setattr(torch, "rand", lambda shape, device=None: torch.ones(*shape))  # negative: the first other id
    loss = model.loss(b)

    def attend(module: ReviewAttention, p: Tensor, texts: list[int]) -> Tensor:
        texts = [t for t in texts if t]
        if not texts:
            return p
        scores = [float((module.query(p) @ module.key(vectors[t])).detach()) / 32**0.5 for t in texts]
        weights = [np.exp(score) / sum(np.exp(other) for other in scores) for score in scores]
        return p + sum(w * module.value(vectors[t]) for w, t in zip(weights, texts))

    squares, contrast_items, contrast_users = [], [], []
    p = [model.user_id.weight[u] for u in b.user.tolist()]
    q = [model.item_id.weight[i] for i in b.item.tolist()]
    assert b.rating is not None
    for row in range(3):
        v_i = attend(model.item_attention, q[row], b.user_texts[row].tolist())  # an item asks the USER's reviews
        v_u = attend(model.user_attention, p[row], b.item_texts[row].tolist())  # a user asks the ITEM's reviews
        squares.append((model.head(torch.cat([v_u, v_i]))[0] - b.rating[row]) ** 2)
        other_user = next(r for r in range(3) if b.user[r] != b.user[row])
        other_item = next(r for r in range(3) if b.item[r] != b.item[row])
        d = lambda x, y: ((x - y) ** 2).sum()  # noqa: E731
        contrast_items.append(torch.relu(2.0 + d(v_i, p[row]) - d(v_i, p[other_user])))
        contrast_users.append(torch.relu(2.0 + d(v_u, q[row]) - d(v_u, q[other_item])))
    rec = (sum(squares) / 3).detach()
    contrast = ((sum(contrast_items) + sum(contrast_users)) / 3).detach()
    torch.testing.assert_close(loss.total, rec + 0.3 * contrast, rtol=1e-4, atol=1e-5)
    assert loss.parts["rec"] == pytest.approx(float(rec), rel=1e-4)
    assert loss.parts["triplet"] == pytest.approx(float(contrast), rel=1e-4)


def test_a_batch_of_one_user_has_no_negative_for_it(tiny: Path) -> None:
    model = made(tiny, margin=1000.0)
    alone = batch(user=torch.tensor([1, 1, 1]), item=torch.tensor([2, 2, 2]))
    assert model.loss(alone).parts["triplet"] == 0
    assert model.loss(batch()).parts["triplet"] > 0


def test_each_side_looks_at_the_other_sides_reviews(tiny: Path) -> None:
    model = made(tiny)
    v_u, v_i = model.represent(batch())
    other_u, other_i = model.represent(batch(user_texts=torch.tensor([[5, 4], [1, 2], [3, 3]])))
    assert torch.equal(other_u, v_u)
    assert not torch.isclose(other_i, v_i).all(1).any()
    other_u, other_i = model.represent(batch(item_texts=torch.tensor([[1, 4], [1, 2], [3, 3]])))
    assert torch.equal(other_i, v_i)
    assert not torch.isclose(other_u, v_u).all(1).any()


def test_without_reviews_the_id_speaks_and_unknown_ids_say_nothing(tiny: Path) -> None:
    model = made(tiny)
    nothing = torch.zeros(3, 2, dtype=torch.long)
    v_u, v_i = model.represent(batch(user_texts=nothing, item_texts=nothing))
    assert torch.equal(v_u, model.user_id.weight[[1, 2, 1]])
    assert torch.equal(v_i, model.item_id.weight[[2, 3, 1]])
    unknown = batch(user=torch.tensor([4, 4, 4]), item=torch.tensor([4, 4, 4]), item_texts=nothing)
    v_u, v_i = model.represent(unknown)
    assert (v_u == 0).all()
    assert (v_i != 0).any(1).all()  # known by the user's reviews


def test_lora_ids_attention_and_head_learn_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    source = made(tiny)
    source.reviews.backbone.save_lora(tmp_path / "plugin")
    model = made(tiny, plugins=[str(tmp_path / "plugin")]).train()
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model.loss(batch()).total.backward()
    for name, parameter in model.named_parameters():
        learns = "lora_" in name or not name.startswith("reviews.")
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == learns, name
    optimiser.step()
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert sum("lora_A" in name for name, _ in model.named_parameters()) == 10  # the target's own, five a layer
    plain = made(tiny)
    assert not torch.allclose(model.eval().reviews(torch.tensor([1])), plain.reviews(torch.tensor([1])), atol=1e-3)


def test_each_distinct_review_is_encoded_once_a_step_and_once_an_evaluation(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoded = made(tiny), []
    plain = model.reviews.backbone.forward

    def spy(table: Any, rows: np.ndarray) -> Tensor:
        encoded.append(rows.tolist())
        return plain(table, rows)

    monkeypatch.setattr(model.reviews.backbone, "forward", spy)
    model.train()
    model.loss(batch())
    assert encoded == [[0, 1, 2, 3, 4, 5]]
    model.eval()
    encoded.clear()
    with torch.no_grad():
        model.predict(batch())
        model.predict(batch())
    assert encoded == [[0, 1, 2, 3, 4, 5]]
    model.prepare()
    with torch.no_grad():
        model.predict(batch())
    assert len(encoded) == 2


def test_a_frozen_encoder_encodes_once_for_the_whole_training(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoded = made(tiny, rank=0), []
    plain = model.reviews.backbone.forward
    monkeypatch.setattr(
        model.reviews.backbone, "forward", lambda table, rows: encoded.append(rows) or plain(table, rows)
    )
    for _ in range(2):
        model.train()
        model.loss(batch())
        model.eval()
        model.prepare()
        model.predict(batch())
    assert len(encoded) == 1


def test_what_is_encoded_once_is_encoded_in_full_precision(tiny: Path) -> None:
    """A training in bfloat16 and a later evaluation in full precision must read the same vectors."""
    model = made(tiny, rank=0)
    texts = torch.arange(6)
    with torch.autocast("cpu", torch.bfloat16):
        in_training = model.reviews(texts)
    torch.testing.assert_close(in_training, made(tiny, rank=0).reviews(texts), rtol=0, atol=0)


def test_with_one_plugin_less_the_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    made(tiny).reviews.backbone.save_lora(tmp_path / "plugin")
    state = made(tiny, plugins=[str(tmp_path / "plugin")]).state_dict()
    made(tiny, plugins=[str(tmp_path / "plugin")]).load_state(state)
    with pytest.raises(InputError, match="frozen adapters"):
        made(tiny).load_state(state)


def test_faithful_is_about_the_pairs_own_review_alone(tiny: Path) -> None:
    """Users and items that training never saw keep their zero vectors, which the paper does not have."""
    unseen = batch(user=torch.tensor([4, 2, 4]), item=torch.tensor([2, 4, 4]))
    said = []
    for faithful in (False, True):
        model = made(tiny, faithful=faithful)
        model.prepare()
        said.append(model.predict(unseen))
    torch.testing.assert_close(said[1], said[0], rtol=0, atol=0)


def test_the_faithful_form_warns_and_reads_the_review(
    tiny: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"encoder": str(tiny), "rank": 0, "domain": "tea", "epochs": 1, "k": 2}
    train_rating("LoID", dataset.path, tmp_path / "honest", settings)
    assert "leaks" not in capsys.readouterr().err
    run = train_rating("LoID", dataset.path, tmp_path / "leaky", {**settings, "faithful": True})
    assert "the label leaks" in capsys.readouterr().err
    model = load_rating_run(run).model
    assert model.leaks
    data = load_ratings(dataset, "tea")
    for leaks in (False, True):
        histories = Histories(data.catalogue(), 2, leaks)
        shown = total = 0
        for b in RatingBatches(histories, 16, 0, own_text=True).epoch(0):
            assert b.own_text is not None
            own = b.own_text[:, None]
            shown += int(((b.user_texts == own) | (b.item_texts == own)).any(1).sum())
            total += len(own)
        assert (shown > total / 4) if leaks else shown == 0


def test_the_api_trains_and_evaluates_rating_models(dataset: Dataset, tmp_path: Path) -> None:
    run = api.train("Biases", dataset, tmp_path / "run", domain="tea")
    metrics = api.evaluate(run)
    assert metrics["all"] == metrics["tea"]
    assert metrics["tea"]["rmse"] == pytest.approx(metrics["tea"]["mse"] ** 0.5)
    with pytest.raises(InputError, match="no embeddings"):
        train_rating("Biases", dataset.path, tmp_path / "no", {"domain": "tea"}, embeddings="table")


def test_the_commands_from_a_plugin_to_a_rating(
    tiny: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, plugin, run = str(dataset.path), str(tmp_path / "plugin"), str(tmp_path / "run")
    small = [f"encoder={tiny}", "rank=2", "max_tokens=12", "epochs=2", "batch_size=32"]
    pretrain = ["loid", "pretrain", "--dataset", data, "--domain", "pans", "--out", plugin, *small]
    assert main(pretrain) == 0
    files = {path.name for path in Path(plugin).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "run.json", "model.safetensors"} <= files
    assert not any(name.startswith(".") for name in files)
    assert str(tiny) not in (Path(plugin) / "adapter_config.json").read_text()
    assert main(pretrain) == 0
    assert "already trained" in capsys.readouterr().err
    from peft import PeftModel
    from transformers import AutoModel

    PeftModel.from_pretrained(AutoModel.from_pretrained(str(tiny), add_pooling_layer=False), plugin)  # peft's own way

    train = ["train", "--model", "LoID", "--dataset", data, "domain=tea", *small]
    assert main([*train, "--out", run, f"plugins=[{plugin}]"]) == 0
    assert main(["evaluate", run, "--json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", run]) == 0
    assert "rating" in capsys.readouterr().out
    assert set(read_json(Path(run) / "metrics.json")["rating"]["tea"]) == {"mse", "mae", "rmse"}
    assert (Path(run) / "predictions-rating-test.parquet").is_file()
    assert main(["evaluate", run, "--protocol", "full"]) == 2
    assert "no protocol 'full' for a rating model" in capsys.readouterr().err
    assert main(["recommend", run, "--user", "tea-u1"]) == 2
    assert "ranks nothing" in capsys.readouterr().err

    assert main([*train, "--out", str(tmp_path / "plain")]) == 0
    assert main(["evaluate", str(tmp_path / "plain")]) == 0
    capsys.readouterr()
    assert main(["loid", "similarity", "--dataset", data, run, str(tmp_path / "plain")]) == 0
    out = capsys.readouterr().out
    assert "tea with pans: similarity 0." in out

    weights = Path(plugin) / "adapter_model.safetensors"
    weights.rename(tmp_path / "away")
    assert main(["evaluate", run]) == 2
    assert "not an adapter folder" in capsys.readouterr().err
    assert main([*train, "--out", str(tmp_path / "no"), "plugins=[nowhere]"]) == 2
    assert not (tmp_path / "no").exists()
    assert main(["train", "--model", "Biases", "--dataset", data, "--out", str(tmp_path / "no")]) == 2
    assert "say which" in capsys.readouterr().err
    assert main([*pretrain, "rank=0"]) == 2
