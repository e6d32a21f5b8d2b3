"""kill -9 in the middle of training, then the same command again: the weights of an unbroken run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.errors import InputError
from semacdr.files import read_json, write_json
from semacdr.training.checkpoint import load_tensors, save_tensors
from tests.planted import write_planted

SETTINGS = ["embedding_dim=32", "ffn_dim=32", "num_layers=1", "max_seq_len=10", "batch_size=8", "epochs=6"]


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--model", "SASRec", "--dataset", str(data), "--out", str(out), *SETTINGS, *more]


def test_killed_three_times(tmp_path: Path) -> None:
    data = write_planted(tmp_path / "data").path
    assert main(command(data, tmp_path / "whole", "checkpoint_s=0.0001")) == 0
    instants = random.Random(3)
    out = tmp_path / "broken"
    for _ in range(3):  # a checkpoint is written after every step, so a kill is likely to fall into a write
        child = subprocess.Popen(
            [sys.executable, "-m", "semacdr", *command(data, out, "checkpoint_s=0.0001")], stderr=subprocess.DEVNULL
        )
        before = (out / "checkpoint.safetensors").stat().st_mtime_ns if (out / "checkpoint.safetensors").exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            path = out / "checkpoint.safetensors"
            if path.exists() and path.stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        time.sleep(instants.uniform(0.0, 0.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
    if (out / "checkpoint.safetensors").exists():
        assert not (out / "model.safetensors").exists()
    assert main(command(data, out, "checkpoint_s=0.0001")) == 0
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert not (out / "checkpoint.safetensors").exists()


def test_a_second_call_finds_it_done_and_other_settings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_planted(tmp_path / "data", users=30).path
    assert main(command(data, tmp_path / "run", "epochs=1")) == 0
    weights = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert main(command(data, tmp_path / "run", "epochs=1")) == 0
    assert "already trained" in capsys.readouterr().err
    assert main(command(data, tmp_path / "run", "epochs=2")) == 2
    said = capsys.readouterr().err
    assert "holds another run (epochs: 1 there, 2 asked for)" in said  # and not what is the same
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == weights


def test_a_run_from_when_splits_were_kept_as_typed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_planted(tmp_path / "data", users=30).path
    asked = command(data, tmp_path / "run", "epochs=1", "split=cold-item-10")
    assert main(asked) == 0
    manifest = read_json(tmp_path / "run" / "run.json")
    assert manifest["training"]["split"] == "cold-item-10"
    manifest["training"]["split"] = "cold-item"
    write_json(tmp_path / "run" / "run.json", manifest)
    assert main(asked) == 0
    assert "already trained" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "c.safetensors"
    save_tensors(path, {"a": torch.ones(3)}, {"step": 1})
    assert load_tensors(path)[1] == {"step": 1}
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="damaged checkpoint"):
        load_tensors(path)
