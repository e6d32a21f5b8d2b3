"""What some models know beside item vectors: users' profiles and items' texts, from the run folder and from RecBole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semacdr.cli import main
from semacdr.data.batches import Batch, TrainBatches, example_batches, history_batch
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.embedding.table import EmbeddingTable, write_table
from semacdr.errors import InputError
from semacdr.models import registry
from semacdr.models.base import SideData
from semacdr.models.baselines.sasrec import SASRec
from semacdr.run import build_model, load_run
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 8, "ffn_dim": 8, "num_layers": 1, "num_heads": 1, "epochs": 1, "max_seq_len": 8}


class Nosy(SASRec):
    """Reads everything, and scores as SASRec does."""

    reads_users = True
    reads_item_texts = True

    def __init__(self, *given: Any, side: SideData) -> None:
        super().__init__(*given)
        self.side = side


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setitem(registry.MODELS, "Nosy", __name__)
    return write_planted(tmp_path / "data", items=8, users=20)


def write_users(folder: Path, dataset: Dataset, fingerprint: str = "users-1") -> Path:
    """A table of two views for the users, u1 without a text in either; the users in another order than the data's."""
    vectors = np.arange(40, dtype=np.float32).reshape(20, 2) + 1
    rows = {view: np.array([-1 if user == "u1" else int(user[1:]) for user in USERS]) for view in ("a", "b")}
    manifest = {"views": ["a", "b"], "fingerprint": fingerprint, "subject": "users"}
    write_table(folder, np.array(USERS, object), vectors, rows, manifest)
    return folder


USERS = [f"u{number}" for number in reversed(range(20))]


def test_vectors_of_users_stand_side_by_side_in_the_order_of_the_data(dataset: Dataset, tmp_path: Path) -> None:
    table = EmbeddingTable.load(write_users(tmp_path / "users", dataset), "users")
    vectors = table.aligned_users(dataset.user_ids)
    assert vectors.shape == (20, 4)
    for user, row in zip(dataset.user_ids, vectors):
        number = int(user[1:])
        assert row.tolist() == ([0] * 4 if number == 1 else [2 * number + 1, 2 * number + 2] * 2)
    with pytest.raises(InputError, match="none of the data set's users"):
        table.aligned_users(["someone"])


def test_a_model_gets_what_it_reads_and_a_run_keeps_it(dataset: Dataset, tmp_path: Path) -> None:
    users = write_users(tmp_path / "users", dataset)
    run = train("Nosy", dataset.path, tmp_path / "run", None, SMALL, users)
    side = load_run(run).model.side
    assert side.num_users == 20
    expected = EmbeddingTable.load(users, "users").aligned_users(dataset.user_ids)
    np.testing.assert_array_equal(side.user_vectors.numpy(), expected)
    assert list(side.item_texts) == ["", *dataset.item_frame()["title"]]

    shutil.move(users, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="--user-embeddings"):
        load_run(run)
    assert load_run(run, user_embeddings=tmp_path / "elsewhere").users.fingerprint == "users-1"
    assert main(["evaluate", str(run), "--user-embeddings", str(tmp_path / "elsewhere")]) == 0
    write_users(tmp_path / "other", dataset, "users-2")
    with pytest.raises(InputError, match="user embeddings have changed"):
        load_run(run, user_embeddings=tmp_path / "other")
    with pytest.raises(InputError, match="holds another run"):
        train("Nosy", dataset.path, run, None, SMALL)


@pytest.mark.parametrize("split", ["transfer-0:tea", "transfer-50:tea", "cold-item-50", "cold-user"])
def test_profiles_that_tell_of_hidden_events_are_refused(dataset: Dataset, tmp_path: Path, split: str) -> None:
    """Profiles are written before leave-one-out's targets: that is from what these splits hide and ask for."""
    users = write_users(tmp_path / "users", dataset)
    hiding = {**SMALL, "split": split}
    with pytest.raises(InputError, match="profiles of users tell of events that this split hides"):
        train("Nosy", dataset.path, tmp_path / "run", None, hiding, users)
    assert not (tmp_path / "run").exists()
    train("Nosy", dataset.path, tmp_path / "run", None, hiding)


def test_without_profiles_there_are_none(dataset: Dataset) -> None:
    model = build_model("Nosy", {}, dataset, make_split(dataset), None)
    assert model.side.user_vectors is None


def test_runs_from_before_there_were_users_still_load(dataset: Dataset, tmp_path: Path) -> None:
    run = train("SASRec", dataset.path, tmp_path / "run", None, SMALL)
    manifest = json.loads((run / "run.json").read_text())
    for key in ("user_embeddings", "user_embeddings_fingerprint"):
        assert manifest.pop(key) is None
    assert manifest["config"].pop("loss") == "softmax"  # a setting that came later too
    (run / "run.json").write_text(json.dumps(manifest))
    assert load_run(run).users is None
    assert train("SASRec", dataset.path, run, None, SMALL) == run


def test_a_model_that_reads_no_profiles_refuses_them(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = write_users(tmp_path / "users", dataset)
    words = ["train", "--model", "SASRec", "--dataset", str(dataset.path), "--user-embeddings", str(users)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "reads no profiles of users" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_batches_say_whose_rows_they_are(dataset: Dataset) -> None:
    split = make_split(dataset)
    for batch in TrainBatches(split.train, 4, 5, 0).epoch(0):  # sequences of up to 12 in windows of 5
        for row in range(len(batch.items)):
            events = dataset.user_items(int(batch.user[row])).tolist()
            window = batch.items[row, : batch.length[row]].tolist()
            assert any(events[at : at + len(window)] == window for at in range(len(events)))
    for rows, batch in example_batches(split.test, dataset.item_domain, 7, 5):
        np.testing.assert_array_equal(batch.user.numpy(), split.test.user[rows])
    explicit = history_batch([dataset.user_items(3)], [0], 5, [3])
    assert explicit.to(torch.device("cpu")).user.tolist() == [3]
    assert Batch(explicit.items, explicit.length).to(torch.device("cpu")).user is None
