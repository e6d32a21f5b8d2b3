"""What a training says of itself: that it is too short for its warm-up, and where a loss without a value comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semacdr.errors import SemacdrError
from semacdr.models.base import Loss
from semacdr.models.baselines.sasrec import SASRec
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 8, "ffn_dim": 8, "num_layers": 1, "max_seq_len": 10, "epochs": 2, "batch_size": 16}


@pytest.mark.parametrize(("warmup_steps", "said"), [(8, False), (9, True)])
def test_a_training_that_is_all_warm_up_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], warmup_steps: int, said: bool
) -> None:
    data = write_planted(tmp_path / "data", users=60).path
    train("SASRec", data, tmp_path / "run", settings={**SMALL, "warmup_steps": warmup_steps})
    assert ("are warm-up" in capsys.readouterr().err) == said


@pytest.mark.parametrize(("good", "fix"), [(0, "the model's own computation"), (1, "lower learning_rate")])
def test_a_loss_without_a_value_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int, fix: str
) -> None:
    steps = iter(range(100))
    plain = SASRec.loss

    def broken(self: SASRec, batch: Any) -> Loss:
        loss = plain(self, batch)
        return loss if next(steps) < good else Loss(loss.total * torch.nan)

    monkeypatch.setattr(SASRec, "loss", broken)
    with pytest.raises(SemacdrError, match=f"loss is nan at step {good}") as caught:
        train("SASRec", write_planted(tmp_path / "data", users=60).path, tmp_path / "run", settings=SMALL)
    assert fix in str(caught.value)
