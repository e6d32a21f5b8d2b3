"""Every rating model against its conformance suite: adding a model adds a class of two lines here."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from semacdr.models.baselines.rgcl import RGCL
from semacdr.models.rating import RatingRecommender
from tests.models.rating_conformance import RatingConformance, RatingGradientConformance
from tests.models.tiny_bert import write_tiny_bert


class TestGlobalMean(RatingConformance):
    model = "GlobalMean"
    beats_the_mean_by = 1.0


class TestBiases(RatingConformance):
    model = "Biases"


class TinyBert:
    """Settings of models that read reviews with a language model."""

    @pytest.fixture(scope="class")
    def settings(self, folder: Path) -> dict[str, Any]:
        encoder = str(write_tiny_bert(folder / "bert"))
        return {"encoder": encoder, "rank": 4, "max_tokens": 12, "dropout": 0.1, **self.extra}  # type: ignore[attr-defined]


class TestLoID(TinyBert, RatingGradientConformance):
    model = "LoID"
    extra: ClassVar[dict[str, Any]] = {"k": 4}


class TestLoIDWithoutLora(TinyBert, RatingGradientConformance):
    model = "LoID"
    extra: ClassVar[dict[str, Any]] = {"rank": 0, "k": 4}

    def other_words(self, text: str) -> str:
        """As many tokens as before: all texts are encoded at once, those of like length together, and in a batch of
        another shape a processor may round the training reviews' vectors otherwise."""
        return " ".join(reversed(text.split()))


class TestLoIDSource(TinyBert, RatingGradientConformance):
    model = "LoIDSource"
    beats_the_mean_by = 0.4


class Encoder:
    """Settings of models that take words, or frozen vectors of reviews, from a language model."""

    @pytest.fixture(scope="class")
    def settings(self, folder: Path) -> dict[str, Any]:
        return {"encoder": str(write_tiny_bert(folder / "bert")), **self.extra}  # type: ignore[attr-defined]


class TestMF(RatingGradientConformance):
    model = "MF"


class TestDeepCoNN(Encoder, RatingGradientConformance):
    model = "DeepCoNN"
    extra: ClassVar[dict[str, Any]] = {"k": 4, "max_words": 60, "word_dim": 16, "dropout": 0.1}


class TestDAttn(Encoder, RatingGradientConformance):
    model = "DAttn"
    extra: ClassVar[dict[str, Any]] = {"k": 4, "max_words": 60, "word_dim": 16, "hidden": 50, "dropout": 0.1}


class TestALFM(RatingGradientConformance):
    model = "ALFM"
    extra: ClassVar[dict[str, Any]] = {"k": 4, "aspects": 2, "topics": 3}


class TestANR(Encoder, RatingGradientConformance):
    model = "ANR"
    extra: ClassVar[dict[str, Any]] = {"k": 4, "max_words": 60, "word_dim": 16, "dropout": 0.1}


class TestRGCL(Encoder, RatingGradientConformance):
    model = "RGCL"
    extra: ClassVar[dict[str, Any]] = {"embedding_dim": 16, "review_dim": 16, "dropout": 0.1}
    own_review_is_an_answer = True

    def with_review(self, model: RatingRecommender, row: int) -> RatingRecommender:
        other, train = deepcopy(model), model.catalogue.train
        assert isinstance(other, RGCL)
        edge = other.graph.find(*(torch.from_numpy(side[[row]].astype(np.int64)) for side in (train.user, train.item)))[
            0
        ]
        other.reviews[edge] = -other.reviews[edge] + 1
        return other


class TestBiGI(RatingGradientConformance):
    """It reads no reviews; that a step's own edges have no say in its loss is checked in ``test_bigi.py``."""

    model = "BiGI"
    extra: ClassVar[dict[str, Any]] = {"embedding_dim": 16}
