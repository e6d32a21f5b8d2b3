"""Every model against the conformance suite: adding a model adds a class of two lines here."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.models.conformance import GradientConformance, RankingConformance


class TestSemaCDR(GradientConformance):
    model = "SemaCDR"


class TestSemaCDRSampledSoftmax(GradientConformance):
    model = "SemaCDR"
    extra: ClassVar[dict[str, Any]] = {"num_negatives": 16}

    def test_training_loss_equals_scoring(self) -> None:  # type: ignore[override]
        """Holds for the full softmax only; the sampled one is checked in test_losses."""


class TestLLM4CDSR(GradientConformance):
    model = "LLM4CDSR"
    extra: ClassVar[dict[str, Any]] = {"loss": "softmax"}


class TestSASRec(GradientConformance):
    model = "SASRec"


class TestMarkov(RankingConformance):
    model = "Markov"


class TestPopularity(RankingConformance):
    model = "Popularity"
    planted = False
