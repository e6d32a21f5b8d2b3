"""The losses against plain implementations, in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semacdr.models import losses
from semacdr.models.losses import (
    clip_soft,
    info_nce,
    linear_cross_entropy,
    pair_loss,
    sampled_softmax,
    soft_targets,
)


def normal(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def gradients(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value and both gradients of three times the loss, so that the incoming gradient is not one."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss(x, y)
    (3 * value).backward()
    assert x.grad is not None
    assert y.grad is not None
    return value.detach(), x.grad, y.grad


def assert_same_loss(fast: Callable[..., Tensor], slow: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    ours, plain = gradients(fast, x, y), gradients(slow, x, y)
    assert plain[1].abs().max() > 1e-3, "a test without gradients shows nothing"
    assert plain[2].abs().max() > 1e-3
    for got, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chunk", [1, 40, 100, 1 << 22], ids=["a row at a time", "one row", "uneven", "one chunk"])
@pytest.mark.parametrize("block", [1, 7, 1024])
def test_linear_cross_entropy_equals_pytorchs(monkeypatch: pytest.MonkeyPatch, chunk: int, block: int) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", chunk)
    monkeypatch.setattr(losses, "BLOCK_COLUMNS", block)
    states, candidates = normal(0, 11, 6), normal(1, 23, 6)
    target = torch.randint(0, 23, (11,), generator=torch.Generator().manual_seed(2))

    def plain(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(x @ y.T, target, reduction="sum")

    assert_same_loss(lambda x, y: linear_cross_entropy(x, y, target), plain, states, candidates)


def test_linear_cross_entropy_of_a_single_row_and_of_a_single_candidate() -> None:
    target = torch.tensor([4])
    states, candidates = normal(0, 1, 3), normal(1, 5, 3)
    assert_same_loss(
        lambda x, y: linear_cross_entropy(x, y, target),
        lambda x, y: F.cross_entropy(x @ y.T, target, reduction="sum"),
        states,
        candidates,
    )
    alone = linear_cross_entropy(normal(0, 2, 3), normal(1, 1, 3), torch.tensor([0, 0]))
    assert float(alone) == pytest.approx(0.0, abs=1e-6)


def test_linear_cross_entropy_of_a_hopeless_target_is_finite() -> None:
    """The target's probability underflows; the loss is the distance of the logits all the same."""
    states, candidates = torch.tensor([[1.0]]), torch.tensor([[400.0], [-400.0]])
    value, state_grad, candidate_grad = gradients(
        lambda x, y: linear_cross_entropy(x, y, torch.tensor([1])), states, candidates
    )
    assert float(value) == pytest.approx(800.0)
    torch.testing.assert_close(state_grad, torch.tensor([[3 * 800.0]]))
    torch.testing.assert_close(candidate_grad, torch.tensor([[3.0], [-3.0]]))


def test_linear_cross_entropy_gives_a_frozen_side_no_gradient() -> None:
    states, candidates = normal(0, 4, 3).requires_grad_(), normal(1, 5, 3)
    linear_cross_entropy(states, candidates, torch.tensor([0, 1, 2, 4])).backward()
    assert states.grad is not None
    assert candidates.grad is None
    with torch.no_grad():
        assert math.isfinite(float(linear_cross_entropy(states, candidates, torch.tensor([0, 1, 2, 4]))))


def test_linear_cross_entropy_under_autocast_is_near_the_full_precision() -> None:
    states, candidates = normal(0, 40, 16), normal(1, 60, 16, scale=0.3)
    target = torch.arange(40)
    exact = gradients(lambda x, y: linear_cross_entropy(x, y, target), states, candidates)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(lambda x, y: linear_cross_entropy(x, y, target), states, candidates)
    assert rough[1].dtype == torch.float32
    assert float(rough[0]) == pytest.approx(float(exact[0]), rel=0.01)
    for got, wanted in zip(rough[1:], exact[1:], strict=True):
        assert float((got - wanted).norm() / wanted.norm()) < 0.02


def test_sampled_softmax_equals_a_loop() -> None:
    states, positives, negatives = normal(0, 5, 4), normal(1, 5, 4), normal(2, 3, 4)
    collisions = torch.zeros(5, 3, dtype=torch.bool)
    collisions[1, 2] = collisions[4, 0] = collisions[4, 1] = collisions[4, 2] = True
    log_expected = normal(3, 3)
    wanted = 0.0
    for p in range(5):
        hit = float(states[p] @ positives[p])
        mass = math.exp(hit)
        for k in range(3):
            if not collisions[p, k]:
                mass += math.exp(float(states[p] @ negatives[k]) - float(log_expected[k]))
        wanted += math.log(mass) - hit
    got = sampled_softmax(states, positives, negatives, collisions, log_expected)
    assert float(got) == pytest.approx(wanted, rel=1e-5)


def test_a_position_whose_negatives_all_collide_costs_nothing() -> None:
    states = normal(0, 1, 4).requires_grad_()
    loss = sampled_softmax(states, normal(1, 1, 4), normal(2, 2, 4), torch.ones(1, 2, dtype=torch.bool), torch.zeros(2))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(states.grad, torch.zeros(1, 4))


def test_the_more_is_sampled_the_nearer_is_the_full_softmax() -> None:
    """With q_i proportional to a skewed weight, the corrected denominator is that of all but the positive."""
    num_items, dim, positions = 50, 8, 20
    states, items = normal(0, positions, dim, scale=0.7), normal(1, num_items, dim, scale=0.7)
    target = torch.arange(positions)
    full = float(linear_cross_entropy(states, items, target))
    probability = torch.softmax(normal(2, num_items), dim=0)
    errors = []
    for draws in (100, 100_000):
        chosen = torch.multinomial(probability, draws, True, generator=torch.Generator().manual_seed(3))
        sampled = sampled_softmax(
            states,
            items[target],
            items[chosen],
            target[:, None] == chosen[None, :],
            (probability[chosen] * draws).log(),
        )
        errors.append(abs(float(sampled) - full) / full)
    assert errors[1] < 0.005
    assert errors[0] < 0.2


