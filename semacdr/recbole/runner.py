"""``run_recbole`` with our defaults, deaf to the command line of the program that calls it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole.quick_start import quick_start

from semacdr.recbole.models import WRAPPED

DEFAULTS = Path(__file__).with_name("defaults.yaml")


@contextlib.contextmanager
def without_arguments() -> Iterator[None]:
    """Hides the program's arguments: RecBole takes every ``--key=value`` that it finds there as a setting."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def run_recbole(
    model: str | type = "SemaCDR",
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Trains and evaluates with RecBole: ``recbole.quick_start.run_recbole`` with the arguments it has there.

    Args:
        model: a name in :data:`semacdr.recbole.models.WRAPPED`, such a class, or the name of a model of RecBole's own.
        dataset: name of the data set, a folder under ``data_path``.
        config_file_list: YAML files, later ones winning.
        config_dict: settings that win over the files.
        saved: keep the best weights in ``checkpoint_dir``.

    Returns:
        ``best_valid_score``, ``best_valid_result``, ``test_result`` and ``valid_score_bigger``.

    Raises:
        InputError: settings that do not fit our model.
    """
    files = [str(path) for path in config_file_list or ()]
    name = model if isinstance(model, str) else model.__name__
    if name in WRAPPED:
        files.insert(0, str(DEFAULTS))
    with without_arguments():
        result: dict[str, Any] = quick_start.run_recbole(name, dataset, files, dict(config_dict or {}), saved)
    return result
