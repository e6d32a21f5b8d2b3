"""The greedy choice of representatives against a plain loop, and where the answer is plain to see."""

from __future__ import annotations

import math

import pytest
import torch

from semacdr.models.facility import TIE, representatives


def by_hand(x: list[list[float]], members: list[int], count: int, sigma: float) -> set[int]:
    if len(members) <= count:
        return set(members)
    mean = sum(math.dist(x[i], x[j]) for i in members for j in members) / len(members) ** 2

    def value(chosen: list[int]) -> float:
        return sum(max(math.exp(-math.dist(x[i], x[j]) / (sigma * mean)) for i in chosen) for j in members)

    chosen: list[int] = []
    for _ in range(count):
        values = {i: value([*chosen, i]) for i in members if i not in chosen}
        chosen.append(min(i for i in values if values[i] >= max(values.values()) - TIE))
    return set(chosen)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_choice_of_a_plain_loop(count: int, sigma: float) -> None:
    random = torch.Generator().manual_seed(count)
    x = torch.randn(9, 7, 3, generator=random)
    member = torch.rand(9, 7, generator=random) < 0.8
    member[0], member[1] = True, False
    taken = representatives(x, member, count, sigma)
    for row in range(9):
        expected = by_hand(x[row].tolist(), member[row].nonzero().flatten().tolist(), count, sigma)
        assert set(taken[row].nonzero().flatten().tolist()) == expected


def test_one_of_each_cluster_is_taken() -> None:
    x = torch.tensor([[[0.0, 0], [0.1, 0], [0.2, 0], [9, 0], [9.1, 0], [9.2, 0], [0, 7]]])
    taken = representatives(x, torch.ones(1, 7, dtype=torch.bool), 3)
    assert taken[0].nonzero().flatten().tolist() == [1, 4, 6]


def test_equal_vectors_are_no_trouble() -> None:
    taken = representatives(torch.zeros(1, 5, 2), torch.ones(1, 5, dtype=torch.bool), 2)
    assert taken[0].tolist() == [True, True, False, False, False]


def test_padding_does_not_choose_between_equals() -> None:
    """Any two of these can stand for each other as well, so only the order tells."""
    x = torch.tensor([[0.0, 0], [1, 0], [0.5, 3**0.5 / 2], [40, 0], [41, 0], [40.5, 3**0.5 / 2]])
    for width in range(6, 60):
        padded = torch.zeros(1, width, 2)
        padded[0, :6] = x
        taken = representatives(padded, (torch.arange(width) < 6)[None], 3)
        assert taken[0].nonzero().flatten().tolist() == [0, 1, 3]
