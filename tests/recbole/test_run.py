"""Every way into RecBole that a user has, on tiny sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import semacdr.recbole as ours
from semacdr.recbole.models import WRAPPED
from tests.recbole.conftest import World

FRESH = """
import sys
sys.argv = sys.argv[:1]
{before}
from recbole.quick_start import load_data_and_model
config, model, dataset, train, valid, test = load_data_and_model({file!r})
import torch
model.eval()
rows = test._dataset[torch.arange(3)]
print("scores", " ".join(f"{{score:.6f}}" for score in model.full_sort_predict(rows)[:, 1:].flatten().tolist()))
print("class", type(model).__module__, type(model).__name__)
"""
# What someone else may do to make RecBole importable: nothing of semacdr is imported here.
BY_OTHER_MEANS = """
import os, types, numpy as np
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_
ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
ray.tune = tune
sys.modules.update({"ray": ray, "ray.tune": tune})
import recbole.quick_start
assert not any(name.partition(".")[0] == "semacdr" for name in sys.modules)
"""


def test_runner_with_domains_and_text(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--epochs=0", "--embedding_dim=5"])
    settings = world.settings(tmp_path, semacdr_embeddings=str(world.vectors), epochs=9)
    settings |= {"semacdr_whole_sequences": True, "train_batch_size": 32}
    given = dict(settings)
    result = ours.run_recbole(dataset="planted", config_dict=settings)
    assert settings == given
    assert sys.argv == ["program", "--epochs=0", "--embedding_dim=5"]
    assert 0.3 < result["test_result"]["ndcg@10"] <= 1  # by chance: 0.09
    said = capfd.readouterr().err
    assert "runs on ids" not in said
    assert "one domain" not in said
    assert len(list((tmp_path / "saved").glob("SemaCDR-*.pth"))) == 1


def test_recboles_own_run_on_ml_100k(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from recbole.quick_start import run_recbole

    settings = {
        "epochs": 1,
        "embedding_dim": 8,
        "ffn_dim": 8,
        "num_layers": 1,
        "train_batch_size": 4096,
        "user_inter_num_interval": "[0,40]",
        "show_progress": False,
        "checkpoint_dir": str(tmp_path / "saved"),
    }
    result = run_recbole(model="SemaCDR", dataset="ml-100k", config_dict=settings)
    assert np.isfinite(result["best_valid_score"])
    said = capfd.readouterr().err
    assert said.count("runs on ids") == 1
    assert said.count("all items form one domain") == 1


TEXT_ALONE = {"TextKNN", "UniSRec"}  # they know nothing of an item but its text


@pytest.mark.parametrize("name", sorted(WRAPPED))
def test_every_model_of_the_registry(name: str, world: World, tmp_path: Path) -> None:
    from recbole.quick_start import run_recbole

    settings = world.settings(tmp_path)
    if WRAPPED[name].plain in TEXT_ALONE:
        settings["semacdr_embeddings"] = str(world.vectors)
    if not WRAPPED[name].plain.startswith("Popularity"):
        mode = {"valid": "full", "test": "uni10"}
        settings["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": mode}
    result = run_recbole(model=name, dataset="planted", config_dict=settings)
    assert 0 <= result["test_result"]["ndcg@10"] <= 1


def test_class_with_recboles_trainer_resumed_and_loaded(world: World, tmp_path: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer

    config = Config(model=ours.SemaCDR, dataset="planted", config_dict=world.settings(tmp_path))
    assert config["model"] == "SemaCDR"
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = ours.SemaCDR(config, train._dataset)
    trainer = Trainer(config, model)
    trainer.fit(train, valid, show_progress=False)
    result = trainer.evaluate(test)
    model.eval()
    rows = test._dataset[torch.arange(3)]
    scores = model.full_sort_predict(rows)
    assert scores.shape == (3, dataset.item_num)

    again = Trainer(config, ours.SemaCDR(config, train._dataset))
    again.resume_checkpoint(trainer.saved_model_file)
    assert again.start_epoch == 1
    assert again.evaluate(test, load_best_model=False) == result

    for before in ("import semacdr.recbole", BY_OTHER_MEANS):
        script = FRESH.format(before=before, file=str(trainer.saved_model_file))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("scores", "class")))
        assert lines["class"] == "semacdr.recbole.models SemaCDR"
        loaded = np.array(lines["scores"].split(), dtype=float)
        np.testing.assert_allclose(loaded, scores[:, 1:].flatten().numpy(), atol=2e-6)
