"""The dual-LLM model's losses against numbers worked out by hand, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from semacdr.models.dual_llm_losses import (
    jaccard,
    mask_tokens,
    multi_positive_nce,
    preservation_loss,
    pseudo_label_loss,
)

e = math.e


def test_multi_positive_nce_by_hand() -> None:
    """Vectors east, east, north, south; t = 1, so a pair's weight is e^cos: e, 1 or 1/e. 0 and 1 belong together, and
    0 and 2; nothing belongs to 3.
    """
    x = torch.tensor([[2.0, 0], [5.0, 0], [0, 1.0], [0, -3.0]])
    positive = torch.zeros(4, 4, dtype=torch.bool)
    positive[0, 1] = positive[1, 0] = positive[0, 2] = positive[2, 0] = True
    positive.fill_diagonal_(True)  # does not count
    first = -(math.log(e / (e + 1 + 1)) + math.log(1 / (e + 1 + 1))) / 2
    second = -math.log(e / (e + 1 + 1))
    third = -math.log(1 / (1 + 1 + 1 / e))
    expected = (first + second + third) / 3
    assert float(multi_positive_nce(x, positive, 1.0)) == pytest.approx(expected, rel=1e-6)


def test_multi_positive_nce_divides_by_the_temperature() -> None:
    x = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]])
    positive = torch.zeros(3, 3, dtype=torch.bool)
    positive[0, 1] = True
    expected = math.log(1 + math.exp(-1 / 0.25))
    assert float(multi_positive_nce(x, positive, 0.25)) == pytest.approx(expected, rel=1e-5)


def test_without_a_positive_there_is_no_contrast() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert float(multi_positive_nce(x, torch.eye(3, dtype=torch.bool), 0.1).detach()) == 0


def test_jaccard_by_hand() -> None:
    sets = torch.tensor([[1, 2, 3, 3], [3, 2, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([[1, 2 / 3, 0, 0], [2 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(jaccard(sets), expected)
    torch.testing.assert_close(jaccard(sets[:, 1:]), jaccard(sets[:, 1:].flip(1)))


def test_jaccard_without_any_padding() -> None:
    torch.testing.assert_close(jaccard(torch.tensor([[1, 2], [2, 3]])), torch.tensor([[1, 1 / 3], [1 / 3, 1]]))


def test_preservation_by_hand() -> None:
    decoded = torch.tensor([[1.0, 0], [0, 2.0]])
    q = torch.tensor([[1.0, 1.0], [0, 2.0]])  # cosine 1/sqrt(2)
    u = torch.tensor([[1.0, 0], [0, 1.0]])  # cosine 0
    expected = (0 + 1 + 0 + 0) / 4 + 2 * 0.5 / 4
    assert float(preservation_loss(decoded, u, q)) == pytest.approx(expected, rel=1e-6)


def test_preservation_lets_no_gradient_into_the_language_model() -> None:
    decoded, u, q = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    preservation_loss(decoded, u, q).backward()
    assert q.grad is None
    assert float(decoded.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert float(u.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_pseudo_labels_by_hand() -> None:
    """The first teacher gives its best two 6/8 and 1/8; the second is not sure enough; the student knows nothing."""
    teacher = torch.tensor([[math.log(6.0), 0.0, math.log(0.5), math.log(0.5)], [0.0, 0.0, 0.0, 0.0]])
    student = torch.tensor([[0.0, math.log(2.0), 0.0, 0.0], [3.0, 0, 0, 0]])
    shares = {0: 1 / 5, 1: 2 / 5}
    expected = -(6 / 7 * math.log(shares[0]) + 1 / 7 * math.log(shares[1]))
    assert float(pseudo_label_loss(teacher, student, 2, 0.6)) == pytest.approx(expected, rel=1e-6)
    assert float(pseudo_label_loss(teacher, student, 2, 0.99)) == 0


def test_pseudo_labels_teach_only_the_student() -> None:
    teacher, student = (torch.randn(3, 6, requires_grad=True) for _ in range(2))
    pseudo_label_loss(teacher, student, 9, 0.0).backward()  # more labels than items: all of them
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, (student.softmax(1) - teacher.softmax(1)).detach() / 3)


@pytest.mark.parametrize("seed", range(3))
def test_gradients(seed: int) -> None:
    torch.manual_seed(seed)
    x, decoded = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    q = torch.randn(4, 3, dtype=torch.float64)
    positive = torch.rand(4, 4) < 0.5
    positive[0, 1] = True
    assert gradcheck(lambda value: multi_positive_nce(value, positive, 0.5), x)
    assert gradcheck(lambda a, b: preservation_loss(a, b, q), (decoded, x))
    assert gradcheck(lambda student: pseudo_label_loss(q, student, 2, 0.0), x)


def test_masking_in_its_shares() -> None:
    torch.manual_seed(0)
    ids = torch.full((200, 500), 7)
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, :100] = False
    read, chosen = mask_tokens(ids, maskable, 0.15, 3, torch.tensor([50, 51]))
    assert not chosen[:, :100].any()
    assert torch.equal(read[~chosen], ids[~chosen])
    total = int(chosen.sum())
    assert total / 80_000 == pytest.approx(0.15, abs=0.005)
    found = read[chosen]
    assert float((found == 3).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((found == 7).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float((found == 50).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((found == 51).float().mean()) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("name", ["contrast", "preservation", "jaccard"])
def test_the_losses_are_the_same_under_autocast(name: str) -> None:
    """Rounded to bfloat16, their products would turn the gradients, and large sets would miscount."""
    torch.manual_seed(0)
    start, q, positive, sets = (
        torch.randn(20, 8),
        torch.randn(20, 8),
        torch.rand(20, 20) < 0.2,
        torch.randint(1, 500, (20, 800)),
    )

    def result(autocast: bool) -> list[torch.Tensor]:
        x = start.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if name == "jaccard":
                return [jaccard(sets)]
            loss = multi_positive_nce(x, positive, 0.1) if name == "contrast" else preservation_loss(q, x, q)
        loss.backward()
        assert x.grad is not None
        return [loss.detach(), x.grad]

    for got, wanted in zip(result(True), result(False), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)
