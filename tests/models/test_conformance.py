"""Every model against the conformance suite: adding a model adds a class of two lines here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from semacdr.data.dataset import Dataset
from semacdr.errors import InputError
from tests.models.conformance import GradientConformance, RankingConformance
from tests.models.tiny_bert import write_tiny_bert


class PointwiseConformance(GradientConformance):
    """Of models whose loss is no softmax: what it is of the scores that the ranker sees is checked beside each."""

    def test_training_loss_equals_scoring(self) -> None:  # type: ignore[override]
        """Holds for the softmax only."""


class TestSemaCDR(GradientConformance):
    model = "SemaCDR"


class TestSemaCDRSampledSoftmax(GradientConformance):
    model = "SemaCDR"
    extra: ClassVar[dict[str, Any]] = {"num_negatives": 16}

    def test_training_loss_equals_scoring(self) -> None:  # type: ignore[override]
        """Holds for the full softmax only; the sampled one is checked in test_losses."""


class TestSemaCDRSemanticIds(GradientConformance):
    model = "SemaCDR"
    extra: ClassVar[dict[str, Any]] = {"item_representation": "semantic_id", "code_buckets": 256}

    def test_runs_without_text(self, dataset: Dataset) -> None:
        with pytest.raises(InputError, match="--ids"):
            self.untrained(dataset, None)


class TestSemaCDRBoth(TestSemaCDRSemanticIds):
    extra: ClassVar[dict[str, Any]] = {"item_representation": "both", "code_buckets": 256}


class TestSemaCDRGen(GradientConformance):
    model = "SemaCDRGen"
    extra: ClassVar[dict[str, Any]] = {"code_buckets": 256}

    def test_runs_without_text(self, dataset: Dataset) -> None:
        with pytest.raises(InputError, match="--ids"):
            self.untrained(dataset, None)


class TestLLM4CDSR(GradientConformance):
    model = "LLM4CDSR"
    extra: ClassVar[dict[str, Any]] = {"loss": "softmax"}


class TestDualLLM(GradientConformance):
    model = "DualLLM"

    @pytest.fixture(scope="class", autouse=True)
    def backbone(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        # a few tokens hold the newest event alone, which is what the planted transitions are made of
        folder = write_tiny_bert(tmp_path_factory.mktemp("bert"))
        type(self).extra = {"backbone": str(folder), "max_tokens": 8, "item_tokens": 6, "cotrain_after": 0}


class TestLoID(GradientConformance):
    model = "LoID"

    @pytest.fixture(scope="class", autouse=True)
    def encoder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = write_tiny_bert(tmp_path_factory.mktemp("bert"), width=64)
        type(self).extra = {"encoder": str(folder), "max_tokens": 8, "num_negatives": 0, "k": 3}

    def vectors(self, folder: Path, dataset: Dataset) -> None:
        """No table: it reads the items' texts themselves."""


class TestSASRec(GradientConformance):
    model = "SASRec"


class TestSASRecSingle(GradientConformance):
    model = "SASRecSingle"


class TestUniSRec(GradientConformance):
    model = "UniSRec"

    def test_runs_without_text(self, dataset: Dataset) -> None:
        with pytest.raises(InputError, match="--embeddings"):
            self.untrained(dataset, None)


class TestCoNet(PointwiseConformance):
    model = "CoNet"
    falls_within = 8  # from the published start, vectors of a hundredth


class TestSCoNet(PointwiseConformance):
    model = "SCoNet"
    falls_within = 8
    extra: ClassVar[dict[str, Any]] = {"l1_weight": 0.001}


class TestCDAN(PointwiseConformance):
    model = "CDAN"
    falls_within = 8


class TestCDANConditional(PointwiseConformance):
    model = "CDAN"
    falls_within = 8
    extra: ClassVar[dict[str, Any]] = {"adversary": "conditional"}


class TestDGRec(PointwiseConformance):
    model = "DGRec"
    protocol = "full"
    falls_within = 8
    extra: ClassVar[dict[str, Any]] = {"neighbours": 4}


class TestTextKNN(RankingConformance):
    model = "TextKNN"
    protocol = "full"


class TestItemKNN(RankingConformance):
    model = "ItemKNN"


class TestABXI(GradientConformance):
    model = "ABXI"
    extra: ClassVar[dict[str, Any]] = {"domain_rank": 4, "invariant_rank": 8}

    def test_training_loss_equals_scoring(self) -> None:  # type: ignore[override]
        """Its softmax is over every domain's items, with a temperature; checked in baselines/test_abxi.py."""


class TestC2DSR(GradientConformance):
    model = "C2DSR"


class TestMarkov(RankingConformance):
    model = "Markov"


class TestPopularity(RankingConformance):
    model = "Popularity"
    planted = False
