"""One file that holds a whole training state: weights, optimiser, best weights, cursor.

Safetensors with a JSON header: a single rename makes it the truth, so a kill can never leave a weight file and a
cursor that disagree. The random state is not stored because it is derived: every step seeds the generators from the
run's seed and the step's number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from semacdr.errors import InputError
from semacdr.files import write_atomic

_META = "semacdr"


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes tensors and JSON metadata atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(plain, temporary, {_META: json.dumps(meta)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save_tensors` wrote.

    Raises:
        InputError: a damaged file.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            names = list(handle.keys())
            return {name: handle.get_tensor(name) for name in names}, json.loads(handle.metadata()[_META])
    except Exception as error:
        raise InputError(f"damaged checkpoint ({error})", where=str(path), fix="delete it and train again") from None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: ``optimiser.<parameter number>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names every tensor ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix.name``, by name."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}
