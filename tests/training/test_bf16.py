"""Who asks for bf16 where it is emulated is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semacdr.device import emulates_bf16
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 8, "ffn_dim": 8, "num_layers": 1, "max_seq_len": 10, "epochs": 1}


@pytest.mark.parametrize("emulated", [True, False])
def test_training_says_that_bf16_is_emulated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    emulated: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not emulated)
    assert emulates_bf16(torch.device("cpu")) == emulated
    assert not emulates_bf16(torch.device("cuda"))
    data = write_planted(tmp_path / "data", users=20).path
    for precision in ("fp32", "bf16"):
        train("SASRec", data, tmp_path / precision, settings={**SMALL, "precision": precision})
        assert ("no instructions for bf16" in capsys.readouterr().err) == (emulated and precision == "bf16")
