"""The transfer split: who is asked, what is hidden, and that nothing hidden is left anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from semacdr.data.dataset import Dataset
from semacdr.data.plan import TEST, TRAIN, VALID
from semacdr.data.review_texts import event_reviews
from semacdr.data.splits import Examples, make_split
from semacdr.data.transfer import plan_transfer
from semacdr.errors import InputError
from semacdr.training.trainer import train
from tests.data.test_splits import dataset as in_memory
from tests.planted import write_planted
from tests.planted_reviews import write_review_rows


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted"))


def known_events(data: Dataset, percent: int, domain: str) -> list[list[int]]:
    plan = plan_transfer(data, percent, domain)
    rows = [np.arange(data.offsets[u], data.offsets[u + 1]) for u in range(data.num_users)]
    return [data.items[row[plan.known[row]]].tolist() for row in rows]


def test_who_can_be_asked() -> None:
    """Items 1-3 are x, 4-6 are y: a user needs three events of x, and one of another domain before the last of them."""
    asked = [[1, 4, 2, 3], [4, 1, 1, 1, 5]]
    never = [[1, 2, 4], [1, 2, 3, 4], [1, 2, 3], [4, 5, 6], []]
    data = in_memory(asked * 40 + never * 40)
    plan = plan_transfer(data, 50, "x")
    roles = plan.role.tolist()
    assert set(roles[:80]) == {TRAIN, VALID, TEST}
    assert set(roles[80:]) == {TRAIN}
    for user in np.flatnonzero(plan.role):
        first = data.offsets[user]
        assert plan.target_at[user] - first == 3  # the last event of x in either kind of history


def test_all_of_it_hidden_by_hand() -> None:
    data = in_memory([[4, 1, 5, 2, 3, 6]] * 60)
    plan = plan_transfer(data, 100, "x")
    for user, events in enumerate(known_events(data, 100, "x")):
        assert events == ([4, 1, 5, 2, 3, 6] if plan.role[user] == TRAIN else [4, 5])
    split = make_split(data, "transfer-100:x")
    assert split.name == "transfer-100:x"
    assert split.test.target.tolist() == [3] * int((plan.role == TEST).sum())
    assert split.valid.target.tolist() == [3] * int((plan.role == VALID).sum())
    assert all(split.test.history(at).tolist() == [4, 5] for at in range(len(split.test)))
    trained = int((plan.role == TRAIN).sum())
    assert split.train_count[[1, 2, 3, 6]].tolist() == [trained] * 4
    assert split.train_count[[4, 5]].tolist() == [60, 60]


def test_users_and_targets_are_the_same_at_every_share(planted: Dataset) -> None:
    domain = planted.domains[1]
    splits = {percent: make_split(planted, f"transfer-{percent}:{domain}") for percent in (0, 50, 80, 100)}
    whole = splits[0]
    for split in splits.values():
        for part in ("valid", "test"):
            mine, theirs = split.examples(part), whole.examples(part)  # type: ignore[arg-type]
            assert np.array_equal(mine.user, theirs.user)
            assert np.array_equal(mine.target, theirs.target)
    before: set[tuple[int, int]] = set()
    for percent in (50, 80, 100):  # what is hidden only grows
        plan = plan_transfer(planted, percent, domain)
        hidden = set(np.flatnonzero(~plan.known).tolist())
        assert before <= hidden
        before = hidden  # type: ignore[assignment]
    assert not set(whole.test.user) & set(whole.valid.user)
    assert 0.2 < len(whole.test) / planted.num_users < 0.45


@pytest.mark.parametrize("percent", [50, 80, 100])
def test_counts_and_nothing_hidden_is_left(planted: Dataset, percent: int) -> None:
    domain = planted.domains[1]
    split = make_split(planted, f"transfer-{percent}:{domain}")

    def check(examples: Examples) -> None:
        for at, user in enumerate(examples.user):
            events = planted.user_items(user)
            own = np.flatnonzero(planted.item_domain[events] == 1)
            before = len(own) - 1
            history = examples.history(at)
            assert (planted.item_domain[history] == 1).sum() == before - int(percent * before / 100 + 0.5)
            assert (planted.item_domain[history] == 0).sum() == own[-1] + 1 - len(own)
            assert events[own[-1]] == examples.target[at]
            row = int(np.flatnonzero(split.train.user == user)[0])
            assert split.train.items[split.train.start[row] : split.train.stop[row]].tolist() == history.tolist()

    check(split.test)
    check(split.valid)
    assert split.train_count.sum() == (split.train.stop - split.train.start).sum()


def test_days_decide_what_is_strict() -> None:
    sequences, days = [[4, 1, 2, 3]] * 60, [[0, 1, 2, 2]] * 60
    assert not make_split(in_memory(sequences, days), "transfer-0:x").test.strict.any()
    hidden = make_split(in_memory(sequences, days), "transfer-100:x").test  # now the event before is 4, on day 0
    assert hidden.strict.all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transfer-101:x", "101"),
        ("transfer-50:w", "no domain 'w'"),
        ("transfer-50", "unknown split"),
        ("transfer-x:x", "unknown split"),
        ("leave-two-out", "unknown split"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_split(in_memory([[4, 1, 2, 3]] * 60), name)


def test_data_that_cannot_be_hidden() -> None:
    with pytest.raises(InputError, match="no order across domains"):
        make_split(in_memory([[1, 2, 3, 4]], order="within-domain"), "transfer-50:x")
    with pytest.raises(InputError, match="published split"):
        make_split(in_memory([[1, 2, 3, 4]], targets=[("test", 0, 1, 2)]), "transfer-50:x")
    with pytest.raises(InputError, match="too few users"):
        make_split(in_memory([[1, 2, 3, 4]] * 9), "transfer-50:x")


def test_any_model_trains_on_it(planted: Dataset, tmp_path: Path) -> None:
    from semacdr.run import load_run

    out = train("Popularity", planted.path, tmp_path / "run", None, {"split": f"transfer-80:{planted.domains[0]}"})
    assert load_run(out).split.name == f"transfer-80:{planted.domains[0]}"
    with pytest.raises(InputError, match="unknown split"):
        train("Popularity", planted.path, tmp_path / "wrong", None, {"split": "transfer"})
    assert not (tmp_path / "wrong").exists()


def test_reviews_of_hidden_events_are_read_nowhere(tmp_path: Path) -> None:
    """Users come back to one item of x: where any of the pair's events is hidden, none of its reviews is read."""
    items = ["y0", "x0", "x0", "y1", "x1", "x2", "y2"]
    rows = [
        (f"u{user}", item, item[0], 86_400 * at, at, 4.0, f"u{user} at {at}")
        for user in range(60)
        for at, item in enumerate(items)
    ]
    columns = ["user_id", "item_id", "domain", "timestamp", "position", "rating", "text"]
    data = write_review_rows(tmp_path / "data", pd.DataFrame(rows, columns=columns))
    texts = pq.read_table(data.path / "interactions.parquet", columns=["text"]).column(0).to_pylist()
    partly = 0
    for percent in (0, 34, 67, 100):  # none, one, two and all three of the events before the target
        found = event_reviews(data, make_split(data, f"transfer-{percent}:x"))
        assert found is not None
        known = plan_transfer(data, percent, "x").known
        wanted = set()
        for user in range(data.num_users):
            pairs: dict[int, list[int]] = {}
            for at in range(data.offsets[user], data.offsets[user + 1]):
                pairs.setdefault(int(data.items[at]), []).append(at)
            wanted |= {texts[same[0]] for same in pairs.values() if known[same].all()}
            partly += sum(known[same].any() and not known[same].all() for same in pairs.values())
        assert set(found.texts) == wanted
    assert partly
