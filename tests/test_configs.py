"""Every shipped config names only settings that exist, and says in its first lines how it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from semacdr.config import build, read_yaml, split_keys
from semacdr.models.registry import MODELS, model_class
from semacdr.resources import configs_folder, find_config
from semacdr.training.settings import TrainSettings

CONFIGS = sorted(configs_folder().rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[str(path.relative_to(configs_folder())) for path in CONFIGS])
def test_a_shipped_config_is_valid(path: Path) -> None:
    cls = model_class(path.stem).Config
    for values, settings in zip(split_keys(read_yaml(path), cls, TrainSettings), (cls, TrainSettings)):
        build(settings, values)
    assert f"semacdr train --model {path.stem}" in path.read_text(encoding="utf-8")
    assert find_config(path.relative_to(configs_folder())) == path


@pytest.mark.parametrize("model", MODELS)
def test_model_and_training_settings_share_no_key(model: str) -> None:
    assert not set(model_class(model).Config.model_fields) & set(TrainSettings.model_fields)
