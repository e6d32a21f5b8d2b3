"""The registry: names, and what is said where a name and its class do not fit."""

from __future__ import annotations

import pytest

from semacdr.errors import InputError
from semacdr.models import registry


def test_a_class_has_the_name_that_it_is_registered_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, "Popular", "semacdr.models.baselines.popularity")
    with pytest.raises(InputError, match=r"no class 'Popular' in semacdr\.models\.baselines\.popularity"):
        registry.model_class("Popular")


def test_every_name_has_its_class() -> None:
    for name in registry.MODELS:
        assert registry.model_class(name).__name__ == name
    for name in registry.RATING_MODELS:
        assert registry.rating_model_class(name).__name__ == name
