"""SemaCDRGen by hand: the loss of a tiny trie, what untrained ids and other domains may change, and the beam."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semacdr.cli import main
from semacdr.data.batches import Batch, TrainBatches, history_batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.models import semacdr_gen
from semacdr.models.base import ItemCodes, SideData
from semacdr.models.semacdr_gen import SemaCDRGen, SemaCDRGenConfig
from semacdr.serving.recommender import RunRecommender
from semacdr.training.trainer import train
from tests.planted import write_planted, write_vectors

# items 1, 2, 3 and 5 are tea, 5 without training; item 4 is a pan with the codes of 3
CODES = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 0), (1, 1)]
DOMAIN = [-1, 0, 0, 0, 1, 0]
COUNT = [0, 3, 1, 2, 2, 0]


def tiny(**changes: Any) -> SemaCDRGen:
    ids = np.array(["", *(f"i{item}" for item in range(1, 6))], object)
    catalogue = Catalogue(ids, np.array(DOMAIN, np.int8), ("tea", "pans"), np.array(COUNT))
    small = {"embedding_dim": 2, "num_heads": 1, "ffn_dim": 4, "num_layers": 1, "code_buckets": 0, "max_seq_len": 5}
    side = SideData(codes=ItemCodes(torch.tensor(CODES), (2,)))
    torch.manual_seed(0)
    return SemaCDRGen(SemaCDRGenConfig(**{**small, **changes}), catalogue, side=side).eval()


def by_hand(monkeypatch: pytest.MonkeyPatch) -> SemaCDRGen:
    """The state (1, 0), and code vectors whose first number is the logit."""
    model = tiny()
    monkeypatch.setattr(model, "histories", lambda batch, row, column: torch.tensor([[1.0, 0.0]]).expand(len(row), 2))
    with torch.no_grad():
        model.target.weight.zero_()
        for table, logit in zip(model.codes.levels, (math.log(3), math.log(2))):
            table.weight.copy_(torch.tensor([[logit, 0.0], [0.0, 0.0]]))
    return model


def test_a_domain_without_items_is_an_error() -> None:
    ids = np.array(["", "a", "b"], object)
    catalogue = Catalogue(ids, np.array([-1, 0, 0], np.int8), ("tea", "pans"), np.array([0, 1, 1]))
    side = SideData(codes=ItemCodes(torch.tensor([(0, 0), (0, 0), (0, 1)]), (2,)))
    with pytest.raises(InputError, match="domain 'pans' has no items"):
        SemaCDRGen(SemaCDRGenConfig(), catalogue, side=side)


def batch_of(*targets: int) -> Batch:
    items = torch.ones(1, len(targets), dtype=torch.long)
    return Batch(items, torch.tensor([len(targets)]), torch.tensor([targets]))


def test_loss_and_scores_of_a_tiny_trie(monkeypatch: pytest.MonkeyPatch) -> None:
    model = by_hand(monkeypatch)
    # tea: the first code is 0 with 3 / (3 + 1); below it the last token is 0 with 2 / (2 + 1); below 1 there is one
    # trained id, and so it is in pans
    probability = {1: 3 / 4 * 2 / 3, 2: 3 / 4 * 1 / 3, 3: 1 / 4, 4: 1.0}
    for item, p in probability.items():
        assert model.loss(batch_of(item)).total.item() == pytest.approx(-math.log(p), abs=1e-6)
    assert model.loss(batch_of(1, 3, 4)).total.item() == pytest.approx(math.log(2), abs=1e-6)
    encoded = model.encode(history_batch([np.array([1], np.int32)], [0], 5))
    scores = model.score(encoded, torch.arange(1, 6))[0]
    # item 5 is scored beside its trained sibling, whose logit is log 2 above its own
    assert scores.tolist() == pytest.approx([math.log(p) for p in (1 / 2, 1 / 4, 1 / 4, 1, 1 / 8)], abs=1e-6)


def test_users_are_scored_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(embedding_dim=8)
    histories = [np.array(items, np.int32) for items in ([1], [3, 4], [2, 1, 4], [4], [3])]
    batch = history_batch(histories, [0] * 5, 5)
    whole = model.score(model.encode(batch), torch.arange(1, 6))
    monkeypatch.setattr(semacdr_gen, "BLOCK_USERS", 2)
    at_once, scored = [], model.trie.log_probabilities
    monkeypatch.setattr(
        model.trie, "log_probabilities", lambda states, *rest: at_once.append(len(states)) or scored(states, *rest)
    )
    torch.testing.assert_close(model.score(model.encode(batch), torch.arange(1, 6)), whole)
    assert at_once == [2, 2, 1] * 2  # of either domain
    assert len(whole[:, 0].unique()) == 5


def test_gradient_of_a_tiny_trie(monkeypatch: pytest.MonkeyPatch) -> None:
    model = by_hand(monkeypatch)
    model.loss(batch_of(2)).total.backward()
    first, last = (table.weight.grad for table in model.codes.levels)
    torch.testing.assert_close(first, torch.tensor([[3 / 4 - 1, 0], [1 / 4, 0]]))  # probability less one for the right
    torch.testing.assert_close(last, torch.tensor([[2 / 3, 0], [1 / 3 - 1, 0]]))


def test_ids_without_training_and_of_other_domains_are_no_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 1 in tea, token 1 is untrained; in pans, code 0 leads nowhere."""
    model = by_hand(monkeypatch)
    before = [model.loss(batch_of(item)).total.item() for item in (3, 4)]
    with torch.no_grad():
        model.codes.levels[1].weight[1] += 5
        model.codes.levels[0].weight[0] += 5
    after = [model.loss(batch_of(item)).total.item() for item in (3, 4)]
    assert after[1] == before[1] == 0
    assert after[0] == pytest.approx(math.log(1 + 3 * math.exp(5)), abs=1e-5)  # the first code alone


