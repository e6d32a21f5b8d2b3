"""Paired tests over users: by hand, against exact enumeration, and on the files of evaluations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semacdr.errors import InputError
from semacdr.evaluation.paired import (
    holm,
    paired_test,
    paired_tests,
    sign_flip_p,
    sign_flip_p_values,
    target_values,
)


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


def test_several_systems_at_once_are_each_tested_alone() -> None:
    random = np.random.default_rng(2)
    other, values = random.random(60), random.random((60, 3))
    values[:, 1] = other
    user = np.arange(60) // 2
    together = paired_tests(values, other, user, 200, 400)
    for at, found in enumerate(together):
        alone = paired_tests(values[:, at : at + 1], other, user, 200, 400)[0]
        numbers = (found.ci_low, found.ci_high, found.effect_size)
        assert numbers == pytest.approx((alone.ci_low, alone.ci_high, alone.effect_size))
        assert found.p_value == pytest.approx(alone.p_value, abs=0.12)  # other flips, where users without a gap go
    assert together[1].p_value == 1.0
    assert together[1].effect_size == 0.0
    columns = sign_flip_p_values(np.array([[1.0, 0.1], [1.0, -0.1], [1.0, 0.1]]), 4_000)
    assert columns == pytest.approx([2 / 8, 1.0], abs=0.03)  # all signs equal: 2 of 8; |sum| of the others: always


def test_effect_size_by_hand() -> None:
    """Users' mean gaps .1, .3, .2: mean .2, standard deviation .1."""
    gaps, user = np.array([0.1, 0.2, 0.4, 0.2]), np.array([7, 9, 9, 8])
    assert paired_test(gaps, np.zeros(4), user, 50).effect_size == pytest.approx(2.0)


def test_holm_by_hand() -> None:
    # .01 x 4, .02 x 3 = .06, .03 x 2 = .06, .5 x 1
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    # .03 x 2 = .06, and .04 x 1 is raised to it
    assert holm([0.03, 0.04]) == pytest.approx([0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


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
