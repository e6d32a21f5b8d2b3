"""What RecBole 1.2.1 needs to run on numpy 2, torch 2.6 and newer, scipy 1.13 and newer, and without a working Ray.

Only importing ``semacdr.recbole`` comes here, and only what is missing is added:

* ``ray.tune``: RecBole imports it for one function of its hyper-parameter search, and caps Ray at a version that does
  not import beside numpy 2 or a new setuptools. If it does not import, an empty module stands in for it while RecBole
  is imported, and is taken away again.
* ``np.float_``, ``np.complex_``, ``np.unicode_``: read by every RecBole ``Config``.
* ``scipy.sparse.dok_matrix._update``: used by RecBole's graph models.
* ``torch.load``: RecBole's checkpoints are pickles of its ``Config``, which torch has refused by default since 2.6. It
  stays as it is for everyone but RecBole's trainer, and ``load_data_and_model`` while it runs.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from semacdr.errors import InputError, MissingExtraError

_RENAMED = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}


def apply() -> None:
    """Imports RecBole and makes it work.

    Raises:
        MissingExtraError: RecBole is not installed.
        InputError: pandas 3, with which RecBole loads item fields wrongly without an error.
    """
    if find_spec("recbole") is None:
        raise MissingExtraError("recbole", "recbole")
    if int(pd.__version__.split(".")[0]) >= 3:
        raise InputError(f"RecBole 1.2.1 does not work with pandas {pd.__version__}", fix="pip install 'pandas<3'")
    _add_numpy_names()
    _add_scipy_update()
    with _ray_or_stand_in():
        quick_start = import_module("recbole.quick_start.quick_start")
    if _torch_refuses_pickles():
        _allow_pickles_in(quick_start)


def _add_numpy_names() -> None:
    for name, value in _RENAMED.items():
        if name not in vars(np):
            setattr(np, name, value)


def _add_scipy_update() -> None:
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda matrix, entries: matrix._dict.update(entries)


@contextlib.contextmanager
def _ray_or_stand_in() -> Iterator[None]:
    before = set(sys.modules)
    try:
        import_module("ray.tune")
    except Exception:  # ModuleNotFoundError, or whatever an old Ray meets in new packages
        for name in [name for name in sys.modules if name.partition(".")[0] == "ray" and name not in before]:
            del sys.modules[name]
    else:
        yield
        return
    ray, tune = ModuleType("ray"), ModuleType("ray.tune")
    ray.tune, tune.report = tune, _no_ray  # type: ignore[attr-defined]
    sys.modules.update({"ray": ray, "ray.tune": tune})
    try:
        yield
    finally:
        del sys.modules["ray"], sys.modules["ray.tune"]


def _no_ray(*_: Any, **__: Any) -> None:
    raise MissingExtraError("a Ray that works here", "ray")


def _torch_refuses_pickles() -> bool:
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (2, 6)


class _TorchForTrainer(ModuleType):
    """The name ``torch`` in RecBole's trainer: torch, but for ``load``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _allow_pickles_in(quick_start: ModuleType) -> None:
    """Lets RecBole's trainer and ``load_data_and_model`` read RecBole's own checkpoints."""
    stand_in = _TorchForTrainer("torch")
    stand_in.load = functools.partial(torch.load, weights_only=False)  # type: ignore[attr-defined]
    trainer = import_module("recbole.trainer.trainer")
    trainer.torch = stand_in  # type: ignore[attr-defined]
    # This one imports torch inside, so the name in its module would not reach it.
    load = _allowing_pickles(quick_start.load_data_and_model)
    for module in (quick_start, import_module("recbole.quick_start")):
        module.load_data_and_model = load  # type: ignore[attr-defined]


def _allowing_pickles(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        load = torch.load
        torch.load = functools.partial(load, weights_only=False)
        try:
            return function(*args, **kwargs)
        finally:
            torch.load = load

    return wrapped