def test_the_asked_domain_is_read() -> None:
    model = tiny()
    before = model.loss(batch_of(1)).total.item()
    with torch.no_grad():
        model.target.weight[1] += torch.tensor([3.0, -2.0])
    assert model.loss(batch_of(1)).total.item() == before
    with torch.no_grad():
        model.target.weight[0] += torch.tensor([3.0, -2.0])
    assert model.loss(batch_of(1)).total.item() != pytest.approx(before, abs=1e-4)


def test_the_whole_id_of_an_event_is_read() -> None:
    """Items 1 and 2 differ in the last token alone."""
    model = tiny(embedding_dim=8)
    histories = [np.array([item], np.int32) for item in (1, 2)]
    states = model.encode(history_batch(histories, [0, 0], 5)).states
    assert not torch.allclose(states[0], states[1], atol=1e-4)


def test_the_domain_of_an_event_is_read() -> None:
    """Items 3 and 4 have one id, in two domains."""
    model = tiny(embedding_dim=8)
    histories = [np.array([item], np.int32) for item in (3, 4)]
    states = model.encode(history_batch(histories, [0, 0], 5)).states
    assert not torch.allclose(states[0], states[1], atol=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gen")
    dataset = write_planted(folder / "data", domains=3, users=60)
    write_vectors(folder / "table", dataset)
    assert main(["ids", "--embeddings", str(folder / "table"), "--out", str(folder / "ids"), *SMALL_IDS]) == 0
    settings = {"embedding_dim": 16, "ffn_dim": 16, "num_layers": 1, "code_buckets": 64, "epochs": 1, "batch_size": 16}
    return train("SemaCDRGen", folder / "data", folder / "run", None, settings, ids=folder / "ids")


SMALL_IDS = ["--levels", "2", "--codes", "6", "kmeans=scikit-learn"]


def test_a_wide_beam_recommends_what_scoring_everything_does(run: Path) -> None:
    recommender = RunRecommender.load(run)
    history = ["tea1", "pans3", "tea2", "rugs7"]
    for domain in recommender.dataset.domains:
        every = recommender.recommend(history, domain, k=30)
        beam = recommender.recommend(history, domain, k=30, beam=50)
        assert [one.item_id for one in beam] == [one.item_id for one in every]
        assert [one.score for one in beam] == pytest.approx([one.score for one in every], abs=1e-4)
        assert not {one.item_id for one in beam} & set(history)
        narrow = recommender.recommend(history, domain, k=5, beam=1)
        assert {one.domain for one in narrow} == {domain}
        assert 0 < len(narrow) <= 5
    assert len(recommender.recommend([], "tea", k=3, beam=50)) == 3
    everything = recommender.recommend([], "tea", k=10**12, beam=10**12)  # no more than there are
    assert everything == recommender.recommend([], "tea", k=24, beam=24)


def test_a_beam_leaves_out_what_a_long_history_holds(run: Path) -> None:
    """The model reads the newest events alone, and the older ones may not come out either."""
    history = [f"{domain}{item}" for domain in ("tea", "pans", "rugs") for item in range(12 if domain == "tea" else 24)]
    recommender = RunRecommender.load(run)
    assert recommender.model.max_seq_len <= len(history) - 2  # the first teas are too old
    found = recommender.recommend(history, "tea", k=30, beam=50)
    assert sorted(one.item_id for one in found) == sorted(f"tea{item}" for item in range(12, 24))


def test_users_of_one_beam_may_want_different_domains(run: Path) -> None:
    model = RunRecommender.load(run).model
    assert isinstance(model, SemaCDRGen)
    tea = np.flatnonzero(model.catalogue.item_domain == 0).astype(np.int32)
    batch = history_batch([tea[:2], tea[:0], tea[2:3]], [0, 1, 2], model.max_seq_len)
    items, scores = model.beam(batch, k=22, width=100)
    assert model.item_domain[items].tolist() == [[0] * 22, [1] * 22, [2] * 22]
    torch.testing.assert_close(scores, model.score(model.encode(batch), items), rtol=1e-4, atol=1e-4)
    assert sorted(items[0].tolist()) == tea[2:].tolist()
    items, _ = model.beam(batch, 24, 100, seen=torch.zeros(3, 1, dtype=torch.long))
    assert sorted(items[0].tolist()) == tea.tolist()


@pytest.mark.parametrize("beam", [None, 5])
def test_scores_that_are_not_numbers_are_an_error(run: Path, beam: int | None) -> None:
    recommender = RunRecommender.load(run)
    assert isinstance(recommender.model, SemaCDRGen)
    with torch.no_grad():
        recommender.model.target.weight.fill_(math.nan)
    with pytest.raises(InputError, match="not numbers"):
        recommender.recommend(["tea1"], "tea", beam=beam)


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["recommend", str(run), "--user", "u9", "--target-domain", "tea", "--k", "3"]
    assert main([*asked, "--json"]) == 0
    every = capsys.readouterr().out
    assert main([*asked, "--json", "--beam", "50"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "item_id" in line] == [
        line for line in every.splitlines() if "item_id" in line
    ]
    assert main([*asked, "--beam", "0"]) == 2
    assert main([*asked, "--beam", "5", "--index", "x"]) == 2
    assert main(["evaluate", str(run), "--protocol", "full,sampled-100"]) == 0


def test_a_beam_is_for_models_that_decode(run: Path, tmp_path: Path) -> None:
    settings = {"embedding_dim": 16, "ffn_dim": 16, "num_layers": 1, "epochs": 0}
    other = train("SASRec", run.parent / "data", tmp_path / "sasrec", None, settings)
    with pytest.raises(InputError, match="decodes no semantic ids"):
        RunRecommender.load(other).recommend([], "tea", beam=3)
    with pytest.raises(InputError, match="none are given"):
        train("SemaCDRGen", run.parent / "data", tmp_path / "gen", None, settings)


def test_every_event_of_a_row_is_a_target(run: Path) -> None:
    """The loss of a batch is the mean of what each event's prefix has alone."""
    loaded = RunRecommender.load(run)
    model, split = loaded.model, make_split(loaded.dataset)
    batch = next(TrainBatches(split.train, 4, model.max_seq_len, 0).epoch(0))
    row, column, target = batch.events()
    with torch.no_grad():
        parts = []
        for r, c, item in zip(row.tolist(), column.tolist(), target.tolist()):
            history = batch.items[r, : c + 1].numpy().astype(np.int32)
            # positions count from a row's end, which knows how many events follow: the whole row is encoded
            one = Batch(batch.items[r : r + 1], batch.length[r : r + 1])
            states = model.histories(one, torch.tensor([0]), torch.tensor([len(history) - 1]))
            scores = model.score(type(model.encode(batch))(states), torch.tensor([item]))
            parts.append(-float(scores))
        assert model.loss(batch).total.item() == pytest.approx(np.mean(parts), rel=1e-4)
