"""SCoNet: CoNet with a lasso on its cross-connections (Hu, Zhang and Yang, CIKM 2018).

``L = L_CoNet + l1_weight sum_l |H^l|_1``: what does not help the other domain is to be zero. Published: .1 on Amazon,
beside the cross-entropy of one positive and one negative in each domain, as here. Source, numbers and differences as in
:mod:`semacdr.models.baselines.conet`. AdamW does not set weights to exactly zero; small ones are what it comes to.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from semacdr.data.batches import Batch
from semacdr.models.base import Loss
from semacdr.models.baselines.conet import CoNet, CoNetConfig


class SCoNetConfig(CoNetConfig):
    """Settings of SCoNet."""

    l1_weight: float = Field(0.1, ge=0)
    """lambda of the lasso."""


class SCoNet(CoNet):
    """CoNet with sparse cross-connections."""

    Config: ClassVar[type[SCoNetConfig]] = SCoNetConfig
    config: SCoNetConfig

    def loss(self, batch: Batch) -> Loss:
        """CoNet's loss and the lasso."""
        loss = super().loss(batch)
        if not len(self.cross):
            return loss
        lasso = self.config.l1_weight * torch.stack([matrix.abs().sum() for matrix in self.cross]).sum()
        return Loss(loss.total + lasso, {**loss.parts, "lasso": float(lasso.detach())})
