"""Code embeddings: worked out by hand, prefixes, and tables that do not grow with the catalogue."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import layer_norm

from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.models.base import ItemCodes, SideData
from semacdr.models.code_embedding import CodeEmbedding, HashedResidual, PrefixVectors, prefix_buckets
from semacdr.models.semacdr import SemaCDR, SemaCDRConfig
from tests.planted import write_planted

TINY = ItemCodes(torch.tensor([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0]]), (2, 2))


def test_a_vector_by_hand() -> None:
    """Codes (1, 0): rows (3, 1) and (1, 5), and the row (2, 0) of the prefix they hash to: (6, 6), and normalised 0."""
    model = CodeEmbedding(TINY, 2, 1, 0.0)
    with torch.no_grad():
        model.levels[0].weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 1.0]]))
        model.levels[1].weight.copy_(torch.tensor([[1.0, 5.0], [0.0, 0.0]]))
        model.prefixes.weight.copy_(torch.tensor([[2.0, 2.0]]))
        found = model(TINY.codes[[1, 3]])
    want = layer_norm(torch.tensor([[6.0, 8.0], [2.0, 2.0]]), (2,))
    torch.testing.assert_close(found, want)


def test_the_last_token_counts_in_the_residual_alone() -> None:
    model, residual = CodeEmbedding(TINY, 4, 64, 0.0), HashedResidual(TINY, 4, 1_000_003)
    torch.testing.assert_close(model(TINY.codes[[1]]), model(TINY.codes[[2]]))
    assert not torch.equal(residual(torch.tensor([1])), residual(torch.tensor([2])))


def test_a_prefix_has_the_row_of_its_last_code_and_one_of_its_own() -> None:
    """Ids (1, 0, 0) and (1, 0, 1) part at the last token; (0, 1, 0) shares nothing but that token's row."""
    model = PrefixVectors(TINY, 4, 1_000_003)
    buckets = prefix_buckets(TINY.codes, 1_000_003)
    ids = torch.tensor([1, 2, 3])
    with torch.no_grad():
        levels = [model.of_level(ids, level) for level in range(3)]
        for level, found in enumerate(levels):
            want = model.levels[level].weight[TINY.codes[1:, level]] + model.prefixes.weight[buckets[1:, level]]
            torch.testing.assert_close(found, want)
        torch.testing.assert_close(model(ids), sum(levels))
    for level, alike in enumerate((True, True, False)):
        assert torch.equal(levels[level][0], levels[level][1]) == alike
    assert not torch.equal(levels[2][0], levels[2][2])


def test_a_code_is_another_one_below_another_prefix() -> None:
    model = CodeEmbedding(TINY, 4, 1_000, 0.0)
    with torch.no_grad():
        for level in model.levels:
            level.weight.zero_()
    assert not torch.allclose(model(torch.tensor([[0, 1]])), model(torch.tensor([[1, 1]])))


@given(st.lists(st.lists(st.integers(0, 4095), min_size=3, max_size=3), min_size=1, max_size=20), st.integers(1, 9999))
def test_equal_prefixes_have_equal_buckets(rows: list[list[int]], buckets: int) -> None:
    found = prefix_buckets(torch.tensor(rows), buckets)
    assert found.min() >= 0
    assert found.max() < buckets
    of_prefix: dict[tuple[int, ...], int] = {}
    for row, places in zip(rows, found.tolist()):
        for level, place in enumerate(places):
            assert of_prefix.setdefault(tuple(row[: level + 1]), place) == place


def test_prefixes_spread_over_the_buckets() -> None:
    """64 x 64 prefixes into 4,096 buckets hit as many of them as chance would, which is 1 - 1/e, or more."""
    codes = torch.cartesian_prod(torch.arange(64), torch.arange(64))
    hit = len(torch.unique(prefix_buckets(codes, 4096)[:, 1])) / 4096
    assert hit > 1 - math.exp(-1) - 0.02


def test_tables_do_not_grow_with_the_catalogue(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    def parameters(dataset: Dataset) -> int:
        codes = torch.zeros(dataset.num_items + 1, 3, dtype=torch.long)
        codes[:, 2] = torch.arange(dataset.num_items + 1)
        config = SemaCDRConfig(item_representation="semantic_id", embedding_dim=8, ffn_dim=8, code_buckets=32)
        catalogue = dataset.catalogue(make_split(dataset).train_count)
        model = SemaCDR(config, catalogue, side=SideData(codes=ItemCodes(codes, (4, 4))))
        return sum(one.numel() for one in model.parameters())

    sizes = [write_planted(tmp_path_factory.mktemp("data"), items=items) for items in (6, 24)]
    assert parameters(sizes[0]) == parameters(sizes[1])


@pytest.mark.parametrize("representation", ["semantic_id", "both"])
def test_no_semantic_ids_is_an_error(tmp_path: Path, representation: str) -> None:
    """Not a quiet fall back to a table of ids, which grows with the catalogue."""
    config = SemaCDRConfig(item_representation=representation, embedding_dim=8, ffn_dim=8)  # type: ignore[arg-type]
    planted = write_planted(tmp_path)
    with pytest.raises(InputError, match="reads semantic ids") as error:
        SemaCDR(config, planted.catalogue(make_split(planted).train_count))
    assert error.value.fix == "--ids IDS"


def test_both_wants_a_view_of_text(tmp_path: Path) -> None:
    planted = write_planted(tmp_path)
    codes = ItemCodes(torch.arange(planted.num_items + 1)[:, None].expand(-1, 2), (planted.num_items + 1,))
    text = {"content": torch.ones(planted.num_items + 1, 4)}
    config = SemaCDRConfig(item_representation="both", views=[], embedding_dim=8, ffn_dim=8)
    with pytest.raises(InputError, match="wants text beside the ids"):
        SemaCDR(config, planted.catalogue(make_split(planted).train_count), text, side=SideData(codes=codes))
