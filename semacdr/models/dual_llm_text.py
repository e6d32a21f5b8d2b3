"""What the dual-LLM model reads, and its domain language models: users' events as tokens, LoRA, a masked-token head.

Shapes: P texts, L events, T tokens of an item, W tokens of a text, d width of the language model, V used tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semacdr.errors import InputError
from semacdr.models.dual_llm_losses import mask_tokens
from semacdr.models.text_encoder import Backbone

ROWS_ON_CPU, ROWS_ON_GPU = 16, 512
"""Texts of like length that one pass holds: short passes pad little, long ones keep a GPU busy."""


class UserTexts(nn.Module):
    """Writes events as one text: a first token, then a line an item, newest last, each closed by a separator.

    Lines are kept or left out whole; of a long history the newest that fit are kept.

    Args:
        item_texts: (N+1,) text of each item; the first is padding's.
        tokenizer: of the language model, with a first, a separating, a padding and a mask token.
        item_tokens: T; a longer line is cut.
        max_tokens: most tokens of a text.

    Raises:
        InputError: the tokenizer lacks one of the special tokens, as those of decoders do.
    """

    tokens: Tensor
    length: Tensor

    def __init__(self, item_texts: Sequence[str], tokenizer: Any, item_tokens: int, max_tokens: int) -> None:
        super().__init__()
        special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
        missing = [name for name, value in special.items() if value is None]
        if missing:
            fix = "name a BERT-type encoder"
            raise InputError(f"the backbone's tokenizer has no {', '.join(missing)} token", where="backbone", fix=fix)
        self.cls_id, self.pad_id, self.mask_id = special["cls"], special["pad"], special["mask"]
        self.max_tokens = max_tokens
        item_tokens = min(item_tokens, max_tokens - 2)
        lines = tokenizer(list(item_texts), add_special_tokens=False, truncation=True, max_length=item_tokens)
        tokens = torch.full((len(item_texts), item_tokens + 1), self.pad_id)
        for row, line in enumerate(lines["input_ids"]):
            tokens[row, : len(line) + 1] = torch.tensor([*line, special["sep"]])
        length = torch.tensor([len(line) + 1 for line in lines["input_ids"]])
        self.sep_id = special["sep"]
        self.register_buffer("tokens", tokens, persistent=False)  # (N+1, T+1), the separator included
        self.register_buffer("length", length, persistent=False)  # (N+1,)

    def forward(self, items: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Texts of events.

        Args:
            items: (P, L) item ids, oldest first.
            keep: (P, L) True for the events to be written.

        Returns:
            (P, W) token ids and (P, W) True where a token is.
        """
        size = self.length[items] * keep
        from_here = size.flip(1).cumsum(1).flip(1)  # tokens of this event and the later ones
        fits = keep & (from_here < self.max_tokens)
        total = (size * fits).sum(1)
        width = 1 + int(total.max())
        ids = torch.full((len(items), width), self.pad_id, device=items.device)
        ids[:, 0] = self.cls_id
        row, event = fits.nonzero(as_tuple=True)
        lines = self.tokens[items[row, event]]  # (E, T+1)
        column = torch.arange(lines.shape[1], device=items.device)
        inside = column < size[row, event, None]
        at = (1 + total[row] - from_here[row, event])[:, None] + column
        ids[row[:, None].expand_as(at)[inside], at[inside]] = lines[inside]
        return ids, torch.arange(width, device=items.device) < 1 + total[:, None]

    def words(self, ids: Tensor) -> Tensor:
        """True where a token is of an item's text: neither padding nor special."""
        return (ids != self.pad_id) & (ids != self.cls_id) & (ids != self.sep_id)

    def vocabulary(self, items: Tensor) -> Tensor:
        """(V,) tokens that occur in the texts of the given items, ascending."""
        tokens = torch.unique(self.tokens[items])
        used = tokens[self.words(tokens)]
        return used if len(used) else tokens[:1]


class DomainLanguageModel(nn.Module):
    """The language model of one domain: a frozen encoder, its LoRA matrices, and a head that tells masked tokens.

    The head is tied to the encoder's token embeddings and chooses among the tokens that the domain's items use: all
    masked tokens are among them, and the softmax is a tenth of the price.

    Args:
        backbone: the encoder with its LoRA.
        token_vectors: (V, e) frozen embeddings of the domain's tokens.
        vocabulary: (V,) those tokens, ascending.
    """

    token_vectors: Tensor
    vocabulary: Tensor

    def __init__(self, backbone: Backbone, token_vectors: Tensor, vocabulary: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("token_vectors", token_vectors, persistent=False)
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        e = token_vectors.shape[1]
        self.head = nn.Sequential(nn.Linear(backbone.width, e), nn.GELU(), nn.LayerNorm(e))
        self.head_bias = nn.Parameter(torch.zeros(len(vocabulary)))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(P, W) tokens and mask -> (P, d) float32, the mean of the token states."""
        pooled = torch.zeros(len(ids), self.backbone.width, device=ids.device)
        for rows, width in _like_length(mask):
            own = mask[rows, :width]
            states = self.backbone.states(ids[rows, :width], own.long())
            pooled = pooled.index_copy(0, rows, self.backbone.pool(states, own).float())
        return pooled

    def masked_loss(self, ids: Tensor, mask: Tensor, words: Tensor, rate: float, mask_id: int) -> Tensor:
        """Mean cross-entropy of the masked tokens; 0 if the draw masks none.

        Args:
            ids: (P, W) tokens.
            mask: (P, W) True where a token is.
            words: (P, W) True where a token may be masked.
            rate: share of them that is.
            mask_id: the mask token.
        """
        read, chosen = mask_tokens(ids, words, rate, mask_id, self.vocabulary)
        states, wanted = [], []
        for rows, width in _like_length(mask):
            here = chosen[rows, :width]
            states.append(self.backbone.states(read[rows, :width], mask[rows, :width].long())[here])
            wanted.append(ids[rows, :width][here])
        target = torch.searchsorted(self.vocabulary, torch.cat(wanted))
        if not len(target):
            return self.head_bias.sum() * 0
        logits = self.head(torch.cat(states)) @ self.token_vectors.T + self.head_bias
        return F.cross_entropy(logits.float(), target)


def with_lora(backbone: Backbone, rank: int, alpha: float, targets: Sequence[str] | None) -> Backbone:
    """A copy with a LoRA of its own, over the very same frozen weights."""
    kept = {id(part): part for part in (backbone.tokenizer, *backbone.parameters())}
    own = copy.deepcopy(backbone, kept)
    own.add_lora(rank, alpha, targets=targets)
    # peft's shell claims the attributes of what it holds, and RecBole's count of FLOPs stumbles over that
    own.model = own.model.get_base_model()
    return own


def _like_length(mask: Tensor) -> Iterator[tuple[Tensor, int]]:
    """(P, W) mask -> groups of rows of like length, each with the width that its longest needs."""
    length = mask.sum(1)
    order = length.argsort(stable=True)
    for rows in order.split(ROWS_ON_CPU if mask.device.type == "cpu" else ROWS_ON_GPU):
        yield rows, int(length[rows[-1]])
