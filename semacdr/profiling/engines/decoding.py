"""What steers decoding row by row: words that may not occur, and the rule by which an answer ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import BoolTensor, FloatTensor, LongTensor, Tensor
from transformers import LogitsProcessor, StoppingCriteria

from semacdr.profiling.engines.chat import spelled_tokens
from semacdr.profiling.engines.sentences import find_end
from semacdr.profiling.words import spellings


class BannedWords(LogitsProcessor):
    """Keeps each row's banned words from being decoded, at the start of a word, in lower, title or upper case.

    A word of one token is never chosen; the last token of a longer one is never chosen behind the tokens before it.
    transformers has this for one list per batch only; here every row has the words of its own item.
    """

    def __init__(self, tokenizer: Any, words: Sequence[Sequence[str]], width: int) -> None:
        self.width = width
        self.single = [torch.zeros(0, dtype=torch.long) for _ in words]
        self.longer: list[list[tuple[list[int], int]]] = [[] for _ in words]
        known: dict[str, list[list[int]]] = {}
        for row, banned in enumerate(words):
            single = set()
            for word in banned:
                if word not in known:
                    known[word] = spelled_tokens(tokenizer, spellings(word))
                for tokens in known[word]:
                    if len(tokens) == 1:
                        single.add(tokens[0])
                    else:
                        self.longer[row].append((tokens[:-1], tokens[-1]))
            self.single[row] = torch.tensor(sorted(single), dtype=torch.long)

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """Sets the scores of forbidden next tokens to minus infinity."""
        rows = input_ids[:, self.width :].tolist()
        for row, tokens in enumerate(rows):
            scores[row, self.single[row].to(scores.device)] = -torch.inf
            for head, last in self.longer[row]:
                if tokens[-len(head) :] == head:
                    scores[row, last] = -torch.inf
        return scores


class AnswerEnds(StoppingCriteria):
    """Ends a row at a stop string or with its last allowed sentence.

    Only rows whose newest token can close something are decoded, which keeps this cheap.
    """

    def __init__(
        self, tokenizer: Any, width: int, stop: tuple[str, ...], max_sentences: int, closers: re.Pattern[str]
    ) -> None:
        self.tokenizer, self.width, self.stop, self.max_sentences = tokenizer, width, stop, max_sentences
        self.closers = closers

    def __call__(self, input_ids: LongTensor, scores: Tensor, **_: Any) -> BoolTensor:
        """Which rows have ended, (B,)."""
        newest = self.tokenizer.batch_decode(input_ids[:, -1:])
        ended = torch.zeros(len(newest), dtype=torch.bool, device=input_ids.device)
        for row, text in enumerate(newest):
            if self.closers.search(text):
                answer = self.tokenizer.decode(input_ids[row, self.width :], skip_special_tokens=True)
                ended[row] = find_end(answer, self.stop, self.max_sentences) is not None
        return ended  # type: ignore[return-value]
