"""Filters against hand-made cases, and the core against its definition."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.filters import Filters, apply_filters
from semacdr.errors import InputError


def frames(rows: list[tuple[str, str, str, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "domain", "timestamp"])
    items = events[["item_id", "domain"]].drop_duplicates()
    return events, pd.concat([items, pd.DataFrame([("idle", "x")], columns=["item_id", "domain"])])


ROWS = [
    ("u", "a", "x", 1),
    ("u", "b", "y", 2),
    ("u", "a", "x", 2),
    ("u", "a", "x", 2),
    ("v", "a", "x", 3),
    ("v", "c", "y", 4),
]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (Filters(), [0, 1, 2, 3, 4, 5]),
        (Filters(from_time=2), [1, 2, 3, 4, 5]),
        (Filters(to_time=2), [0]),
        (Filters(from_time=2, to_time=4), [1, 2, 3, 4]),
        (Filters(dedup="off"), [0, 1, 2, 3, 4, 5]),
        (Filters(dedup="rows"), [0, 1, 2, 4, 5]),
        (Filters(dedup="items"), [0, 1, 4, 5]),
        (Filters(keep_last=1), [3, 5]),
        (Filters(min_user=3), [0, 1, 2, 3]),
        (Filters(min_item=2), [0, 2, 3, 4]),
        (Filters(min_user_domain=2), []),
        (Filters(dedup="rows", keep_last=2, min_user=2), [1, 2, 4, 5]),
    ],
)
def test_filters_by_hand(filters, left):
    events, items = frames(ROWS)
    kept, _ = apply_filters(events, items, filters)
    assert kept.to_numpy().tolist() == events.iloc[left].to_numpy().tolist()


def test_the_newest_events_are_taken_in_each_domain_without_a_common_order():
    events, items = frames(ROWS)
    kept, _ = apply_filters(events, items, Filters(keep_last=1), "within-domain")
    assert kept[["user_id", "item_id"]].to_numpy().tolist() == [["u", "b"], ["u", "a"], ["v", "a"], ["v", "c"]]


def test_the_catalogue_loses_only_what_falls_out_of_a_core():
    events, items = frames(ROWS)
    assert "idle" in set(apply_filters(events, items, Filters(from_time=4))[1]["item_id"])
    assert apply_filters(events, items, Filters(min_item=2))[1]["item_id"].tolist() == ["a"]


def test_a_window_needs_time_stamps():
    events, items = frames(ROWS)
    with pytest.raises(InputError, match="has none"):
        apply_filters(events.drop(columns="timestamp"), items, Filters(from_time=1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_the_core_is_the_largest_set_in_which_all_counts_hold(pairs, min_user, min_item, min_user_domain):
    rows = [(f"u{user}", f"i{item}", "xy"[item % 2], at) for at, (user, item) in enumerate(pairs)]
    events, _ = frames(rows)
    items = pd.DataFrame([(f"i{item}", "xy"[item % 2]) for item in range(6)], columns=["item_id", "domain"])
    kept, _ = apply_filters(
        events, items, Filters(min_user=min_user, min_item=min_item, min_user_domain=min_user_domain)
    )

    alive = rows  # the definition: throw out one offender at a time until there is none
    while True:
        users = [row[0] for row in alive]
        names = [row[1] for row in alive]
        offender = next(
            (
                row
                for row in alive
                if users.count(row[0]) < min_user
                or names.count(row[1]) < min_item
                or any(sum(r[0] == row[0] and r[2] == domain for r in alive) < min_user_domain for domain in "xy")
            ),
            None,
        )
        if offender is None:
            break
        alive = [row for row in alive if row != offender]
    assert kept["timestamp"].tolist() == [row[3] for row in alive]
