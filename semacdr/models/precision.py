"""Functions that compute in full precision whatever autocast says around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def at_least_float32(x: Tensor) -> Tensor:
    """A half-precision tensor as float32; anything else, float64 and whole numbers among it, as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Runs a function of tensors without autocast, on inputs of at least float32.

    Casting the inputs alone is not enough: autocast casts them back before each matrix product, and a contrastive loss
    over products that were rounded to eight bits has a gradient that is off by a percent or two.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        exact = [at_least_float32(value) if isinstance(value, Tensor) else value for value in args]
        named = {key: at_least_float32(value) if isinstance(value, Tensor) else value for key, value in kwargs.items()}
        device = next(value.device.type for value in (*exact, *named.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*exact, **named)  # type: ignore[arg-type]

    return run
