"""Coverage: what is in the first k of anybody's list, counted by hand, by a plain loop, and on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.errors import InputError, SemacdrError
from semacdr.evaluation.coverage import coverage, covered_items, parse_ks
from semacdr.models.base import Recommender
from tests.evaluation.small import Scores, Vectors, last_event, make_dataset, random_dataset, random_vectors
from tests.planted import write_planted

KS = (1, 2, 4)


def naive(dataset: Dataset, scores: np.ndarray, k: int) -> set[int]:
    """Whole lists, sorted one by one; ``scores`` is (N+1, N+1), a row for each newest item of a history."""
    found: set[int] = set()
    examples = last_event(dataset)
    for at in range(len(examples)):
        history, target = examples.history(at), int(examples.target[at])
        seen = set(history.tolist()) - {target}
        domain = dataset.item_domain[target]
        candidates = [i for i in range(1, dataset.num_items + 1) if dataset.item_domain[i] == domain and i not in seen]
        row = scores[int(history[-1]) if len(history) else 0]
        found |= set(sorted(candidates, key=lambda item: (-row[item], item))[:k])
    return found


def covered(model: Recommender, dataset: Dataset, ks: tuple[int, ...] = KS, at_once: int = 1 << 23) -> list[set[int]]:
    found = covered_items(model, last_event(dataset), dataset.item_domain, ks, at_once)
    return [set(np.flatnonzero(row).tolist()) for row in found]


def test_hand_computed() -> None:
    # Domain a holds items 1-5, b holds 6-7, c holds 8 and no target. User 0 had 1, 1, 6 and now 3; user 1 had 7, now 7.
    dataset = make_dataset([[1, 1, 6, 3], [7, 7]], [0, 0, 0, 0, 0, 1, 1, 2])
    row = [0.0, 9, 2, 2, 2, 1, 5, 6, 99]
    model = Scores(dataset.catalogue(), torch.tensor([row] * 9))
    # User 0 in a, without the seen 1: 2, 3, 4 level, the first in the data set first, then 5. User 1 in b: its target
    # stays a candidate though it was seen: 7, 6.
    assert covered(model, dataset, (1, 2, 9)) == [{2, 7}, {2, 3, 6, 7}, {2, 3, 4, 5, 6, 7}]
    found = covered_items(model, last_event(dataset), dataset.item_domain, (1, 2, 9))
    shares = coverage(found, dataset.item_domain, dataset.domains, np.array([0, 1]))
    assert shares == {
        "all": [2 / 7, 4 / 7, 6 / 7],  # c has no list, so its item does not count
        "a": [1 / 5, 2 / 5, 4 / 5],
        "b": [1 / 2, 1.0, 1.0],
    }


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), at_once=st.sampled_from([1, 40, 1 << 23]))
def test_a_plain_loop_finds_the_same(seed: int, at_once: int) -> None:
    dataset = random_dataset(seed)
    random = np.random.default_rng(seed)
    table = random.integers(0, 6, (dataset.num_items + 1, dataset.num_items + 1)).astype(np.float32)  # many ties
    model = Scores(dataset.catalogue(), torch.from_numpy(table))
    assert covered(model, dataset, at_once=at_once) == [naive(dataset, table, k) for k in KS]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), at_once=st.sampled_from([1, 40, 1 << 23]))
def test_vectors_whatever_is_scored_at_once(seed: int, at_once: int) -> None:
    dataset = random_dataset(seed)
    model: Vectors = random_vectors(dataset, seed)
    table = (model.users.numpy().astype(np.float64) @ model.items.numpy().astype(np.float64).T).astype(np.float32)
    assert covered(model, dataset, at_once=at_once) == [naive(dataset, table, k) for k in KS]


def test_one_favourite_covers_little_and_ties_no_more() -> None:
    """A constant scorer recommends k items to all whose histories do not hold them."""
    dataset = make_dataset([[9, 10]] * 5, [0] * 10)
    model = Scores(dataset.catalogue(), torch.zeros(11, 11))
    assert covered(model, dataset) == [{1}, {1, 2}, {1, 2, 3, 4}]


def test_scores_that_are_no_numbers() -> None:
    dataset = make_dataset([[1, 2]], [0, 0])
    model = Scores(dataset.catalogue(), torch.full((3, 3), float("nan")))
    with pytest.raises(SemacdrError, match="not finite"):
        covered(model, dataset)


@pytest.mark.parametrize("text", ["", "0", "10,", "a", "-3", "1.5", "²"])
def test_wrong_numbers(text: str) -> None:
    with pytest.raises(InputError, match="above zero"):
        parse_ks(text)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_planted(tmp_path / "data", users=60)
    run = tmp_path / "run"
    assert main(["train", "--quiet", "--model", "Popularity", "--dataset", str(dataset.path), "--out", str(run)]) == 0
    assert main(["evaluate", str(run), "--quiet"]) == 0
    plain = json.loads((run / "metrics.json").read_text())
    assert "coverage@3" not in plain["full"]["all"]
    capsys.readouterr()
    assert main(["evaluate", str(run), "--quiet", "--protocol", "full,full-all", "--coverage", "3,1000"]) == 0
    assert "coverage@3" in capsys.readouterr().out
    found = json.loads((run / "metrics.json").read_text())
    assert "coverage@3" not in found["full-all"]["all"]
    for domain, values in found["full"].items():
        assert 3 / 24 <= values.pop("coverage@3") < 1
        assert values.pop("coverage@1000") == 1  # somebody has not seen it
        assert values == plain["full"][domain]
    rows = [row for row in json.loads((run / "metrics_long.json").read_text()) if row["metric"] == "coverage@3"]
    assert [(row["domain"], row["subset"], row["ci_low"], row["n_targets"]) for row in rows] == [
        ("all", "all", None, 60),
        *((name, "all", None, row["n_targets"]) for name, row in zip(("tea", "pans"), rows[1:])),
    ]
    assert main(["evaluate", str(run), "--protocol", "sampled-100", "--coverage", "3"]) == 2
    assert "goes with protocol full" in capsys.readouterr().err
