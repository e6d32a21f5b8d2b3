"""LoID as a ranking model: pairs against plain loops, the sampled loss, whose texts are read."""

from __future__ import annotations

from dataclasses import replace
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
from semacdr.models.loid_ranking import LoID, LoIDConfig
from semacdr.run import build_model, side_data
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
            written = [int(author) for author in model.item_authors[item] if author >= 0]
            texts = [model.texts[int(text)] for text in model.item_texts[item] if text]
            assert len(texts) == max(1, len(written))
            if written:  # one is left out: the user's own, else that at the user's number
                texts.pop(written.index(user) if user in written else user % len(written))
            on = [vector[t] for t in texts]
            checked += user in written
            v_i = attend(model.item_query(q), q, model.user_key, model.user_value, said)
            v_u = attend(model.user_query(p), p, model.item_key, model.item_value, on)
            expected = model.head_out(torch.relu(model.head_user(v_u) + model.head_item(v_i)))
            torch.testing.assert_close(scores[item - 1], expected[0], rtol=1e-4, atol=1e-5)
        assert checked  # what the user wrote itself was there to be left out


@pytest.mark.parametrize("k", [1, 2])
def test_how_much_is_readable_does_not_tell_who_wrote(reviewed: Dataset, tiny: Path, k: int) -> None:
    """Else a training target, which always lacks its user's own review, would be known by the gap."""
    model = made(reviewed, tiny, k=k)
    side = model._items(torch.arange(model.num_items + 1))
    found = event_reviews(reviewed, make_split(reviewed))
    assert found is not None
    users = torch.arange(-1, 9)  # -1 is unknown; 4 to 8 wrote nothing
    readable = loid_ranking._readable(side.mask, side.author, users[:, None, None])
    count = readable.sum(2)
    assert torch.equal(count, count[:1].expand_as(count))
    assert not (readable & (side.author == users[:, None, None]) & (side.author >= 0)).any()
    written = np.bincount(found.item, minlength=model.num_items + 1)
    assert set(written.tolist()) == {0, 1, 2, 3}
    expected = [0, *(max(1, min(k, number - 1)) for number in written[1:].tolist())]  # 1: the item's own text
    assert count[0].tolist() == expected
    # each kept review is read by strangers too, so that reading it does not tell a writer
    of = torch.from_numpy(np.flatnonzero(written > 1))
    assert (readable[5:, of] | ~side.mask[of]).any(0).all()


def test_a_pairs_own_review_is_nowhere_in_the_triplet_loss(reviewed: Dataset, tiny: Path) -> None:
    split = make_split(reviewed)
    side = side_data(LoID, reviewed, split, None)
    assert side.reviews is not None
    targets = [int(reviewed.user_items(user)[1]) for user in range(3)]  # after one event each
    batch = Batch(
        torch.tensor([[int(reviewed.user_items(user)[0])] for user in range(3)]),
        torch.ones(3, dtype=torch.long),
        torch.tensor(targets)[:, None],
        user=torch.arange(3),
    )

    def losses(**changed: str) -> dict[str, float]:
        assert side.reviews is not None
        own = list(zip(side.reviews.user.tolist(), side.reviews.item.tolist()))
        texts = list(side.reviews.texts)
        for user, text in changed.items():
            texts[own.index((int(user[1:]), targets[int(user[1:])]))] = text
        torch.manual_seed(0)
        config = LoIDConfig(encoder=str(tiny), **{**SMALL, "k": 3, "margin": 50.0})
        catalogue = reviewed.catalogue(split.train_count)
        model = LoID(config, catalogue, side=replace(side, reviews=replace(side.reviews, texts=tuple(texts)))).eval()
        nn.init.normal_(model.id.weight)
        torch.manual_seed(1)
        return model.loss(batch).parts

    plain, other = losses(), losses(u0="very bad tea", u1="very bad tea", u2="very bad tea")
    assert plain["triplet"] > 0
    assert other["triplet"] == pytest.approx(plain["triplet"], rel=1e-6)
    assert other["rec"] != pytest.approx(plain["rec"], rel=1e-6)  # others of the batch do read it


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


def test_a_table_that_is_not_used_is_spoken_of(plain: Dataset, reviewed: Dataset, tiny: Path, tmp_path: Path) -> None:
    one = EmbeddingTable.load(write_vectors(tmp_path / "one", plain))
    two = EmbeddingTable.load(write_vectors(tmp_path / "two", plain, ("content", "mood")))
    of_reviewed = EmbeddingTable.load(write_vectors(tmp_path / "reviewed", reviewed))

    def said(*args: Any, **changes: Any) -> str:
        return "; ".join(note for note in made(*args, **changes).notes() if "table" in note)

    unused = "the table of embeddings is not used: it wants rank=0, no plug-ins and a data set without reviews"
    assert said(plain, tiny) == said(plain, tiny, one) == said(reviewed, tiny) == ""
    assert said(plain, tiny, one, rank=2) == said(reviewed, tiny, of_reviewed) == unused
    assert said(plain, tiny, two) == "of the table of embeddings the view 'content' alone is used"


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
