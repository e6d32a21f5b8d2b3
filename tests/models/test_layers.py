"""The encoder's promises: no look ahead, nothing seen of padding; and the small index functions, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semacdr.models.layers import (
    CausalEncoder,
    Dropout,
    init_weights,
    last_index,
    positions_from_end,
    positions_from_end_within,
    prefix_mean,
)

D, L = 8, 6


@pytest.fixture
def encoder() -> CausalEncoder:
    torch.manual_seed(0)
    module = CausalEncoder(D, 2, 2, 16, 0.5, L)
    module.apply(init_weights)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def columns(rows: int, width: int = L) -> Tensor:
    return torch.arange(width).expand(rows, -1)


@pytest.mark.parametrize("at", range(1, L))
def test_a_later_event_changes_no_earlier_state(encoder: CausalEncoder, at: int) -> None:
    x = normal(0, 3, L, D)
    changed = x.clone()
    changed[:, at:] = normal(1, 3, L - at, D)
    before, after = encoder(x, columns(3)), encoder(changed, columns(3))
    torch.testing.assert_close(after[:, :at], before[:, :at])
    assert (after[:, at:] - before[:, at:]).abs().amax(2).min() > 1e-3


def test_every_earlier_event_changes_a_later_state(encoder: CausalEncoder) -> None:
    x = normal(0, 1, L, D).requires_grad_()
    encoder(x, columns(1))[0, -1, 0].backward()
    assert x.grad is not None
    assert x.grad[0].abs().amax(1).min() > 1e-4


def test_a_row_is_encoded_alike_alone_and_padded_beside_others(encoder: CausalEncoder) -> None:
    length = torch.tensor([2, L, 4])
    x = normal(0, 3, L, D)  # padding holds arbitrary vectors here: nothing may come of them
    together = encoder(x, positions_from_end(length, L))
    for row, size in enumerate(length.tolist()):
        alone = encoder(x[row : row + 1, :size], positions_from_end(length[row : row + 1], size))
        torch.testing.assert_close(together[row, :size], alone[0])


def test_a_mask_hides_what_it_hides(encoder: CausalEncoder) -> None:
    """Events of another thread are invisible, so the thread alone gives the same states."""
    x, kept = normal(0, 1, L, D), torch.tensor([0, 2, 3])
    member = torch.zeros(L, dtype=torch.bool)
    member[kept] = True
    mask = (member[:, None] & member[None, :] | torch.eye(L, dtype=torch.bool)).tril()
    whole = encoder(x, columns(1), mask[None, None])
    alone = encoder(x[:, kept], columns(1)[:, kept])
    torch.testing.assert_close(whole[:, kept], alone)


def test_the_causal_mask_is_the_default(encoder: CausalEncoder) -> None:
    x = normal(0, 2, L, D)
    mask = torch.ones(L, L, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(encoder(x, columns(2), mask), encoder(x, columns(2)))


def test_encoding_is_not_random_in_evaluation_and_is_in_training(encoder: CausalEncoder) -> None:
    x = normal(0, 2, L, D)
    assert torch.equal(encoder(x, columns(2)), encoder(x, columns(2)))
    encoder.train()
    assert not torch.equal(encoder(x, columns(2)), encoder(x, columns(2)))


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_has_its_rate_and_keeps_the_expectation(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.full((300, 1001), 2.0)
    y = Dropout(rate).train()(x)
    dropped = (y == 0).float().mean()
    rounded = round(rate * 256) / 256
    # 300,300 draws: the standard error of the rate is below 0.001.
    assert float(dropped) == pytest.approx(rounded, abs=0.004)
    assert float(y.mean()) == pytest.approx(2.0, abs=0.02)
    survivors = y[y != 0]
    torch.testing.assert_close(survivors, torch.full_like(survivors, 2 / (1 - rounded)))


def test_dropout_draws_each_element_apart() -> None:
    """Neighbours, which share a random word, are dropped together no more often than by chance."""
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(100_000, 8)) == 0).float()
    together = dropped.T @ dropped / len(dropped)
    off_diagonal = together[~torch.eye(8, dtype=torch.bool)]
    assert float((off_diagonal - 0.25).abs().max()) < 0.01
    assert float((dropped.mean(0) - 0.5).abs().max()) < 0.01


def test_dropout_repeats_with_its_seed_and_passes_its_gradient() -> None:
    x = torch.ones(5, 7, requires_grad=True)
    dropout = Dropout(0.3).train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dropout(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    drawn[0].sum().backward()
    torch.testing.assert_close(x.grad, drawn[0].detach())


def test_dropout_leaves_things_alone_out_of_training_and_at_rate_zero() -> None:
    x = normal(0, 4, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_positions_are_counted_from_the_newest_event() -> None:
    got = positions_from_end(torch.tensor([0, 1, 3, 4]), 4)
    assert got.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [2, 1, 0, 0], [3, 2, 1, 0]]


def test_positions_within_a_thread_count_its_later_events_only() -> None:
    thread = torch.tensor([[0, 1, 0, 0, 1]])
    same = thread[:, :, None] == thread[:, None, :]
    assert positions_from_end_within(same).tolist() == [[2, 1, 1, 0, 0]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_last_index_is_the_newest_member_so_far(rows: list[list[bool]]) -> None:
    wanted = [[max((t for t in range(at + 1) if row[t]), default=-1) for at in range(5)] for row in rows]
    assert last_index(torch.tensor(rows)).tolist() == wanted


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_within_threads_equal_a_loop(rows: list[list[int]]) -> None:
    thread = torch.tensor(rows)
    wanted = [[sum(row[later] == row[at] for later in range(at + 1, 6)) for at in range(6)] for row in rows]
    assert positions_from_end_within(thread[:, :, None] == thread[:, None, :]).tolist() == wanted


def test_prefix_mean_by_hand() -> None:
    x = torch.tensor([[[2.0, 0], [4, 6], [8, 1]], [[1, 1], [3, 5], [9, 9]]])
    member = torch.tensor([[True, False, True], [False, True, False]])
    row, column = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([-1, 0, 1, 2, 0, 1])
    expected = torch.tensor([[0.0, 0], [2, 0], [2, 0], [5, 0.5], [0, 0], [3, 5]])
    assert torch.equal(prefix_mean(x, member, row, column), expected)
