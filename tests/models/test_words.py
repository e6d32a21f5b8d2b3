"""Words and documents: what the vocabulary is made of, and documents as plain concatenation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from semacdr.errors import InputError
from semacdr.models.text_encoder import Backbone, load_trained
from semacdr.models.words import Words, WordSettings, convolve, max_pool
from tests.models.baselines.reviews import TEXTS, catalogue
from tests.models.tiny_bert import write_tiny_bert


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def words(tiny: Path) -> Words:
    return made(tiny)


def made(tiny: Path, **settings: Any) -> Words:
    torch.manual_seed(0)
    return Words(WordSettings(encoder=str(tiny), **{"word_dim": 4, "max_words": 9, **settings}), catalogue())


def pieces(tiny: Path, text: str) -> list[int]:
    return Backbone(str(tiny)).tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_vocabulary_is_that_of_the_training_reviews(tiny: Path, words: Words) -> None:
    seen = {piece for text in TEXTS[1:6] for piece in pieces(tiny, text)}
    assert len(words.matrix) == len(seen) + 1
    held = pieces(tiny, TEXTS[6])  # the rugs number: none of them in a training review
    assert not set(held) & seen
    assert words.documents(torch.tensor([[6, 0]])).tolist() == [[0]]


def test_a_words_vector_is_its_piece_of_the_encoder_projected(tiny: Path, words: Words) -> None:
    table = Backbone(str(tiny)).model.get_input_embeddings().weight.detach()
    wanted = table[pieces(tiny, TEXTS[2])] / table.square().mean().sqrt()  # "bad tea it is not good"
    found = words(words.documents(torch.tensor([[2]])))[0]
    torch.testing.assert_close(found, wanted @ words.projection.weight.T)
    assert not words(torch.zeros(1, 1, dtype=torch.long)).any()


def test_a_small_vocabulary_keeps_the_most_frequent_pieces(tiny: Path) -> None:
    small = made(tiny, vocabulary=2)  # good and tea, three times each
    kept = small.documents(torch.tensor([[2, 4]]))  # bad TEA it is not GOOD, very GOOD
    tea, good = (small.documents(torch.tensor([[3]]))[0, 0], small.documents(torch.tensor([[4]]))[0, 0])
    assert kept.tolist() == [[tea, good, good]]
    assert {int(tea), int(good)} == {1, 2}


@given(st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_documents_are_the_reviews_one_after_another(words: Words, rows: list[list[int]]) -> None:
    found = words.documents(torch.tensor(rows))
    wanted = []
    for texts in rows:
        flat = [int(w) for t in texts for w in words.words[words.offsets[t] : words.offsets[t + 1]]]
        wanted.append(flat[:9])
    width = max(1, *(len(flat) for flat in wanted))
    assert found.tolist() == [flat + [0] * (width - len(flat)) for flat in wanted]


def test_a_run_over_other_words_is_refused(tiny: Path, words: Words, tmp_path: Path) -> None:
    other = made(write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="another language model"):
        load_trained(other, words.state_dict())
    load_trained(made(tiny), words.state_dict())


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_a_convolution_keeps_the_number_of_words_whatever_the_padding(width: int) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv1d(4, 3, width), torch.randn(1, 5, 4)
    out = convolve(layer, x)[0].detach().numpy()
    weight, bias = layer.weight.detach().numpy(), layer.bias
    assert bias is not None
    for t in range(5):
        value = bias.detach().numpy().copy()
        for place in range(width):
            at = t - (width - 1) // 2 + place
            if 0 <= at < 5:
                value += weight[:, :, place] @ x[0, at].numpy()
        np.testing.assert_allclose(out[:, t], value, rtol=1e-4, atol=1e-5)
    wider = convolve(layer, F.pad(x, (0, 0, 0, 3)))
    torch.testing.assert_close(wider[:, :, :5], torch.from_numpy(out)[None])


def test_pooling_sees_no_padding() -> None:
    h = torch.tensor([[[1.0, -2.0, 9.0], [-1.0, -3.0, 9.0]]])
    assert max_pool(h, torch.tensor([[True, True, False]])).tolist() == [[1.0, 0.0]]
    assert max_pool(h, torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0]]
