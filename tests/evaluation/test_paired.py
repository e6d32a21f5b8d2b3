"""Paired tests over users: by hand, against exact enumeration, and on the files of evaluations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semacdr.errors import InputError
from semacdr.evaluation.paired import paired_test, sign_flip_p, target_values


def test_sign_flips_against_all_of_them() -> None:
    gaps = np.array([0.5, -0.1, 0.3, 0.2, 0.4, -0.05, 0.1])
    every = [abs(np.dot(signs, gaps)) for signs in itertools.product((-1, 1), repeat=len(gaps))]
    exact = np.mean(np.array(every) >= abs(gaps.sum()) - 1e-9)
    assert sign_flip_p(gaps, 20_000) == pytest.approx(exact, abs=0.006)


def test_no_difference_is_no_evidence_and_a_clear_one_is() -> None:
    user = np.arange(200)
    same = np.linspace(0, 1, 200)
    found = paired_test(same, same, user, 500)
    assert (found.difference, found.p_value, found.ci_low, found.ci_high) == (0.0, 1.0, 0.0, 0.0)
    found = paired_test(same + 0.1, same, user, 500)
    assert found.difference == pytest.approx(0.1)
    assert found.p_value == pytest.approx(1 / 501)
    assert found.ci_low > 0


def test_a_user_counts_once_however_many_targets_it_has() -> None:
    """Forty equal targets of one user are one observation: a coin flip decides, p is 1."""
    found = paired_test(np.full(40, 0.3), np.zeros(40), np.zeros(40, np.int64), 500)
    assert (found.users, found.targets, found.p_value) == (1, 40, 1.0)
    apart = paired_test(np.full(40, 0.3), np.zeros(40), np.arange(40), 500)
    assert apart.p_value < 0.01


def test_chance_differences_are_seldom_found() -> None:
    random = np.random.default_rng(1)
    found = [sign_flip_p(random.normal(size=30), 200, seed) for seed in range(300)]
    assert 0.01 < np.mean(np.array(found) <= 0.05) < 0.10


def _ranks(folder: Path, greater: list[int], users: str = "abc") -> Path:
    folder.mkdir()
    frame = pd.DataFrame({"user_id": list(users), "item_id": ["x", "y", "z"], "domain": "d", "greater": greater})
    frame.assign(ties=0).to_parquet(folder / "ranks-full-test.parquet")
    return folder


def test_values_of_runs(tmp_path: Path) -> None:
    runs = [_ranks(tmp_path / "0", [0, 2, 50]), _ranks(tmp_path / "1", [2, 2, 0])]
    targets, values = target_values(runs, "full")
    assert list(targets["user_id"]) == ["a", "b", "c"]
    assert values == pytest.approx(np.array([[1.0, 0.5, 0.0], [0.5, 0.5, 1.0]]))  # 1 / log2(rank + 2)
    with pytest.raises(InputError, match="other targets"):
        target_values([runs[0], _ranks(tmp_path / "2", [0, 0, 0], "abd")], "full")
    with pytest.raises(InputError, match="not evaluated under sampled-999"):
        target_values(runs, "sampled-999")
