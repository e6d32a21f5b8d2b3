"""Six training ratings with reviews, and what the golden tests of the rating baselines share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.models.rating import RatingRecommender

TEXTS = ("", "good tea", "bad tea it is not good", "fine tea", "very good", "poor pens", "the rugs number")
USERS, ITEMS, STARS, WRITTEN = [1, 2, 3, 1, 2, 3], [1, 2, 3, 2, 3, 1], [5, 1, 3, 4, 5, 2], [1, 2, 3, 4, 5, 0]


def catalogue() -> RatingCatalogue:
    """Users 1 to 3 and items 1 to 3; user 4 and item 4 are not in training. Text 6 is no training review."""
    user, item, text = (np.array(values, np.int32) for values in (USERS, ITEMS, WRITTEN))
    return RatingCatalogue(4, 4, TEXTS, Ratings(user, item, np.array(STARS, np.float32), text))


def batch(**changes: Any) -> RatingBatch:
    values: dict[str, Any] = {
        "user": torch.tensor([1, 2, 4]),
        "item": torch.tensor([2, 3, 1]),
        "user_texts": torch.tensor([[1, 3], [2, 0], [0, 0]]),
        "item_texts": torch.tensor([[2, 5], [3, 4], [1, 0]]),
        "rating": torch.tensor([4.0, 5.0, 3.0]),
    }
    return RatingBatch(**{**values, **changes})


def scramble(model: nn.Module, std: float = 0.5) -> Any:
    """Random parameters, so that nothing hides behind a zero or a one; evaluation mode."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model.eval()


def check_gradient(model: RatingRecommender, of: RatingBatch, step: float = 1e-6) -> None:
    """The loss's gradient along a random direction of all parameters, against a finite difference, in float64."""
    assert of.rating is not None
    of = RatingBatch(**{**vars(of), "rating": of.rating.double()})
    model.double()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss() -> torch.Tensor:
        torch.manual_seed(11)  # the same wrong answers every time
        return model.loss(of).total

    value = loss()
    assert value.dtype == torch.float64
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    assert sum(gradient is not None and bool(gradient.any()) for gradient in gradients) == len(parameters)
    torch.manual_seed(3)
    directions = [torch.randn_like(p) for p in parameters]
    along = sum(float((g * d).sum()) for g, d in zip(gradients, directions) if g is not None)
    sides = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions):
                parameter.add_(direction, alpha=sign * step)
        sides.append(float(loss().detach()))
    slope = (sides[0] - sides[1]) / (2 * step)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(along, slope, rtol=1e-5)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)
