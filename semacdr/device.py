"""Where a model runs, and what is slow there."""

from __future__ import annotations

import torch

from semacdr.errors import InputError


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one, else the CPU.

    Raises:
        InputError: no such device, or no GPU where one is asked for.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}", fix="auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs", fix="auto, or cpu")
    return device


def emulates_bf16(device: torch.device) -> bool:
    """Whether the device is a CPU without bf16 instructions that torch knows: products take many times as long."""
    return device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported()
