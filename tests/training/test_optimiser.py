"""What the optimiser decays."""

from __future__ import annotations

import torch
from torch import nn

from semacdr.training.settings import TrainSettings
from semacdr.training.trainer import make_optimiser


def decayed(settings: TrainSettings) -> dict[str, bool]:
    """Whether each parameter shrinks in a step without a gradient."""
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    make_optimiser(model, settings).step()
    return {name: bool((value < 1).all()) for name, value in model.named_parameters()}


def test_biases_and_norms_are_spared_unless_all_is_asked_for() -> None:
    spared = decayed(TrainSettings(weight_decay=0.5))
    assert spared == {"0.weight": True, "0.bias": False, "1.weight": False, "1.bias": False}
    assert all(decayed(TrainSettings(weight_decay=0.5, decay_all=True)).values())
