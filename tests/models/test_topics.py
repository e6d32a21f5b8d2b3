"""Topics of reviews: inference as scikit-learn's, planted aspects found, sums by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.models.topics import INFERENCE_TURNS, AspectTopics, learn_topics, sentences_of, shares

decomposition = pytest.importorskip("sklearn.decomposition")


def test_sentences_of() -> None:
    found = sentences_of("Great TEA, 2 cups! It's hot.\nÜber fein; x")
    assert found == [["great", "tea", "cups"], ["it", "hot"], ["über", "fein"]]
    assert sentences_of("") == []


def test_inference_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    counts = csr_matrix(random.poisson(0.4, (60, 12)).astype(np.float64))
    model = decomposition.LatentDirichletAllocation(
        4, max_iter=5, random_state=0, max_doc_update_iter=INFERENCE_TURNS, mean_change_tol=0.0
    ).fit(counts)
    np.testing.assert_allclose(shares(counts, model.components_), model.transform(counts), rtol=1e-6)


def test_a_document_without_words_and_no_documents_at_all() -> None:
    words = np.random.default_rng(0).gamma(1.0, size=(3, 5))
    np.testing.assert_allclose(shares(csr_matrix((2, 5)), words), 1 / 3)
    assert learn_topics(csr_matrix((0, 5)), 3).tolist() == np.ones((3, 5)).tolist()


TASTE, POST = "sweet bitter flavour taste aroma", "parcel late courier delivery box"


def planted() -> RatingCatalogue:
    """Sixty training reviews of one sentence on the taste and one on the post; the last two texts are held out."""
    random = np.random.default_rng(0)
    texts = [""]
    for _ in range(60):
        texts.append(". ".join(" ".join(random.choice(words.split(), 4)) for words in (TASTE, POST)))
    texts += ["bitter aroma. sweet taste", "zebra courier. zebra"]
    train = np.arange(1, 61, dtype=np.int32)
    ratings = Ratings(np.ones(60, np.int32), train, np.ones(60, np.float32), train)
    return RatingCatalogue(1, 60, tuple(texts), ratings)


def test_planted_aspects_are_told_apart() -> None:
    topics = AspectTopics(planted(), aspects=2, topics=2, vocabulary=100)
    count, sums = topics(torch.arange(1, 61)[:, None])
    assert count.tolist() == [[1.0, 1.0]] * 60  # one sentence on each
    np.testing.assert_allclose(sums.sum(2).numpy(), 1, rtol=1e-5)
    taste, post = topics(torch.tensor([[61]]))[0], topics(torch.tensor([[62]]))[0]
    assert sorted(taste[0].tolist()) == [0.0, 2.0]
    assert sorted(post[0].tolist()) == [0.0, 1.0]  # a sentence without a known word is none
    assert int(taste.argmax()) != int(post.argmax())
    both = topics(torch.tensor([[61, 62, 0]]))
    assert torch.equal(both[0], taste + post)


def test_held_out_reviews_have_no_say_in_the_topics() -> None:
    made = planted()
    changed = replace(made, texts=(*made.texts[:61], "quite other words", "of which none is known"))
    one, other = (AspectTopics(catalogue, 2, 2, 100) for catalogue in (made, changed))
    for topics in (one, other):
        topics(torch.tensor([[1]]))
    assert one.number == other.number
    assert torch.equal(one.topic_words, other.topic_words)


def test_loaded_topics_are_not_learned_again() -> None:
    first, second = (AspectTopics(planted(), 2, 2, 100) for _ in range(2))
    first(torch.tensor([[1]]))
    state = {name: value.clone() for name, value in first.state_dict().items()}
    state["topic_words"] += 1
    second.load_state_dict(state)
    second.forget()
    second(torch.tensor([[1]]))
    assert torch.equal(second.topic_words, state["topic_words"])


def test_the_vocabulary_is_capped_by_frequency() -> None:
    made = planted()
    texts = (*made.texts[:1], "tea tea tea pot pot the the the cup", *made.texts[2:])
    only = replace(made, texts=texts, train=made.train.select(np.array([0])))
    assert AspectTopics(only, 2, 2, 2).number == {"pot": 0, "tea": 1}
