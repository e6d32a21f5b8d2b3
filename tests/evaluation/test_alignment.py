from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.evaluation.alignment import linear_cka, tsne_distance


def clouds(seed: int, n: int = 60, d: int = 5, e: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two related clouds: the second is the first through a random map, plus noise."""
    random = np.random.default_rng(seed)
    a = random.normal(size=(n, d)) + random.normal(size=d)
    return a, a @ random.normal(size=(d, e)) + 0.1 * random.normal(size=(n, e))


def rotation(seed: int, d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def test_cka_by_hand() -> None:
    """Centred, a = (-1, 0, 1) and b = (-1, 2, -1) / 3 * ...: two columns, each product in the open."""
    a = np.array([[0.0], [1.0], [2.0]])  # centred -1 0 1
    b = np.array([[0.0, 1.0], [0.0, 0.0], [3.0, 1.0]])  # centred: -1 -1 2 and 1/3 -2/3 1/3
    # b^T a = (3, 0); a^T a = 2; b^T b = [[6, 1], [1, 2/3]]
    expected = 9 / (2 * np.sqrt(36 + 1 + 1 + 4 / 9))
    assert linear_cka(a, b) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_cka_ignores_rotation_scale_and_place(seed: int, scale: float, shift: float) -> None:
    a, b = clouds(seed)
    value = linear_cka(a, b)
    assert 0 < value < 1
    assert linear_cka(a, scale * b @ rotation(seed + 1, 5) + shift) == pytest.approx(value, rel=1e-6)
    assert linear_cka(b, a) == pytest.approx(value, rel=1e-9)
    assert linear_cka(a, a) == pytest.approx(1, rel=1e-12)
    assert linear_cka(a, scale * a @ rotation(seed, 5) + shift) == pytest.approx(1, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_permuted_users_agree_less(seed: int) -> None:
    a, b = clouds(seed)
    order = np.random.default_rng(seed).permutation(len(a))
    assert linear_cka(a, b[order]) < linear_cka(a, b)


def test_cka_of_a_stretched_cloud_is_below_one() -> None:
    """The guard of the invariances: not every linear map is forgiven."""
    a, _ = clouds(0)
    assert linear_cka(a, a * np.array([10, 1, 1, 1, 1])) < 0.9


def test_a_constant_side_agrees_with_nothing() -> None:
    assert linear_cka(np.ones((5, 2)), clouds(0, n=5)[1]) == 0


@pytest.mark.parametrize("measure", [linear_cka, tsne_distance])
def test_wrong_shapes(measure: object) -> None:
    for a, b in ((np.ones((4, 2)), np.ones((5, 2))), (np.ones(4), np.ones(4)), (np.ones((1, 2)), np.ones((1, 2)))):
        with pytest.raises(ValueError, match="two"):
            measure(a, b)  # type: ignore[operator]


def test_tsne_distance_tells_aligned_from_permuted() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(60, 8))
    b = a + 0.05 * random.normal(size=a.shape)
    aligned = tsne_distance(a, b)
    assert aligned < 0.2
    assert tsne_distance(a, b) == aligned  # the same seed, the same map
    assert 0.7 < tsne_distance(a, b[random.permutation(60)]) < 1.3
    assert tsne_distance(1000 * a, 1000 * b) == pytest.approx(aligned, abs=0.05)


def test_two_domains_apart_are_no_pairs() -> None:
    """Each domain in its own corner: a user's points are about as far apart as anybody's."""
    random = np.random.default_rng(1)
    a = random.normal(size=(40, 8))
    assert tsne_distance(a, a + 100) > 0.8


def test_few_users_have_a_distance_too() -> None:
    random = np.random.default_rng(2)
    for n in (2, 5):
        a = random.normal(size=(n, 3))
        assert np.isfinite(tsne_distance(a, a + 0.01))
    assert tsne_distance(np.ones((3, 2)), np.ones((3, 2))) == 1
