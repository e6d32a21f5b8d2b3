"""LoID as a ranking model: pairs against plain loops, the sampled loss, whose texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from semacdr import api
from semacdr.data.batches import Batch, TrainBatches, history_batch
from semacdr.data.dataset import Dataset
from semacdr.data.review_texts import event_reviews
from semacdr.data.splits import make_split
from semacdr.embedding.table import EmbeddingTable
from semacdr.models import loid_ranking
from semacdr.models.loid_ranking import LoID
from semacdr.run import build_model
from tests.models.tiny_bert import write_tiny_bert
from tests.planted import write_planted, write_vectors
from tests.planted_reviews import write_review_rows

SMALL: dict[str, Any] = {"embedding_dim": 8, "max_tokens": 10, "k": 2, "dropout": 0.0, "num_negatives": 0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted") / "data", users=20)


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four users with five events each, of which three train; u3 comes back to its first item at the end."""
    rows = [
        (f"u{user}", f"tea{(user + at) % 6}", "tea", 0, at, 4.0, f"user {user} on {(user + at) % 6}, time {at}")
        for user in range(4)
        for at in range(5)
    ]
    rows[0] = (*rows[0][:6], "")  # no words
    rows[19] = ("u3", "tea3", "tea", 0, 4, 4.0, "user 3 on 3, time 4")
    columns = ["user_id", "item_id", "domain", "timestamp", "position", "rating", "text"]
    return write_review_rows(tmp_path_factory.mktemp("reviewed") / "data", pd.DataFrame(rows, columns=columns))


def made(dataset: Dataset, tiny: Path, table: EmbeddingTable | None = None, **changes: Any) -> LoID:
    torch.manual_seed(0)
    model = build_model("LoID", {"encoder": str(tiny), **SMALL, **changes}, dataset, make_split(dataset), table)
    assert isinstance(model, LoID)
    nn.init.normal_(model.id.weight)
    return model.eval()


def test_reviews_are_those_of_training_events_alone(reviewed: Dataset) -> None:
    found = event_reviews(reviewed, make_split(reviewed))
    assert found is not None
    wanted = {(u, f"tea{(u + at) % 6}", f"user {u} on {(u + at) % 6}, time {at}") for u in range(4) for at in range(3)}
    wanted -= {(0, "tea0", "user 0 on 0, time 0"), (3, "tea3", "user 3 on 3, time 0")}  # no words; a held-out pair
    ids = [(int(u), str(reviewed.item_ids[i]), t) for u, i, t in zip(found.user, found.item, found.texts)]
    assert set(ids) == wanted
    assert len(ids) == len(wanted)


def test_no_reviews_in_a_set_without_texts(plain: Dataset) -> None:
    assert event_reviews(plain, make_split(plain)) is None


def test_scores_in_plain_loops(reviewed: Dataset, tiny: Path) -> None:
    model = made(reviewed, tiny)
    assert model.reviews is not None
    with torch.no_grad():
        vector = {text: model.reviews(torch.tensor([n]))[0] for n, text in enumerate(model.texts) if text}
        user, history = 1, reviewed.user_items(1)[:3]
        batch = history_batch([history], [0], 50, [user])
        found = event_reviews(reviewed, make_split(reviewed))
        assert found is not None
        review = {(int(u), int(i)): t for u, i, t in zip(found.user, found.item, found.texts)}
        said = [vector[review[user, int(item)]] for item in history[-2:]]
        p = torch.stack([model.id.weight[int(item)] for item in history[-2:]]).mean(0)

        def attend(
            query: Tensor, own: Tensor, key: torch.nn.Linear, value: torch.nn.Linear, on: list[Tensor]
        ) -> Tensor:
            if not on:
                return own
            weights = torch.softmax(torch.stack([query @ key(c) for c in on]) / 8**0.5, 0)
            return own + sum(w * value(c) for w, c in zip(weights, on))

        model.prepare()
        scores = model.score(model.encode(batch), torch.arange(1, model.num_items + 1))[0]
        checked = 0
        for item in range(1, model.num_items + 1):
            q = model.id.weight[item] * model.trained[item]
            written = [int(model.item_authors[item, j]) for j in range(2)]
            texts = [model.texts[int(model.item_texts[item, j])] for j in range(2)]
            on = [vector[t] for t, author in zip(texts, written) if t and author != user]
            checked += user in written
            v_i = attend(model.item_query(q), q, model.user_key, model.user_value, said)
            v_u = attend(model.user_query(p), p, model.item_key, model.item_value, on)
            expected = model.head_out(torch.relu(model.head_user(v_u) + model.head_item(v_i)))
            torch.testing.assert_close(scores[item - 1], expected[0], rtol=1e-4, atol=1e-5)
        assert checked  # what the user wrote itself was there to be left out


