from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from semacdr.data.dataset import Dataset, PublishedTargets
from semacdr.errors import InputError
from semacdr.evaluation import negatives as module
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.negatives import draw_negatives, negative_lists
from semacdr.evaluation.ranker import rank
from tests.evaluation.small import Scores, last_event, make_dataset, random_dataset


def large(users: int = 60, seed: int = 0, path: Path = Path("none")) -> Dataset:
    """Two interleaved domains of 2,000 items; user u's history depends on u alone."""
    histories = [np.random.default_rng([seed, u]).integers(1, 4_001, 3 + u % 20).tolist() for u in range(users)]
    return make_dataset(histories, [0, 1] * 2_000, path)


def test_negatives_are_distinct_unseen_and_in_domain() -> None:
    dataset = large()
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, "sampled-999")
    assert lists.items.shape == (60, 999)
    assert (lists.count == 999).all()
    for row in range(len(examples)):
        drawn = lists.items[row]
        assert len(set(drawn.tolist())) == 999
        assert not set(drawn.tolist()) & set(dataset.user_items(row).tolist())
        assert (dataset.item_domain[drawn] == dataset.item_domain[examples.target[row]]).all()


def test_later_events_and_published_targets_are_no_negatives() -> None:
    dataset = make_dataset([[1, 2, 3, 4]], [0] * 110)
    targets = PublishedTargets(np.array(["test"]), np.array([0]), np.array([5]), np.array([4]))
    dataset = dataclasses.replace(dataset, targets=targets)
    validation = dataclasses.replace(last_event(dataset), stop=np.array([2]), target=np.array([3], np.int32))
    lists = draw_negatives(dataset, validation, "sampled-100")
    assert set(range(1, 6)).isdisjoint(lists.items[0].tolist())


def test_a_user_draws_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = large()
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, "sampled-999")
    shuffled = np.random.default_rng(0).permutation(60)
    again = draw_negatives(dataset, examples.select(shuffled), "sampled-999")
    np.testing.assert_array_equal(again.items, lists.items[shuffled])
    fewer = large(users=7)
    np.testing.assert_array_equal(draw_negatives(fewer, last_event(fewer), "sampled-999").items, lists.items[:7])
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 1)
    np.testing.assert_array_equal(draw_negatives(dataset, examples, "sampled-999").items, lists.items)


def test_how_many_numbers_are_read_at_once_does_not_matter() -> None:
    keys = np.arange(5, dtype=np.uint64) * np.uint64(977)
    taken = np.array([[0, 1], [5, 20], [20, 20], [3, 20], [19, 7]])
    for size, wanted in [(20, 18), (20, 5)]:
        together = module._draw(keys, taken, np.full(5, wanted, np.int32), size)
        for row in range(5):
            wide = np.concatenate([taken[row], np.full(row * 40, size)])  # a wider row reads more numbers at once
            alone = module._draw(keys[row : row + 1], wide[None], np.full(1, wanted, np.int32), size)
            np.testing.assert_array_equal(alone[0], together[row])


def test_seed_and_position_change_the_draw() -> None:
    dataset = large(users=3)
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, "sampled-100").items
    assert (draw_negatives(dataset, examples, "sampled-100", seed=1).items != lists).any(axis=1).all()
    earlier = dataclasses.replace(examples, stop=examples.stop - 1)
    assert (draw_negatives(dataset, earlier, "sampled-100").items != lists).any(axis=1).all()
    assert (lists[0] != lists[1]).any()


def test_every_item_is_drawn_equally_often() -> None:
    users, size, wanted = 3_000, 150, 100
    dataset = make_dataset([[1 + u % 2] for u in range(users)], [0] * (size + 2))
    lists = draw_negatives(dataset, last_event(dataset), "sampled-100")
    drawn = np.bincount(lists.items.ravel(), minlength=size + 3)[3:]
    share = wanted / (size + 1)
    deviation = (drawn - users * share) / np.sqrt(users * share * (1 - share))
    assert np.abs(deviation).max() < 4
    assert 0.7 < deviation.std() < 1.3


def test_a_small_domain_gives_all_it_has() -> None:
    dataset = make_dataset([[1, 2, 2], [9, 1]], [0] * 40 + [1] * 5)
    lists = draw_negatives(dataset, last_event(dataset), "sampled-100")
    assert lists.count.tolist() == [38, 38]
    assert lists.items[0, :38].tolist() == list(range(3, 41))
    assert lists.items[1, :38].tolist() == [*range(2, 9), *range(10, 41)]
    assert not lists.items[:, 38:].any()


def test_full_has_no_negatives() -> None:
    dataset = random_dataset(0)
    with pytest.raises(InputError, match="has no negatives"):
        draw_negatives(dataset, last_event(dataset), "full")


def test_constant_and_random_scorers_hit_ten_in_a_thousand() -> None:
    users = 2_000
    dataset = make_dataset([[1 + u, 2_001 + u] for u in range(users)], [0] * 4_100)
    examples = last_event(dataset)
    lists = draw_negatives(dataset, examples, "sampled-999")
    size = dataset.num_items + 1
    constant = rank(
        Scores(dataset.catalogue(), torch.zeros(1, 1).expand(size, size)),
        examples,
        dataset.item_domain,
        "sampled-999",
        lists,
    )
    values = metric_values(constant.greater, constant.ties, ["hr@10"])["hr@10"]
    np.testing.assert_allclose(values, 10 / 1_000, rtol=1e-12)
    table = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
    chance = rank(Scores(dataset.catalogue(), table), examples, dataset.item_domain, "sampled-999", lists)
    hit = metric_values(chance.greater, chance.ties, ["hr@10"])["hr@10"].mean()
    assert abs(hit - 0.01) < 4 * np.sqrt(0.01 * 0.99 / users)


def test_lists_are_kept_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = large(users=5, path=tmp_path)
    examples = last_event(dataset)
    lists = negative_lists(dataset, examples, "test", "sampled-100")
    (file,) = (tmp_path / "negatives").iterdir()
    whole = file.read_bytes()
    changed = file.stat().st_mtime_ns
    again = negative_lists(dataset, examples, "test", "sampled-100")
    np.testing.assert_array_equal(again.items, lists.items)
    assert file.stat().st_mtime_ns == changed
    for damage in (whole[:-40], whole[:3000] + b"\x07" + whole[3001:], b""):
        file.write_bytes(damage)
        again = negative_lists(dataset, examples, "test", "sampled-100")
        np.testing.assert_array_equal(again.items, lists.items)
        assert "damaged" in capsys.readouterr().err
        assert file.read_bytes() == whole  # the same bytes again
    negative_lists(dataset, examples, "test", "sampled-100", seed=1)
    other = dataclasses.replace(dataset, manifest={**dataset.manifest, "fingerprint": "0" * 64})
    negative_lists(other, examples, "test", "sampled-100")
    assert len(list((tmp_path / "negatives").iterdir())) == 3


def test_lists_lie_beside_a_data_set_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "negatives").write_text("in the way")
    dataset = large(users=5, path=folder)
    negative_lists(dataset, last_event(dataset), "test", "sampled-100")
    assert len(list((tmp_path / "data-negatives").glob("sampled-100-test-0-*.npz"))) == 1
