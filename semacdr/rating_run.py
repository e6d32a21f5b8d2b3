"""Run folders of rating models; the files are those of :mod:`semacdr.run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from semacdr.config import build
from semacdr.data.dataset import Dataset
from semacdr.data.ratings import RatingData, load_ratings
from semacdr.device import pick_device
from semacdr.errors import InputError
from semacdr.models.rating import RatingRecommender
from semacdr.models.registry import rating_model_class
from semacdr.run import WEIGHTS, dataset_of, read_run


@dataclass(frozen=True)
class LoadedRatingRun:
    """A finished training of a rating model, ready to predict."""

    path: Path
    manifest: dict[str, Any]
    dataset: Dataset
    data: RatingData
    model: RatingRecommender


def is_rating_run(path: Path) -> bool:
    """Whether a finished run predicts ratings; any other folder is an :class:`InputError`."""
    return "domain" in read_run(path)["training"]


def load_rating_run(path: str | Path, dataset: str | Path | None = None, device: str = "cpu") -> LoadedRatingRun:
    """Loads a finished run of a rating model with its data, in any process.

    Args:
        path: the run folder.
        dataset: where the data set folder is now, if it moved.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for a GPU if there is one.

    Raises:
        InputError: missing or changed data, an unfinished run, or a run that ranks.
    """
    path = Path(path)
    place = pick_device(device)
    manifest = read_run(path)
    if "domain" not in manifest["training"]:
        raise InputError("this run ranks and predicts no ratings", where=str(path))
    data = dataset_of(path, manifest, dataset)
    ratings = load_ratings(data, manifest["training"]["domain"], manifest["training"]["split_seed"])
    model = build_rating_model(manifest["model"], manifest["config"], ratings)
    model.load_state(load_file(path / WEIGHTS))
    model.to(place).eval()
    return LoadedRatingRun(path, manifest, data, ratings, model)


def build_rating_model(name: str, config: Mapping[str, Any], data: RatingData) -> RatingRecommender:
    """Makes an untrained rating model; unknown settings are errors."""
    cls = rating_model_class(name)
    return cls(build(cls.Config, config, where=f"settings of {name}"), data.catalogue())
