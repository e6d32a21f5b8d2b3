"""What the dual-LLM model reads: lines of events, the newest kept whole, and tokenizers that can mask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semacdr.errors import InputError
from semacdr.models.dual_llm_text import UserTexts
from semacdr.models.text_encoder import Backbone
from tests.models.tiny_bert import write_tiny_bert


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_texts_by_hand(bert: Path) -> None:
    tokenizer = Backbone(str(bert)).tokenizer
    texts = UserTexts(["", "tea good", "pans very very bad", "rugs"], tokenizer, 3, 12)

    def line(words: str) -> list[int]:
        return tokenizer.convert_tokens_to_ids(words.split())

    items = torch.tensor([[1, 2, 3], [3, 1, 0], [2, 2, 2], [1, 1, 0]])
    keep = torch.tensor([[True, True, True], [False, True, False], [True, True, True], [False, False, False]])
    ids, mask = texts(items, keep)
    expected = [
        line("[CLS] tea good [SEP] pans very very [SEP] rugs [SEP]"),  # the fourth token of pans is cut off
        line("[CLS] tea good [SEP]"),
        line("[CLS] pans very very [SEP] pans very very [SEP]"),  # thirteen tokens for three: two lines are kept whole
        line("[CLS]"),
    ]
    width = max(map(len, expected))
    assert ids.tolist() == [row + line("[PAD]") * (width - len(row)) for row in expected]
    assert mask.sum(1).tolist() == [len(row) for row in expected]
    assert [ids[row][texts.words(ids)[row]].tolist() for row in range(2)] == [
        line("tea good pans very very rugs"),
        line("tea good"),
    ]
    assert texts.vocabulary(torch.tensor([1, 3])).tolist() == sorted(line("tea good rugs"))


def test_the_newest_lines_are_kept(bert: Path) -> None:
    texts = UserTexts(["", "tea", "pans", "rugs"], Backbone(str(bert)).tokenizer, 3, 6)
    every = torch.tensor([[1, 2, 3, 2]])
    newest, _ = texts(every, torch.ones_like(every, dtype=torch.bool))
    expected, _ = texts(every, torch.tensor([[False, False, True, True]]))
    assert torch.equal(newest, expected)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    class Decoder:
        cls_token_id = mask_token_id = None
        sep_token_id = pad_token_id = 0

    with pytest.raises(InputError, match="no cls, mask token"):
        UserTexts(["", "tea"], Decoder(), 3, 8)
