from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.dataset import Dataset
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.counting import fold_copies
from semacdr.evaluation.negatives import draw_negatives
from semacdr.evaluation.ranker import NegativeLists, Ranks, rank
from semacdr.models.base import Recommender
from tests.evaluation.small import (
    Scores,
    Vectors,
    last_event,
    make_dataset,
    random_dataset,
    random_vectors,
)


def naive(
    model: Vectors,
    dataset: Dataset,
    protocol: str,
    lists: np.ndarray | None = None,
    train_count: np.ndarray | None = None,
) -> list[list[int]]:
    """One target and one candidate at a time, each score a float64 sum."""
    examples, rows = last_event(dataset), []
    for index in range(len(examples)):
        history, target = examples.history(index), int(examples.target[index])
        user = model.users[int(history[-1]) if len(history) else 0].numpy().astype(np.float64)
        if lists is not None:
            others = [int(item) for item in lists[index] if item]
        else:
            others = [item for item in range(1, dataset.num_items + 1) if item != target]
            if protocol in ("full", "full-cold"):
                domain = dataset.item_domain[target]
                others = [item for item in others if dataset.item_domain[item] == domain and item not in history]
            if train_count is not None:
                others = [item for item in others if train_count[item] == 0]
        scores = {item: (user * model.items[item].numpy()).sum() for item in [*others, target]}
        above = sum(scores[item] > scores[target] for item in others)
        level = sum(scores[item] == scores[target] for item in others)
        rows.append([above, level, len(others)])
    return rows


def as_rows(ranks: Ranks) -> list[list[int]]:
    return np.stack([ranks.greater, ranks.ties, ranks.candidates], axis=1).tolist()


def test_hand_computed_ranks() -> None:
    # Domain a holds items 1-5, b holds 6-7. User 0 had 1, 1, 6 and now 3; user 1 had 7 and now 7 again.
    dataset = make_dataset([[1, 1, 6, 3], [7, 7]], [0, 0, 0, 0, 0, 1, 1])
    row = [0.0, 9, 2, 2, 2, 1, 5, 5]  # scores of items 0..7
    model = Scores(dataset.catalogue(), torch.tensor([row] * 8))
    ranks = rank(model, last_event(dataset), dataset.item_domain)
    # Target 3 against 2 (tie), 4 (tie), 5 (below); 1 is seen. Target 7, seen itself, against 6 (tie).
    assert as_rows(ranks) == [[0, 2, 3], [0, 1, 1]]
    ranks = rank(model, last_event(dataset), dataset.item_domain, "full-all")
    # Target 3 against all: above 1, 6, 7; level 2, 4. Target 7: above 1; level 6.
    assert as_rows(ranks) == [[3, 2, 6], [1, 1, 6]]


def test_hand_computed_lists() -> None:
    dataset = make_dataset([[1, 3], [2, 3]], [0] * 5)
    model = Scores(dataset.catalogue(), torch.tensor([[0.0, 3, 1, 2, 2, 4]] * 6))
    lists = NegativeLists(np.array([[2, 4, 5], [1, 4, 0]], np.int32), np.array([3, 2], np.int32))
    assert as_rows(rank(model, last_event(dataset), dataset.item_domain, "sampled-100", lists)) == [
        [1, 1, 3],
        [1, 1, 2],
    ]


@pytest.mark.parametrize("protocol", ["full", "full-all"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block=st.integers(1, 40), batch=st.integers(1, 13))
def test_equals_naive_ranking(protocol: str, seed: int, block: int, batch: int) -> None:
    dataset = random_dataset(seed)
    model = random_vectors(dataset, seed + 1)
    ranks = rank(model, last_event(dataset), dataset.item_domain, protocol, batch_users=batch, block_items=block)
    assert as_rows(ranks) == naive(model, dataset, protocol)


def some_cold(dataset: Dataset, seed: int) -> np.ndarray:
    """Training events of each item: none of any target, and of some others."""
    count = np.random.default_rng(seed).integers(0, 3, dataset.num_items + 1)
    count[last_event(dataset).target] = 0
    return count


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block=st.integers(1, 40), batch=st.integers(1, 13))
def test_cold_items_equal_naive_ranking(seed: int, block: int, batch: int) -> None:
    dataset = random_dataset(seed)
    model = random_vectors(dataset, seed + 1)
    count = some_cold(dataset, seed)
    found = rank(
        model,
        last_event(dataset),
        dataset.item_domain,
        "full-cold",
        batch_users=batch,
        block_items=block,
        train_count=count,
    )
    assert as_rows(found) == naive(model, dataset, "full-cold", train_count=count)


def test_trained_targets_have_no_ranking_among_cold_items() -> None:
    dataset = random_dataset(3)
    model, examples = random_vectors(dataset, 4), last_event(dataset)
    count = some_cold(dataset, 3)
    count[examples.target[0]] = 1
    trained = int((examples.target == examples.target[0]).sum())
    with pytest.raises(InputError, match=f"{trained} of {len(examples)} targets have some") as raised:
        rank(model, examples, dataset.item_domain, "full-cold", train_count=count)
    assert "split=cold-item" in str(raised.value)
    with pytest.raises(ValueError, match="training events of the items"):
        rank(model, examples, dataset.item_domain, "full-cold")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 13))
def test_lists_equal_naive_ranking(seed: int, batch: int) -> None:
    dataset = random_dataset(seed)
    model = random_vectors(dataset, seed + 1)
    lists = draw_negatives(dataset, last_event(dataset), "sampled-100", seed)
    ranks = rank(model, last_event(dataset), dataset.item_domain, "sampled-100", lists, batch_users=batch)
    assert as_rows(ranks) == naive(model, dataset, "sampled-100", lists.items)