def test_info_nce_by_hand() -> None:
    """Two pairs of right angles: cosines 1 and 0, so each row is a softmax of (1 / t, 0)."""
    x, y = torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.1]])
    assert float(info_nce(x, y, 0.5)) == pytest.approx(math.log(1 + math.exp(-2)))
    assert float(info_nce(x, y.flip(0), 0.5)) == pytest.approx(math.log(1 + math.exp(2)))
    targets = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    assert float(info_nce(x, y, 0.5, targets)) == pytest.approx(math.log(1 + math.exp(-2)) + 0.25 * 2)


@pytest.mark.parametrize("soft", [False, True])
def test_info_nce_equals_a_loop(soft: bool) -> None:
    m, t = 4, 0.3
    x, y = normal(0, m, 5), normal(1, m, 5)
    targets = torch.softmax(normal(2, m, m), dim=1)  # not symmetric, so that a missing transpose shows
    cosine = [[float(F.cosine_similarity(x[i], y[j], dim=0)) / t for j in range(m)] for i in range(m)]
    wanted = 0.0
    for i in range(m):
        row = math.log(sum(math.exp(cosine[i][j]) for j in range(m)))
        column = math.log(sum(math.exp(cosine[j][i]) for j in range(m)))
        for j in range(m):
            forth, back = (float(targets[i, j]), float(targets[j, i])) if soft else (float(i == j), float(i == j))
            wanted += (forth * (row - cosine[i][j]) + back * (column - cosine[j][i])) / (2 * m)
    assert float(info_nce(x, y, t, targets if soft else None)) == pytest.approx(wanted, rel=1e-4)


def test_soft_targets_are_the_softmax_of_cosines() -> None:
    x = torch.tensor([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]])  # the first two point the same way
    got = soft_targets(x, 0.5)
    near, far = math.exp(2), 1.0
    first = torch.tensor([near, near, far]) / (2 * near + far)
    last = torch.tensor([far, far, near]) / (near + 2 * far)
    torch.testing.assert_close(got, torch.stack([first, first, last]))


def plain_clip_soft(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """systems.md 1.4 in plain loops; the targets are part of what is differentiated."""
    m = len(x)
    logits = [[(x[i] * y[j]).sum() / temperature for j in range(m)] for i in range(m)]
    alike = [[((x[i] * x[j]).sum() + (y[i] * y[j]).sum()) / 2 * temperature for j in range(m)] for i in range(m)]
    target = [[alike[i][j].exp() / sum(other.exp() for other in alike[i]) for j in range(m)] for i in range(m)]
    total = torch.zeros((), dtype=x.dtype)
    for i in range(m):
        row = torch.stack(logits[i]).logsumexp(0)
        column = torch.stack([logits[j][i] for j in range(m)]).logsumexp(0)
        for j in range(m):
            total = total + target[i][j] * (row - logits[i][j]) + target[j][i] * (column - logits[j][i])
    return total / (2 * m)


@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_clip_soft_equals_plain_loops(temperature: float) -> None:
    x, y = normal(0, 5, 3, scale=0.7), normal(1, 5, 3, scale=0.7)
    assert_same_loss(lambda a, b: clip_soft(a, b, temperature), lambda a, b: plain_clip_soft(a, b, temperature), x, y)


def test_clip_soft_by_hand() -> None:
    """x1 = (1), x2 = (0), y1 = (2), y2 = (1): logits ((2, 1), (0, 0)), similarities ((2.5, 1), (1, 0.5))."""
    first, second = 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-0.5))  # targets of the first column
    rows = first * 0 + (1 - first) * 1 + math.log(1 + math.exp(-1)) + math.log(2)
    columns = first * math.log(1 + math.exp(-2)) + second * (2 + math.log(1 + math.exp(-2)))
    columns += (1 - first) * math.log(1 + math.exp(-1)) + (1 - second) * (1 + math.log(1 + math.exp(-1)))
    found = clip_soft(torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [1.0]]), 1.0)
    assert found.item() == pytest.approx((rows + columns) / 4, rel=1e-6)


def test_clip_soft_gradient_goes_through_the_targets() -> None:
    x, y = (normal(seed, 4, 3).double().requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: clip_soft(a, b, 0.5), (x, y))


def test_pair_loss_by_hand() -> None:
    found = pair_loss(torch.tensor([0.0, 2.0]), torch.tensor([0.0, -1.0]))
    expected = [2 * math.log(2), math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    scores = [normal(seed, 6).double().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(pair_loss, scores)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: clip_soft(x, y, 1.0),
        lambda x, y: clip_soft(x, y=y, temperature=1.0),
        lambda x, y: info_nce(x, y, 0.1),
        lambda x, y: info_nce(x, y, 0.1, soft_targets(x.detach(), 0.1)),
    ],
    ids=["clip_soft", "by name", "info_nce", "soft_targets"],
)
def test_contrastive_losses_are_the_same_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Rounded to bfloat16, their products would turn the gradients by a percent or two."""

    def under_autocast(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            assert (x @ y.T).dtype == torch.bfloat16  # on, but for the losses
            return loss(x, y)

    x, y = normal(0, 40, 16), normal(1, 40, 16)
    for got, wanted in zip(gradients(under_autocast, x, y), gradients(loss, x, y), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert under_autocast(x.bfloat16(), y.bfloat16()).dtype == torch.float32
