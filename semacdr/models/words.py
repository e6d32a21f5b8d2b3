"""Words of reviews: documents of historical reviews, and vectors of their words, for models that read words in order.

A word is a piece of the encoder's own tokeniser. Its vector is the encoder's word embedding, frozen, times a trained
matrix: ``x = P e``. Published models freeze word2vec or GloVe; this encoder's word embeddings are what is at hand
without a download, and P brings them to the width that is wanted. The vocabulary is made from training reviews alone:
the most frequent pieces, ties by number. Others are left out of documents.

Shapes: k reviews, M words, V vocabulary, W ``word_dim``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.ratings import RatingCatalogue
from semacdr.local_models import EMBEDDED
from semacdr.models.layers import init_weights
from semacdr.models.text_encoder import Backbone


class WordSettings(Settings):
    """What is read of the reviews, and in which words."""

    encoder: str = EMBEDDED
    """Whose word pieces and word embeddings are taken: the embedded all-MiniLM-L6-v2, a local folder, or a hub name."""
    k: int = Field(10, gt=0)
    """Historical reviews a side."""
    max_words: int = Field(200, gt=4)
    """M: a document, the reviews of one side one after another, is cut to so many words."""
    vocabulary: int = Field(20_000, gt=0)
    """V, at most."""
    word_dim: int = Field(64, gt=0)
    """W: width of a word's vector after the trained projection."""
    faithful: bool = False
    """True: the pair's own review may be among its historical ones, and the label leaks."""


class Words(nn.Module):
    """Documents and word vectors.

    Args:
        settings: whose words, how many of them.
        catalogue: the training reviews, which the vocabulary is made of.
    """

    matrix: Tensor
    weights_hash: Tensor

    def __init__(self, settings: WordSettings, catalogue: RatingCatalogue) -> None:
        super().__init__()
        backbone = Backbone(settings.encoder, max_tokens=settings.max_words + 2)  # two marks around a text
        table = backbone.tokenise(catalogue.texts)
        embeddings = backbone.model.get_input_embeddings().weight.detach()
        marks = np.array(backbone.tokenizer.all_special_ids)
        rows = np.unique(catalogue.train.text)
        known = np.zeros(len(table), np.bool_)
        known[rows[rows > 0]] = True
        count = np.bincount(table.tokens[np.repeat(known, table.length)], minlength=len(embeddings))
        count[marks] = 0
        frequent = np.argsort(-count, kind="stable")[: settings.vocabulary]
        pieces = np.sort(frequent[count[frequent] > 0])  # (V,)
        number = np.zeros(len(embeddings), np.int64)
        number[pieces] = np.arange(1, len(pieces) + 1)

        words = number[table.tokens]
        self.words = words[words > 0]
        kept = np.concatenate([[0], np.cumsum(words > 0)])
        self.offsets = kept[table.offsets]
        self.max_words = settings.max_words
        scale = embeddings.square().mean().sqrt()  # of the whole table: no review has a say in it
        chosen = embeddings[torch.from_numpy(pieces)] / scale
        self.register_buffer("matrix", F.pad(chosen, (0, 0, 1, 0)), persistent=False)  # (V+1, d), row 0 is no word
        self.register_buffer("weights_hash", backbone.weights_hash.clone())
        self.projection = nn.Linear(chosen.shape[1], settings.word_dim, bias=False)  # no bias: no word stays zero
        self.projection.apply(init_weights)

    def documents(self, texts: Tensor) -> Tensor:
        """(B, k) text indices, 0 for none -> (B, M') words, M' <= M the longest document; 0 behind the last word."""
        rows = texts.cpu().numpy()
        length = self.offsets[rows + 1] - self.offsets[rows]  # (B, k); text 0 has no words
        end = length.cumsum(1)
        total = np.minimum(end[:, -1], self.max_words)
        column = np.arange(max(1, int(total.max(initial=1))))
        review = (column[None, :, None] >= end[:, None, :]).sum(2).clip(max=rows.shape[1] - 1)  # (B, M')
        first = np.take_along_axis(self.offsets[rows] - (end - length), review, 1)
        inside = column < total[:, None]
        at = np.where(inside, first + column, 0)
        words = np.where(inside, self.words[at] if len(self.words) else 0, 0)
        return torch.from_numpy(words).to(texts.device)

    def forward(self, words: Tensor) -> Tensor:
        """(B, M) words -> (B, M, W) vectors; zero where no word is. Each distinct word is projected once."""
        distinct, place = words.unique(return_inverse=True)
        return F.embedding(place, self.projection(self.matrix[distinct]))


def convolve(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution over words that keeps their number: zeros stand before the first and behind the last.

    Word t sees the words t - (w-1)//2 to t + w//2, whatever the padding of its document.

    Args:
        layer: Conv1d of width w, without padding of its own.
        x: (B, M, W).

    Returns:
        (B, C, M).
    """
    width = layer.kernel_size[0]
    out: Tensor = layer(F.pad(x.transpose(1, 2), ((width - 1) // 2, width // 2)))
    return out


def max_pool(h: Tensor, mask: Tensor) -> Tensor:
    """(B, C, M) ReLU outputs and (B, M) mask -> (B, C) largest over the words; zero for an empty document."""
    return (torch.relu(h) * mask.unsqueeze(1)).amax(2)
