"""Clusters of item vectors: planted groups are found, the same each time, and a kept file moves nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semacdr.data.schema import FloatArray
from semacdr.errors import InputError
from semacdr.profiling import clusters as module
from semacdr.profiling.clusters import Clusters, fit_clusters, keep_clusters, kept_clusters


def planted(groups: int = 5, each: int = 30, dim: int = 8) -> tuple[FloatArray, FloatArray]:
    """Vectors around far centres, interleaved (0, 1, 2, ..., 0, 1, ...), and their groups."""
    rng = np.random.default_rng(1)
    group = np.tile(np.arange(groups), each)
    centres = 10 * np.eye(groups, dim)
    return (centres[group] + rng.normal(0, 0.3, (len(group), dim))).astype(np.float32), group


def test_planted_groups_are_found_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, group = planted()
    vectors[[4, 77]] = 0
    whole = fit_clusters(vectors, 5)
    found = whole.of(vectors)
    assert found[[4, 77]].tolist() == [-1, -1]
    has = found >= 0
    pairs = set(zip(group[has].tolist(), found[has].tolist()))
    assert len(pairs) == 5 == len({cluster for _, cluster in pairs})
    monkeypatch.setattr(module, "_BLOCK", 7)
    again = fit_clusters(vectors, 5)
    assert (again.centres == whole.centres).all()
    assert (again.of(vectors) == found).all()


def test_a_sample_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, group = planted()
    monkeypatch.setattr(module, "_FIT_ROWS", 50)
    found = fit_clusters(vectors, 5).of(vectors)
    assert len(set(zip(group.tolist(), found.tolist()))) == 5


def test_fewer_vectors_than_clusters() -> None:
    two = np.repeat(np.eye(2, 4, dtype=np.float32), 6, axis=0)
    assert sorted(np.bincount(fit_clusters(two, 10).of(two)).tolist()) == [6, 6]
    with pytest.raises(InputError, match="nothing to cluster"):
        fit_clusters(np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match="nothing to cluster"):
        fit_clusters(np.zeros((0, 4), np.float32))


def test_kept_clusters(tmp_path: Path) -> None:
    file = tmp_path / "c.npy"
    assert kept_clusters(file) is None
    made = Clusters(np.eye(3, dtype=np.float32))
    keep_clusters(file, made)
    read = kept_clusters(file)
    assert read is not None
    assert (read.centres == made.centres).all()
    file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(InputError, match="damaged clusters"):
        kept_clusters(file)