def test_blocks_of_items_change_nothing(plain: Dataset, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(plain, tiny)
    encoded = model.encode(history_batch([plain.user_items(3), plain.user_items(4)], [0, 1], 50))
    every = torch.arange(1, model.num_items + 1)
    whole = model.score(encoded, every)
    monkeypatch.setattr(loid_ranking, "BLOCK_ELEMENTS", 100)
    torch.testing.assert_close(model.score(encoded, every), whole)
    torch.testing.assert_close(model.score(encoded, every.expand(2, -1)), whole)


def test_the_sampled_softmax_by_hand(plain: Dataset, tiny: Path) -> None:
    """logits of the draws minus log of their expected number; a draw that is the target does not count."""
    model = made(plain, tiny, num_negatives=6, triplet_weight=0.0)
    items = torch.from_numpy(plain.user_items(12).astype(np.int64))[None, :4]
    targets = torch.zeros_like(items)
    targets[0, 3] = int(plain.user_items(12)[4])
    torch.manual_seed(5)
    loss = model.loss(Batch(items, torch.tensor([4]), targets)).total
    torch.manual_seed(5)
    ((_, candidates, log_expected),) = model.softmax.draw(targets[0, 3:])
    assert log_expected is not None
    encoded = model.encode(history_batch([items[0].numpy().astype(np.int32)], [0], 50))
    hit = float(model.score(encoded, targets[0, 3:])[0, 0])
    missed = model.score(encoded, candidates)[0] - log_expected
    kept = missed[candidates != targets[0, 3]].tolist()
    expected = np.log(np.exp(hit) + np.exp(kept).sum()) - hit
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_triplet_loss_counts_and_learns(plain: Dataset, tiny: Path) -> None:
    with_it, without = made(plain, tiny, margin=50.0), made(plain, tiny, margin=50.0, triplet_weight=0.0)
    batch = next(TrainBatches(make_split(plain).train, 8, 12, 0).epoch(0))
    torch.manual_seed(0)
    loss = with_it.loss(batch)
    assert loss.parts["triplet"] > 0
    assert without.loss(batch).parts["triplet"] == 0
    assert float(loss.total.detach()) == pytest.approx(loss.parts["rec"] + 0.2 * loss.parts["triplet"], rel=1e-5)


def test_a_trained_encoder_learns_and_is_resumed_from_what_it_learned(plain: Dataset, tiny: Path) -> None:
    model = made(plain, tiny, rank=2).train()
    batch = next(TrainBatches(make_split(plain).train, 8, 12, 0).epoch(0))
    for _ in range(2):  # B starts at zero, so A has a gradient from the second step on
        model.zero_grad()
        model.loss(batch).total.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0, name
        elif name.startswith("reviews."):
            assert parameter.grad is None
    again = made(plain, tiny, rank=2)
    again.load_state(model.state_dict())
    users, every = history_batch([plain.user_items(3)], [0], 50), torch.arange(1, 5)
    model.eval()
    torch.testing.assert_close(again.score(again.encode(users), every), model.score(model.encode(users), every))


def test_vectors_of_a_table_stand_in_for_texts(plain: Dataset, tiny: Path, tmp_path: Path) -> None:
    table = EmbeddingTable.load(write_vectors(tmp_path / "table", plain))
    model = made(plain, tiny, table)
    assert model.reviews is None
    assert model.text_width == table.text_dim
    scores = model.score(model.encode(history_batch([plain.user_items(3)], [0], 50)), torch.arange(1, 5))
    assert torch.isfinite(scores).all()
    assert made(plain, tiny, table, rank=2).reviews is not None


def test_a_run_says_where_its_texts_come_from(
    plain: Dataset, reviewed: Dataset, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"encoder": str(tiny), **SMALL, "epochs": 1, "batch_size": 8}
    run = api.train("LoID", plain, tmp_path / "plain", **settings)
    assert capsys.readouterr().err.count("historical texts are the items' own") == 1
    assert set(api.evaluate(run)) == {"all", "tea", "pans"}
    assert "historical texts" not in capsys.readouterr().err
    api.train("LoID", reviewed, tmp_path / "reviewed", **settings)
    assert "historical texts" not in capsys.readouterr().err
