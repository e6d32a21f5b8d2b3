"""A training that has spent its CPU seconds ends after a whole epoch, with its best weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from semacdr.data.splits import make_split
from semacdr.files import read_json
from semacdr.models.baselines.sasrec import SASRec, SASRecConfig
from semacdr.training.settings import TrainSettings
from semacdr.training.tasks import RankingTask
from semacdr.training.trainer import Trainer, train
from tests.planted import write_planted

SMALL = {"embedding_dim": 8, "ffn_dim": 8, "num_layers": 1, "max_seq_len": 10, "epochs": 5}


@pytest.mark.parametrize("eval_every", [1, 3])
def test_it_stops_after_the_epoch_and_has_validated(tmp_path: Path, eval_every: int) -> None:
    data = write_planted(tmp_path / "data", users=30).path
    capped = train("SASRec", data, tmp_path / "capped", settings={**SMALL, "eval_every": eval_every, "cap_cpu_s": 1e-6})
    result = read_json(capped / "run.json")["result"]
    assert (result["epochs"], result["best_epoch"], result["stopped_by"]) == (1, 1, "cap")
    free = train("SASRec", data, tmp_path / "free", settings={**SMALL, "epochs": 1, "cap_cpu_s": 1e6})
    assert read_json(free / "run.json")["result"]["stopped_by"] == "epochs"
    assert (capped / "model.safetensors").read_bytes() == (free / "model.safetensors").read_bytes()


def test_a_run_that_is_resumed_inside_an_epoch_ends_that_epoch(tmp_path: Path) -> None:
    data = write_planted(tmp_path / "data", users=30)
    split = make_split(data)
    model = SASRec(SASRecConfig(embedding_dim=8, ffn_dim=8), data.catalogue(split.train_count))
    settings = TrainSettings(cap_cpu_s=1.0)
    trainer = Trainer(model, RankingTask(model, data, split, settings), settings)
    trainer.cursor.epoch, trainer.cursor.cpu_seconds, trainer.cursor.valid_cpu_seconds = 2, 0.6, 0.3
    assert trainer.stopped() is None
    trainer.cursor.valid_cpu_seconds = 0.5
    assert trainer.stopped() == "cap"
    trainer.cursor.batch = 3
    assert trainer.stopped() is None
