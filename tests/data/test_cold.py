"""The cold splits: what is held out, who is asked for what, and that nothing held out or later is left anywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from semacdr.cli import main
from semacdr.data.cold_items import held_out_items
from semacdr.data.dataset import Dataset
from semacdr.data.plan import TEST, TRAIN, VALID, latest
from semacdr.data.review_texts import event_reviews
from semacdr.data.split_names import parse_split
from semacdr.data.splits import Examples, Split, make_split
from semacdr.errors import InputError
from semacdr.training.settings import TrainSettings
from tests.data.test_splits import DOMAINS, dataset, example_rows, train_rows
from tests.planted import write_planted
from tests.planted_reviews import write_review_rows

# Items 1-3 are x, 4-6 y, 7-8 z. By their first day 2 and 5 are to validate, 3, 6 and 8 to test, at 67 %.
ARRIVALS = [
    ([1, 4, 7, 2, 3, 1], [0, 0, 0, 5, 9, 10]),  # two held-out events: the last counts, the other is dropped
    ([4, 5, 6, 1], [1, 2, 3, 4]),  # 1 is later than the target
    ([2, 4, 8], [6, 7, 8]),
    ([3, 2, 1, 4], [9, 9, 9, 9]),  # nothing trained before a held-out event
    ([4, 5, 1], [1, 4, 5]),
    ([1, 4, 7], [1, 2, 3]),  # nothing held out
]


def timed(rows: list[tuple[list[int], list[int]]], order: str = "total") -> Dataset:
    return dataset([items for items, _ in rows], [days for _, days in rows], order)


def test_new_items_by_hand() -> None:
    split = make_split(timed(ARRIVALS), "cold-item-67")
    assert split.name == "cold-item-67"
    assert example_rows(split.valid) == [(4, [4], 5)]
    assert example_rows(split.test) == [(0, [1, 4, 7], 3), (1, [4], 6), (2, [4], 8)]
    trained = [[1, 4, 7], [4], [4], [1, 4], [4], [1, 4, 7]]
    assert [row[1] for row in train_rows(split)] == trained
    assert split.train_count.tolist() == [0, 3, 0, 0, 6, 0, 0, 2, 0]
    assert split.test.strict.tolist() == [True, True, True]


def test_new_items_without_an_order_across_domains_by_hand() -> None:
    rows = [
        ([1, 2, 1, 4], [0, 5, 6, 0]),  # x 1 2 1, y 4: the second 1 is later than 2
        ([3, 4], [9, 1]),
        ([1, 6, 7], [2, 3, 1]),
        ([5], [2]),  # nothing to ask it from
        ([1, 8], [3, 9]),
    ]
    split = make_split(timed(rows, "within-domain"), "cold-item-67")
    assert example_rows(split.valid) == [(0, [4, 1], 2)]
    assert example_rows(split.test) == [(1, [4], 3), (2, [1, 7], 6), (4, [1], 8)]
    assert train_rows(split) == [
        (0, [4, 1], [False, True]),
        (0, [1, 4], [False, True]),
        (1, [4], [True]),
        (2, [7, 1], [False, True]),
        (2, [1, 7], [False, True]),
        (4, [1], [True]),
    ]
    assert split.train_count.tolist() == [0, 3, 0, 0, 2, 0, 0, 1, 0]


STEPS = [
    ([1, 4, 2], [0, 3, 4]),
    ([4, 5, 1, 4], [0, 1, 8, 9]),
    ([1, 7, 4, 7], [0, 2, 5, 6]),  # y is entered last
    ([1, 2, 3], [9, 9, 9]),  # one domain
    ([4, 2], [0, 1]),
]


def test_first_steps_by_hand() -> None:
    """The four users in several domains step on days 3, 8, 5 and 1: half of them are asked, the latest."""
    split = make_split(timed(STEPS), "cold-user-50")
    assert example_rows(split.valid) == [(2, [1, 7], 4)]
    assert example_rows(split.test) == [(1, [4, 5], 1)]
    assert [row[1] for row in train_rows(split)] == [[1, 4, 2], [4, 5], [1, 7], [1, 2, 3], [4, 2]]
    assert split.train_count.tolist() == [0, 3, 3, 1, 3, 1, 0, 1, 0]


def test_first_steps_without_an_order_across_domains() -> None:
    rows = [[1, 2, 4, 5], [4, 7, 8], [1, 2, 3]] * 40
    data = dataset(rows, order="within-domain")
    split = make_split(data, "cold-user-50")
    clocked = dataset(rows, [[user] * len(rows[user]) for user in range(120)], "within-domain")
    assert by_id(data, split) == by_id(clocked, make_split(clocked, "cold-user-50"))  # no step has a time of its own
    asked = asked_of(split)
    assert len(split.valid) == len(split.test) == 20  # half of 80
    assert {user % 3 for user in asked} == {0, 1}
    assert {target for _, target in asked.values()} == {1, 4, 7}  # each domain is drawn for some
    for user, (history, target) in asked.items():
        assert history == [item for item in rows[user] if DOMAINS[item] != DOMAINS[target]]
        assert target == next(item for item in rows[user] if DOMAINS[item] == DOMAINS[target])
        own = [items for who, items, learned in train_rows(split) if who == user]
        assert sorted({item for items in own for item in items}) == history


def test_ties_in_time_do_not_follow_the_index() -> None:
    """Every item is first seen on one day: the items of a larger catalogue are drawn, as without any times."""
    key = np.random.default_rng(0).permutation(1000)
    for time in (None, np.zeros(1000, np.int64)):
        role = latest(key, time, 10)
        assert [(role == wanted).sum() for wanted in (VALID, TEST)] == [50, 50]
        assert set(key[role == VALID]) == set(range(900, 950))
        assert set(key[role == TEST]) == set(range(950, 1000))


def by_id(data: Dataset, split: Split) -> list[object]:
    """A split in words that hold whatever the indices are."""
    name = data.item_ids
    parts = [
        sorted((data.user_ids[u], *name[h], name[t]) for u, h, t in example_rows(part)) for part in parts_of(split)
    ]
    train = sorted((data.user_ids[u], *name[items]) for u, items, _ in train_rows(split))
    return [*parts, train, {name[item]: int(count) for item, count in enumerate(split.train_count)}]


def parts_of(split: Split) -> tuple[Examples, Examples]:
    return split.valid, split.test


def asked_of(split: Split) -> dict[int, tuple[list[int], int]]:
    """User -> history and target."""
    return {user: (history, target) for part in parts_of(split) for user, history, target in example_rows(part)}


def renumbered(data: Dataset, random: np.random.Generator) -> Dataset:
    """The same data with the items in another order."""
    place = np.r_[0, 1 + random.permutation(data.num_items)].astype(np.int32)  # of each old index
    old = np.argsort(place)
    return replace(data, item_ids=data.item_ids[old], item_domain=data.item_domain[old], items=place[data.items])


@pytest.mark.parametrize("name", ["cold-item-67", "cold-user", "cold-user-60"])
@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("order", ["total", "within-domain"])
def test_neither_the_order_of_items_nor_a_second_time_matters(name: str, clock: bool, order: str) -> None:
    random = np.random.default_rng(7)
    rows = [random.integers(1, 9, 7).tolist() for _ in range(60)]
    rows = [sorted(row, key=lambda item: DOMAINS[item]) for row in rows] if order == "within-domain" else rows
    days = [np.sort(random.integers(0, 3, 7)).tolist() for _ in rows] if clock else None
    data = dataset(rows, days, order)
    first = by_id(data, make_split(data, name))
    assert by_id(data, make_split(data, name)) == first
    other = renumbered(data, random)
    assert by_id(other, make_split(other, name)) == first


sequences = st.lists(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=9), min_size=2, max_size=12
)


def drawn(rows: list[list[tuple[int, int]]], clock: bool, order: str) -> Dataset:
    rows = [sorted(row, key=lambda event: event[1]) for row in rows]
    rows = [sorted(row, key=lambda event: DOMAINS[event[0]]) for row in rows] if order == "within-domain" else rows
    items, days = ([[event[at] for event in row] for row in rows] for at in (0, 1))
    return dataset(items, days if clock else None, order)


def checked(data: Dataset, name: str) -> Split:
    """A split, or no example of it."""
    try:
        return make_split(data, name)
    except InputError as error:
        assume("this split leaves no" not in error.what)
        raise


@settings(max_examples=150, deadline=None, derandomize=True)
@given(sequences, st.booleans(), st.sampled_from(["total", "within-domain"]), st.integers(20, 80))
def test_new_items_equal_their_definition(rows, clock, order, percent) -> None:
    data = drawn(rows, clock, order)
    split = checked(data, f"cold-item-{percent}")
    role = held_out_items(data, percent)
    asked = {}
    for part, wanted in ((split.valid, VALID), (split.test, TEST)):
        for user, history, target in example_rows(part):
            assert user not in asked
            assert role[target] == wanted
            assert len(history)
            assert (role[history] == TRAIN).all()
            asked[user] = (history, target)
    assert (split.train_count[role > 0] == 0).all()
    learned = np.concatenate([np.zeros(0, int), *(items for _, items, _ in train_rows(split))]).astype(int)
    assert (role[learned] == TRAIN).all()
    for user in range(data.num_users):
        events = data.user_items(user).tolist()
        own = sorted({item for who, items, _ in train_rows(split) if who == user for item in items})
        if order == "within-domain":
            groups = [[item for item in events if DOMAINS[item] == domain] for domain in range(3)]
        else:
            groups = [events]
        possible = []
        for index, group in enumerate(groups):
            foreign = [item for at, other in enumerate(groups) if at != index for item in other if role[item] == TRAIN]
            held = [at for at, item in enumerate(group) if role[item] != TRAIN]
            if held:
                history = foreign + [item for item in group[: held[-1]] if role[item] == TRAIN]
                if history:
                    possible.append((history, group[held[-1]]))
        assert (user in asked) == bool(possible)
        if possible:
            assert asked[user] in possible
            assert own == sorted(set(asked[user][0]))  # no event later than the target trains
        else:
            assert own == sorted({item for item in events if role[item] == TRAIN})


@settings(max_examples=150, deadline=None, derandomize=True)
@given(sequences, st.booleans(), st.sampled_from(["total", "within-domain"]), st.integers(30, 99))
def test_first_steps_equal_their_definition(rows, clock, order, percent) -> None:
    data = drawn(rows, clock, order)
    split = checked(data, f"cold-user-{percent}")
    several = [user for user in range(data.num_users) if len(set(DOMAINS[data.user_items(user)])) > 1]
    count = int(percent * len(several) / 100 + 0.5)
    asked = asked_of(split)
    assert (len(split.valid), len(split.test)) == (count // 2, count - count // 2)
    assert len(asked) == count
    assert set(asked) <= set(several)
    steps = {}
    for user in range(data.num_users):
        events = data.user_items(user).tolist()
        own = sorted({item for who, items, _ in train_rows(split) if who == user for item in items})
        firsts = [next(at for at, item in enumerate(events) if DOMAINS[item] == d) for d in set(DOMAINS[events])]
        steps[user] = max(firsts) + int(data.offsets[user])
        if user not in asked:
            assert own == sorted(set(events))
            continue
        history, target = asked[user]
        if order == "total":
            assert (history, target) == (events[: max(firsts)], events[max(firsts)])
        else:
            assert history == [item for item in events if DOMAINS[item] != DOMAINS[target]]
            assert target in [events[at] for at in firsts]
        assert own == sorted(set(history))
    if clock and order == "total":  # the latest steps are asked for, the newest of them in the test
        time = {user: data.timestamps[steps[user]] for user in several}
        groups = [[time[user] for user in several if user not in asked]]
        groups += [[time[user] for user, _, _ in example_rows(part)] for part in parts_of(split)]
        for older, newer in pairwise(groups):
            assert max(older, default=-1) <= min(newer)


def test_a_published_split_is_not_looked_at() -> None:
    """URLLM's targets are no events of its sequences: what a cold split divides are the sequences."""
    rows, days = [items for items, _ in ARRIVALS], [days for _, days in ARRIVALS]
    targets = [("train", 0, 2, 6), ("test", 1, 6, 4)]
    for name in ("cold-item-67", "cold-user-80"):
        plain, published = (make_split(dataset(rows, days, targets=given), name) for given in (None, targets))
        assert by_id(dataset(rows), plain) == by_id(dataset(rows), published)
        assert published.name == name


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("cold-items", "unknown split 'cold-items'", "did you mean 'cold-item'"),
        ("cold_user", "unknown split", "did you mean 'cold-user'"),
        ("cold-user-x", "unknown split", "did you mean 'cold-user"),
        ("cold-item-0", "holds out 0 %", "from 1 to 99"),
        ("cold-user-100", "holds out 100 %", "from 1 to 99"),
        ("leave-one-ot", "unknown split", "did you mean 'leave-one-out'"),
        ("transfer-50", "unknown split", "did you mean 'transfer-80:z'"),
    ],
)
def test_wrong_names(name: str, message: str, fix: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        make_split(timed(STEPS), name)
    assert fix in str(raised.value)


def test_names_in_full() -> None:
    names = ["cold-item", "cold-item-10", "cold-user", "cold-user-5", "transfer-080:x y"]
    full = ["cold-item-10", "cold-item-10", "cold-user-20", "cold-user-5", "transfer-80:x y"]
    assert [split.name for split in map(parse_split, names) if split] == full
    assert parse_split("leave-one-out") is None
    # a run keeps the full name, so that what was divided alike stands in one table however it was typed
    assert [TrainSettings(split=name).split for name in names] == full
    assert TrainSettings(split="cold-itm").split == "cold-itm"  # whoever splits says what is wrong with it


def test_data_that_leave_nothing_to_ask() -> None:
    for name in ("cold-item", "cold-user"):  # 10 % of three items; no user in two domains
        with pytest.raises(InputError, match="no validation target"):
            make_split(dataset([[1, 2], [4]]), name)
    with pytest.raises(InputError, match="interleaved"):
        make_split(dataset([[1, 4, 2]], order="within-domain"), "cold-item-50")


@pytest.mark.parametrize("split", ["cold-item-40", "cold-user-40"])
def test_reviews_of_hidden_events_are_read_nowhere(tmp_path: Path, split: str) -> None:
    """A pair's reviews are read only where all its events train."""
    random = np.random.default_rng(3)
    rows = [
        (f"u{user}", item, item[0], 86_400 * at, at, 4.0, f"u{user} on {item}, {at}")
        for user in range(40)
        for at, item in enumerate(f"{'xy'[random.integers(2)]}{random.integers(5)}" for _ in range(8))
    ]
    columns = ["user_id", "item_id", "domain", "timestamp", "position", "rating", "text"]
    data = write_review_rows(tmp_path / "data", pd.DataFrame(rows, columns=columns))
    made = make_split(data, split)
    found = event_reviews(data, made)
    assert found is not None
    known: dict[int, list[int]] = {user: [] for user in range(data.num_users)}
    for user, items, _ in train_rows(made):
        known[user] += items
    wanted = set()
    for user in range(data.num_users):
        events = data.user_items(user).tolist()
        for item in set(events):
            if known[user].count(item) == events.count(item):
                wanted.add(f"{data.user_ids[user]} on {data.item_ids[item]}, {events.index(item)}")
    assert set(found.texts) == wanted
    assert 0 < len(wanted) < len({text.partition(",")[0] for *_, text in rows})


def test_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_planted(tmp_path / "data", items=40, users=60)
    train = ["train", "--quiet", "--model", "Popularity", "--dataset", str(data.path), "--out"]
    assert main([*train, str(tmp_path / "wrong"), "split=cold-itme"]) == 2
    assert "did you mean 'cold-item'" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
    for split, bucket, column in (
        ("cold-item-10", "item 0", "item_train_count"),
        ("cold-user-20", "user 0", "domain_history_length"),
    ):
        run = tmp_path / split
        assert main([*train, str(run), f"split={split}"]) == 0
        assert main(["evaluate", str(run), "--quiet"]) == 0
        assert (pd.read_parquet(run / "ranks-full-test.parquet")[column] == 0).all()
        rows = pd.read_json(run / "metrics_long.json")
        whole, cold = (rows[rows["subset"] == name].set_index(["domain", "metric"])["mean"] for name in ("all", bucket))
        pd.testing.assert_series_equal(whole, cold)
        assert set(rows["split"]) == {split}
