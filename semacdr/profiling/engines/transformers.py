"""The ``transformers`` engine: a causal language model in this process, in left-padded batches.

Greedy by default. bfloat16 where the processor computes in it, float32 otherwise. In bfloat16 what else is in a batch
changes the last bits and now and then a word, which is why batches are planned and never made up anew.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from semacdr.errors import InputError, MissingExtraError
from semacdr.files import fingerprint
from semacdr.local_models import EMBEDDED, no_progress_bars
from semacdr.profiling.engines.base import Answer, Request, Sampling, answer_key
from semacdr.profiling.engines.chat import ended_answer, find_model, render

BATCH_SIZE = 32
_CLOSERS = re.compile(r'[.!?"\n]')


class TransformersEngine:
    """Generates with the embedded SmolLM2-135M-Instruct, a local folder or a hub name."""

    name = "transformers"
    structured = False

    def __init__(self, model: str = EMBEDDED, device: str | None = None, batch_size: int = BATCH_SIZE) -> None:
        self.chunk = batch_size
        self.folder, self.identity = find_model(model)
        self.device = device
        self._loaded: tuple[Any, Any] | None = None

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                import torch
                from transformers import AutoModelForCausalLM, AutoTokenizer
            except ImportError:
                raise MissingExtraError("transformers", "train") from None
            from semacdr.device import emulates_bf16

            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            half = not emulates_bf16(torch.device(device))
            path = str(self.folder.path)
            no_progress_bars()
            try:
                tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, padding_side="left")
                model = AutoModelForCausalLM.from_pretrained(
                    path, local_files_only=True, dtype=torch.bfloat16 if half else torch.float32
                )
            except (OSError, ValueError) as error:
                raise InputError(f"not a language model that transformers reads ({error})", where=path) from None
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            self._loaded = tokenizer, model.to(device).eval()
        return self._loaded

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        """Answers in whole batches of ``chunk``; a prompt longer than the model reads is refused alone."""
        for first in range(0, len(requests), self.chunk):
            answers = self._batch(requests[first : first + self.chunk], sampling)
            yield dict(enumerate(answers, start=first))

    def _batch(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        from semacdr.profiling.engines.decoding import AnswerEnds, BannedWords

        tokenizer, model = self._load()
        prompts = [render(tokenizer, request) for request in requests]
        ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        room = int(getattr(model.config, "max_position_embeddings", 2048)) - sampling.max_new_tokens
        fit = [row for row, tokens in enumerate(ids) if len(tokens) <= room]
        answers = [Answer("", "refused", len(tokens)) for tokens in ids]
        if not fit:
            return answers
        batch = _shared_first([ids[row] for row in fit], model, tokenizer.pad_token_id)
        width = batch["input_ids"].shape[1]
        banned = BannedWords(tokenizer, [requests[row].banned for row in fit], width)
        ends = AnswerEnds(tokenizer, width, sampling.stop, sampling.max_sentences, _CLOSERS)
        config = GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=sampling.temperature > 0,
            temperature=sampling.temperature or None,
            top_p=sampling.top_p if sampling.temperature > 0 else None,
            repetition_penalty=sampling.repetition_penalty,
            no_repeat_ngram_size=sampling.no_repeat_ngram,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=_end_tokens(tokenizer, model),
        )
        torch.manual_seed(self._seed(requests, sampling))
        with torch.inference_mode():
            output = model.generate(
                **batch,
                generation_config=config,
                logits_processor=LogitsProcessorList([banned]),
                stopping_criteria=StoppingCriteriaList([ends]),
            )
        for row, tokens in zip(fit, output[:, width:].tolist()):
            answers[row] = self._answer(tokenizer, tokens, config.eos_token_id, sampling, len(ids[row]))
        return answers

    def _seed(self, requests: Sequence[Request], sampling: Sampling) -> int:
        keys = [answer_key(request, self.identity, sampling) for request in requests]
        return int(fingerprint(keys)[:12], 16)

    @staticmethod
    def _answer(tokenizer: Any, tokens: list[int], ends: list[int], sampling: Sampling, prompt_tokens: int) -> Answer:
        stopped = next((place for place, token in enumerate(tokens) if token in ends), None)
        if stopped is not None:
            tokens = tokens[:stopped]
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        return ended_answer(text, stopped is not None, sampling, prompt_tokens, len(tokens))


def _shared_first(ids: list[list[int]], model: Any, pad: int) -> dict[str, Any]:
    """The batch as generate() takes it: what all prompts share first, computed once, then padding, then what differs.

    Instructions and examples are most of a prompt; their keys and values are computed for one row and repeated.
    """
    import torch
    from transformers import DynamicCache

    first, last = min(ids), max(ids)  # what these two share, in the order of lists, all share
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last))
    # Every row keeps a token of its own to go on from; one row alone has nothing to share.
    shared = min(sum(1 for _ in alike), min(map(len, ids)) - 1) if len(ids) > 1 else 0
    longest = max(map(len, ids))
    rows, mask = [], []
    for tokens in ids:
        gap = longest - len(tokens)
        rows.append(tokens[:shared] + [pad] * gap + tokens[shared:])
        mask.append([1] * shared + [0] * gap + [1] * (len(tokens) - shared))
    batch = {
        "input_ids": torch.tensor(rows, device=model.device),
        "attention_mask": torch.tensor(mask, device=model.device),
    }
    if shared:
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(batch["input_ids"][:1, :shared], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(ids))
        batch["past_key_values"] = cache
    return batch


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    known = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])}
    return sorted(token for token in ends if token is not None)
