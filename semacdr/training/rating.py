"""Trains a rating model into a run folder, with the same trainer, checkpoints and promises as a ranking model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from semacdr import rating_run
from semacdr.config import build, split_keys
from semacdr.data.dataset import Dataset
from semacdr.data.ratings import load_ratings
from semacdr.errors import InputError
from semacdr.files import write_json
from semacdr.memory import reset_peak
from semacdr.models.registry import rating_model_class
from semacdr.progress import say
from semacdr.run import RUN
from semacdr.training.settings import RatingTrainSettings
from semacdr.training.tasks import RatingTask
from semacdr.training.trainer import already_trained, fit_by_counting, manifest_head, train_by_gradient


def train_rating(
    model: str,
    dataset: str | Path,
    out: str | Path,
    settings: dict[str, Any] | None = None,
    embeddings: str | Path | None = None,
) -> Path:
    """Trains a rating model by name; the same call again resumes or finds it done.

    Args:
        model: name, see :data:`semacdr.models.registry.RATING_MODELS`.
        dataset: data set folder, with ratings and reviews.
        out: run folder.
        settings: flat mapping of the model's and the trainer's settings; ``domain`` must be among them.
        embeddings: must be None: rating models read the reviews themselves.

    Returns:
        the run folder.

    Raises:
        InputError: unknown names or settings, no ratings, or ``out`` holds a different run.
    """
    out, cls = Path(out), rating_model_class(model)
    if embeddings is not None:
        raise InputError("rating models read reviews, no embeddings", where=f"--embeddings {embeddings}")
    config_values, train_values = split_keys(settings or {}, cls.Config, RatingTrainSettings)
    if "domain" not in train_values:
        raise InputError(f"{model} predicts the ratings of one domain: say which", fix="for example domain=magazines")
    config = build(cls.Config, config_values, f"settings of {model}")
    training = build(RatingTrainSettings, train_values, "training settings")
    reset_peak()
    data = Dataset.load(dataset)
    ratings = load_ratings(data, training.domain, training.split_seed)
    manifest = manifest_head(model, data, config, training)
    if already_trained(out, manifest, cls.Config()):
        return out
    say(f"{training.domain}: {len(ratings.ratings)} ratings, {ratings.repeats} repeats left out")
    torch.manual_seed(training.seed)
    instance = rating_run.build_rating_model(model, config.model_dump(), ratings)
    if instance.leaks:
        say(f"{model}: with faithful=true a pair's own review is among what it is predicted from, so the label leaks")
    write_json(out / RUN, manifest)
    if cls.trained_by_gradient:
        return train_by_gradient(instance, RatingTask(instance, ratings, training), training, out, manifest)
    return fit_by_counting(instance, ratings.catalogue().train, out, manifest)