@pytest.mark.parametrize("protocol", ["full", "full-cold", "full-all", "sampled-100"])
def test_plain_scores_agree_with_vectors(protocol: str) -> None:
    dataset = random_dataset(5, users=40)
    random = np.random.default_rng(5)
    items, users = (torch.from_numpy(random.integers(-2, 3, (31, 4)).astype(np.float32)) for _ in range(2))
    models: list[Recommender] = [
        Vectors(dataset.catalogue(), items, users),
        Scores(dataset.catalogue(), users @ items.T),  # whole numbers, so exact
    ]
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, protocol) if protocol.startswith("sampled") else None
    given = {"negatives": lists, "block_items": 7, "train_count": some_cold(dataset, 5)}
    vectors, plain = (as_rows(rank(model, examples, dataset.item_domain, protocol, **given)) for model in models)
    assert vectors == plain
    assert np.array(vectors)[:, 1].max() > 0


def close_vectors(dataset: Dataset) -> Vectors:
    """Items that differ in the last bits: nearly every float32 comparison is too close to call."""
    random = np.random.default_rng(3)
    size = dataset.num_items + 1
    items = np.ones((size, 33), np.float32) + random.integers(0, 3, (size, 33)).astype(np.float32) * np.float32(2**-23)
    users = random.normal(size=(size, 33)).astype(np.float32)
    return Vectors(dataset.catalogue(), torch.from_numpy(items), torch.from_numpy(users))


def test_close_scores_do_not_depend_on_blocks() -> None:
    dataset = random_dataset(11, users=60, items=200)
    model, examples = close_vectors(dataset), last_event(dataset)
    expected = naive(model, dataset, "full")
    for block, batch in [(1, 512), (3, 7), (64, 60), (1024, 1)]:
        ranks = rank(model, examples, dataset.item_domain, batch_users=batch, block_items=block)
        assert as_rows(ranks) == expected
    float32 = (model.users @ model.items.T).numpy()
    target = [int(item) for item in examples.target]
    wrong = sum(
        (float32[int(examples.history(i)[-1]), 1:] > float32[int(examples.history(i)[-1]), target[i]]).sum()
        != naive(model, dataset, "full-all")[i][0]
        for i in range(10)
        if len(examples.history(i))
    )
    assert wrong > 0  # so the case is hard enough to need the exact comparison


def test_copies_of_an_item_are_ties() -> None:
    dataset = make_dataset([[1, 2], [4, 9]], [0] * 9)
    random = np.random.default_rng(0)
    items = torch.from_numpy(np.repeat(random.normal(size=(2, 64)), [6, 4], axis=0).astype(np.float32))
    model = Vectors(dataset.catalogue(), items, torch.from_numpy(random.normal(size=(10, 64)).astype(np.float32)))
    ranks = rank(model, last_event(dataset), dataset.item_domain)
    assert ranks.ties.tolist() == [3, 3]  # items 1-5 are one vector and 6-9 another: 1 is seen, as is 4


def test_fold_copies_keeps_single_items_first() -> None:
    vectors = torch.tensor([[0.0, 0], [1, 2], [3, 4], [1, 2], [5, 6], [1, 2]])
    kept, copies = fold_copies(vectors, np.arange(1, 6))
    assert kept.tolist() == [1, 3, 0]
    assert copies.tolist() == [1, 1, 3]


@pytest.mark.parametrize("items", ["equal", "distinct"])
def test_a_scorer_without_opinion_ties_with_all(items: str) -> None:
    dataset = random_dataset(2, items=60, users=20)
    vectors = torch.ones(61, 4) if items == "equal" else torch.randn(61, 4, generator=torch.Generator().manual_seed(0))
    users = torch.ones(61, 4) if items == "equal" else torch.zeros(61, 4)
    examples = last_event(dataset)
    model = Vectors(dataset.catalogue(), vectors, users)
    lists = draw_negatives(dataset, examples, "sampled-100")
    for protocol, negatives in [("full", None), ("full-all", None), ("sampled-100", lists)]:
        ranks = rank(model, examples, dataset.item_domain, protocol, negatives)
        assert (ranks.greater == 0).all()
        assert (ranks.ties == ranks.candidates).all()


def test_model_mode_and_precision_are_restored() -> None:
    dataset = random_dataset(1)
    model = random_vectors(dataset, 1)
    before = torch.get_float32_matmul_precision()
    rank(model.train(), last_event(dataset), dataset.item_domain)
    assert model.training
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("place", ["items", "users", "table"])
@pytest.mark.parametrize("protocol", ["full", "sampled-100"])
def test_scores_that_are_no_numbers_are_refused(place: str, protocol: str) -> None:
    dataset = random_dataset(1)
    model: Recommender
    if place == "table":
        model = Scores(dataset.catalogue(), torch.full((31, 31), float("nan")))
    else:
        model = random_vectors(dataset, 1)
        getattr(model, place)[:] = float("nan")
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, protocol) if protocol != "full" else None
    with pytest.raises(SemacdrError, match=r"(Vectors|Scores) gives .* not finite numbers"):
        rank(model, examples, dataset.item_domain, protocol, lists)


def test_no_examples() -> None:
    dataset = random_dataset(1)
    none = last_event(dataset).select(np.zeros(0, np.int64))
    assert len(rank(random_vectors(dataset, 1), none, dataset.item_domain)) == 0


def test_unknown_protocol_names_the_nearest() -> None:
    dataset = random_dataset(1)
    with pytest.raises(InputError, match="did you mean 'sampled-999'"):
        rank(random_vectors(dataset, 1), last_event(dataset), dataset.item_domain, "sampled-99")
