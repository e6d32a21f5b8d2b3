"""Batches, resumption, and the embedded encoder."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.schema import FloatArray
from semacdr.embedding.build import build_table
from semacdr.embedding.encoder import SentenceEncoder, encode_resumable, plan_batches
from semacdr.errors import InputError, SemacdrError
from tests.profiling.small import write_dataset

ROOT = Path(__file__).parents[2]


class FakeEncoder:
    """Vectors depend on the text and a little on the batch, as real ones do."""

    def __init__(self, name: str = "fake", fail_at: int = -1) -> None:
        self.identity: dict[str, Any] = {"name": name, "revision": "1", "weights_sha256": "0"}
        self.text_dim = 4
        self.calls, self.fail_at = 0, fail_at

    def encode(self, texts: Sequence[str]) -> FloatArray:
        if self.calls == self.fail_at:
            raise RuntimeError("out of memory")
        self.calls += 1
        mates = hashlib.sha256("|".join(texts).encode()).digest()
        rows = [[len(text), sum(map(ord, text)), mates[0], 1] for text in texts]
        return np.array(rows, dtype=np.float32)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.text(max_size=12), unique=True, max_size=40), st.integers(1, 9))
def test_every_text_stands_in_one_batch_longest_first(texts: list[str], size: int) -> None:
    batches = plan_batches(texts, size)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(texts)))
    lengths = [len(texts[index]) for index in order]
    assert lengths == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


def test_goes_on_after_the_last_finished_batch(tmp_path: Path) -> None:
    texts = [f"text {'x' * (number % 7)} {number}" for number in range(50)]
    whole = np.array(encode_resumable(FakeEncoder(), texts, tmp_path / "a", 8))
    with pytest.raises(RuntimeError):
        encode_resumable(FakeEncoder(fail_at=3), texts, tmp_path / "b", 8)
    again = FakeEncoder()
    assert (np.array(encode_resumable(again, texts, tmp_path / "b", 8)) == whole).all()
    assert again.calls == 7 - 3


def test_work_of_another_plan_is_not_used(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(20)]
    with pytest.raises(RuntimeError):
        encode_resumable(FakeEncoder(fail_at=1), texts, tmp_path / "w", 8)
    other = FakeEncoder("other")
    encode_resumable(other, texts, tmp_path / "w", 8)
    assert other.calls == 3


@pytest.mark.parametrize(("batch", "when"), [(3, "before"), (5, "after")])
def test_killed_encoding_ends_as_an_unbroken_one(tmp_path: Path, batch: int, when: str) -> None:
    dataset = write_dataset(tmp_path / "data", copies=5)
    summary = build_table(dataset, SentenceEncoder(), tmp_path / "whole", batch_size=8)
    assert summary["distinct_texts"] == 55
    command = [sys.executable, "-m", "tests.embedding.encode_and_die", str(dataset.path), str(tmp_path / "killed")]
    died = subprocess.run([*command, str(batch), when], cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "killed").exists()
    assert (tmp_path / ".killed.work").is_dir()
    build_table(dataset, SentenceEncoder(), tmp_path / "killed", batch_size=8)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["content.npy", "item_ids.npy", "manifest.json"]
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "killed", "whole"]


def test_embedded_encoder_knows_what_is_alike() -> None:
    encoder = SentenceEncoder()
    assert encoder.text_dim == 384
    assert encoder.identity["weights_sha256"].startswith("53aa5117")
    tea, mug, drill = encoder.encode(["green tea", "a cup of tea", "cordless power drill"])
    assert tea @ mug > tea @ drill + 0.3


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semacdr.local_models.ENCODER_SHA256", "00000000")
    with pytest.raises(SemacdrError, match="53aa5117"):
        SentenceEncoder()


def test_unknown_folder_is_refused_without_a_call(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model folder"):
        SentenceEncoder(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no weights"):
        build_table(write_dataset(tmp_path / "d"), SentenceEncoder(str(tmp_path / "empty")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_local_folder_gives_the_same_vectors(tmp_path: Path) -> None:
    embedded = SentenceEncoder()
    (tmp_path / "mine").symlink_to(embedded.folder.path)
    mine = SentenceEncoder(str(tmp_path / "mine"))
    assert (mine.encode(["green tea"]) == embedded.encode(["green tea"])).all()
