"""Every shipped config names only settings that exist, and says in its first lines how it is used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from semacdr.bench.config import read_config
from semacdr.bench.plan import make_lines
from semacdr.config import Settings, build, read_yaml, split_keys
from semacdr.models.registry import MODELS, RATING_MODELS, model_class, rates, rating_model_class
from semacdr.resources import configs_folder, find_config
from semacdr.training.settings import RatingTrainSettings, TrainSettings
from tests.planted_reviews import write_reviews

BENCHES = sorted((configs_folder() / "bench").glob("*.yaml"))
CONFIGS = sorted(set(configs_folder().rglob("*.yaml")) - set(BENCHES))


@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(configs_folder())) for path in CONFIGS])
def test_a_shipped_config_is_valid(path: Path) -> None:
    values, text = read_yaml(path), path.read_text(encoding="utf-8")
    if path.stem in RATING_MODELS and "domain" in text:  # which the user names, on the command line
        values.setdefault("domain", "one")
    if rates(path.stem, values):
        owners: tuple[type[Settings], ...] = (rating_model_class(path.stem).Config, RatingTrainSettings)
    else:
        owners = (model_class(path.stem).Config, TrainSettings)
    for dealt, settings in zip(split_keys(values, *owners), owners):
        build(settings, dealt)
    assert f"semacdr train --model {path.stem}" in text
    assert find_config(path.relative_to(configs_folder())) == path


@pytest.mark.parametrize("path", BENCHES, ids=[path.stem for path in BENCHES])
def test_a_shipped_bench_is_valid(path: Path) -> None:
    config = read_config(path.relative_to(configs_folder()))
    assert config.name == path.stem
    assert make_lines(config)
    assert f"semacdr bench bench/{path.name}" in path.read_text(encoding="utf-8")


def test_the_quick_bench_has_every_ranking_model() -> None:
    lines = make_lines(read_config(Path("bench/quick.yaml")))
    recboles = {"recbole:GRU4Rec", "recbole:BERT4Rec"}
    assert {line.model for line in lines if line.domain is None} == set(MODELS) | recboles


def test_the_reviews_of_the_quick_bench_are_the_planted_ones(tmp_path: Path) -> None:
    found = pd.read_csv(configs_folder() / "bench" / "planted-reviews.csv")
    planted = pd.read_parquet(write_reviews(tmp_path / "reviews", users=40).path / "interactions.parquet")
    for column in ("user_id", "item_id", "domain", "rating", "text"):
        assert found[column].tolist() == planted[column].tolist()


@pytest.mark.parametrize("model", MODELS)
def test_model_and_training_settings_share_no_key(model: str) -> None:
    assert not set(model_class(model).Config.model_fields) & set(TrainSettings.model_fields)


@pytest.mark.parametrize("model", RATING_MODELS)
def test_rating_model_and_training_settings_share_no_key(model: str) -> None:
    assert not set(rating_model_class(model).Config.model_fields) & set(RatingTrainSettings.model_fields)
