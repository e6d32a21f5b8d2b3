"""Aspects and topics of reviews by latent Dirichlet allocation (Blei et al. 2003), learned from training reviews.

A document here is a sentence. A first allocation has A topics: the aspects; a sentence is about its likeliest one. For
each aspect a further allocation, over the sentences about it, has K topics. scikit-learn learns both; what a new
sentence is about is found by the same variational fixed point, with the learned words held still.

What is kept of a review: how many of its sentences are about each aspect, and the sum of their K shares.

Shapes: n sentences, V words, A aspects, K topics.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.special import digamma
from torch import Tensor, nn

from semacdr.data.ratings import RatingCatalogue
from semacdr.data.schema import Float64Array, Int64Array
from semacdr.errors import MissingExtraError
from semacdr.progress import say

MOST_SENTENCES = 20_000  # that an allocation learns from: more add time, not words
LEARNING_TURNS, INFERENCE_TURNS = 10, 50
TINY = float(np.finfo(np.float64).eps)


def sentences_of(text: str) -> list[list[str]]:
    """The words of each sentence: two or more letters, in lower case."""
    found = (re.findall(r"[^\W\d_]{2,}", part) for part in re.split(r"[.!?;\n]+", text.lower()))
    return [words for words in found if words]


def shares(counts: csr_matrix, words: Float64Array) -> Float64Array:
    """Topic shares of documents under learned topics.

    Args:
        counts: (n, V) how often each word stands in each document.
        words: (K, V) the Dirichlet parameters of the topics' words.

    Returns:
        (n, K), each row with sum 1; a document without words has equal shares.
    """
    K = len(words)
    beta = np.exp(digamma(words) - digamma(words.sum(1, keepdims=True)))  # (K, V)
    gamma = np.ones((counts.shape[0], K))
    row, column = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr)), counts.indices
    at = beta.T[column]  # (nnz, K)
    for _ in range(INFERENCE_TURNS):
        theta = np.exp(digamma(gamma) - digamma(gamma.sum(1, keepdims=True)))
        ratio = counts.data / ((theta[row] * at).sum(1) + TINY)
        gamma = 1 / K + theta * (csr_matrix((ratio, column, counts.indptr), counts.shape) @ beta.T)
    return gamma / gamma.sum(1, keepdims=True)


def learn_topics(counts: csr_matrix, topics: int) -> Float64Array:
    """(topics, V) Dirichlet parameters of the topics' words; all alike where there is no document."""
    try:
        from sklearn.decomposition import LatentDirichletAllocation
    except ImportError:
        raise MissingExtraError("scikit-learn", "train") from None
    if not counts.nnz:
        return np.ones((topics, counts.shape[1]))
    if counts.shape[0] > MOST_SENTENCES:
        chosen = np.random.default_rng(0).choice(counts.shape[0], MOST_SENTENCES, replace=False)
        counts = counts[np.sort(chosen)]
    model = LatentDirichletAllocation(topics, max_iter=LEARNING_TURNS, learning_method="batch", random_state=0)
    found: Float64Array = model.fit(counts).components_
    return found


class AspectTopics(nn.Module):
    """Aspects and topics of numbered texts.

    They are learned at first use, unless they came with saved weights; then every training review is looked through
    once, any other only when it is asked for.

    Args:
        catalogue: the texts, and which of them are training reviews.
        aspects: A.
        topics: K.
        vocabulary: V at most, stop words left out.
    """

    learned: Tensor
    aspect_words: Tensor
    topic_words: Tensor

    def __init__(self, catalogue: RatingCatalogue, aspects: int, topics: int, vocabulary: int) -> None:
        super().__init__()
        self.texts, self.train_texts = catalogue.texts, np.unique(catalogue.train.text).astype(np.int64)
        self.aspects, self.topics = aspects, topics
        self.number = self._vocabulary(vocabulary)
        V = max(1, len(self.number))
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))
        self.register_buffer("aspect_words", torch.ones(aspects, V, dtype=torch.float64))
        self.register_buffer("topic_words", torch.ones(aspects, topics, V, dtype=torch.float64))
        self.forget()

    def forget(self) -> None:
        """Drops what is kept of the reviews, because the topics changed."""
        self._known = np.zeros(len(self.texts), np.bool_)
        self._counts = torch.zeros(0)
        self._sums = torch.zeros(0)

    def _vocabulary(self, most: int) -> dict[str, int]:
        try:
            from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
        except ImportError:
            raise MissingExtraError("scikit-learn", "train") from None
        count: Counter[str] = Counter()
        for text in self.train_texts:
            for words in sentences_of(self.texts[text]):
                count.update(word for word in words if word not in ENGLISH_STOP_WORDS)
        frequent = sorted(count, key=lambda word: (-count[word], word))[:most]
        return {word: at for at, word in enumerate(sorted(frequent))}

    def _sentences(self, rows: Int64Array) -> tuple[Int64Array, csr_matrix]:
        """The sentences of texts that have a known word: (n,) which of ``rows`` each is from, and (n, V) counts."""
        owner, columns, ends = [], [], [0]
        for at, text in enumerate(rows):
            for words in sentences_of(self.texts[text]):
                known = [self.number[word] for word in words if word in self.number]
                if known:
                    owner.append(at)
                    columns += known
                    ends.append(len(columns))
        counts = csr_matrix((np.ones(len(columns)), columns, ends), (len(owner), self.aspect_words.shape[1]))
        counts.sum_duplicates()
        return np.array(owner, np.int64), counts

    def _learn(self) -> None:
        counts = self._sentences(self.train_texts)[1]
        say(f"learning aspects and topics from {min(counts.shape[0], MOST_SENTENCES)} sentences, once")
        aspect_words = learn_topics(counts, self.aspects)
        about = shares(counts, aspect_words).argmax(1)
        topic_words = np.stack([learn_topics(counts[about == a], self.topics) for a in range(self.aspects)])
        self.aspect_words.copy_(torch.from_numpy(aspect_words))
        self.topic_words.copy_(torch.from_numpy(topic_words))
        self.learned.fill_(True)

    def _look_through(self, rows: Int64Array) -> None:
        owner, counts = self._sentences(rows)
        about = shares(counts, self.aspect_words.cpu().numpy()).argmax(1)
        share = np.zeros((len(owner), self.topics))
        for aspect, words in enumerate(self.topic_words.cpu().numpy()):
            share[about == aspect] = shares(counts[about == aspect], words)
        numbers = np.zeros((len(rows), self.aspects))
        sums = np.zeros((len(rows), self.aspects, self.topics))
        np.add.at(numbers, (owner, about), 1)
        np.add.at(sums, (owner, about), share)
        self._counts[rows] = torch.from_numpy(numbers).float()
        self._sums[rows] = torch.from_numpy(sums).float()
        self._known[rows] = True

    def forward(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, k) text indices -> what their sentences sum up to.

        Returns:
            (B, A) sentences about each aspect, and (B, A, K) sums of their topic shares.
        """
        if not self.learned:
            self._learn()
            self.forget()
        if not len(self._counts):
            self._counts = torch.zeros(len(self.texts), self.aspects)
            self._sums = torch.zeros(len(self.texts), self.aspects, self.topics)
            self._look_through(self.train_texts)
        rows = texts.cpu().numpy()
        new = np.unique(rows[~self._known[rows]])
        if len(new):
            self._look_through(new)
        at = torch.from_numpy(rows)
        return self._counts[at].sum(1).to(texts.device), self._sums[at].sum(1).to(texts.device)
