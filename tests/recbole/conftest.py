"""A planted cross-domain set as RecBole's atomic files, with a text table, and models that train in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("recbole")

from semacdr.data.dataset import Dataset
from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.id_input import table_input
from semacdr.embedding.id_settings import id_settings
from semacdr.embedding.table import EmbeddingTable
from tests.models.tiny_bert import write_tiny_bert
from tests.planted import write_planted, write_vectors

SMALL = {
    "embedding_dim": 8,
    "ffn_dim": 16,
    "num_layers": 1,
    "num_heads": 1,
    "adapter_dim": 8,
    "max_seq_len": 12,
}
TOPK = [1, 5, 10, 48]


@dataclass(frozen=True)
class World:
    """The planted set, in our format and in RecBole's."""

    dataset: Dataset
    data_path: Path
    vectors: Path
    backbone: Path
    ids: Path

    def settings(self, checkpoints: Path, **others: Any) -> dict[str, Any]:
        """RecBole's settings for a short training."""
        return {
            "data_path": str(self.data_path),
            "checkpoint_dir": str(checkpoints / "saved"),
            "epochs": 1,
            "train_batch_size": 512,
            "learning_rate": 0.01,
            "show_progress": False,
            "state": "ERROR",
            "metrics": ["Hit", "NDCG", "MRR"],
            "topk": TOPK,
            "valid_metric": "NDCG@10",
            "metric_decimal_place": 8,
            **SMALL,
            "backbone": str(self.backbone),
            "semacdr_ids": str(self.ids),
            **others,
        }


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    import semacdr.recbole

    folder = tmp_path_factory.mktemp("planted")
    dataset = write_planted(folder / "ours")
    semacdr.recbole.export(folder / "ours", folder / "atomic", "planted")
    vectors = write_vectors(folder / "table", dataset)
    settings = id_settings({"levels": 2, "codes": 8, "kmeans": "scikit-learn"})
    build_ids(table_input(EmbeddingTable.load(vectors)), folder / "ids", settings)
    return World(dataset, folder / "atomic", vectors, write_tiny_bert(folder / "bert"), folder / "ids")


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes its logs into the current folder, and reads settings from the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["program"])
