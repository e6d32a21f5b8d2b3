"""The ``vllm`` engine: vLLM in this process and its children, kept full, on GPUs or on a CPU.

Prompts are the same token by token as those of the ``transformers`` engine; what they share stands first and is cached.
``no_repeat_ngram`` has no counterpart in vLLM and is not applied: validation finds repeated phrases, and retries are
sampled. Banned words that are one token cannot be decoded; longer ones are vLLM's ``bad_words``, which knows the
spelling behind a space only where it has as many tokens.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from semacdr.errors import InputError, MissingExtraError
from semacdr.local_models import EMBEDDED
from semacdr.profiling.engines.base import Answer, Request, Sampling, answer_key
from semacdr.profiling.engines.chat import ended_answer, find_model, render, rules_for, spelled_tokens
from semacdr.profiling.engines.vllm_child import OWNER
from semacdr.profiling.words import spellings

CHUNK = 4096
GROUP = 32  # answers that are handed on, and so kept, together
LONGEST = 8192  # tokens of prompt and answer: item prompts are far below, and a longer context only takes memory
_NEVER = -100.0  # added to a token's score
_CPU_BATCH = 32
_CPU_CACHE_BYTES = 2 * 2**30


class VllmEngine:
    """Generates with the embedded SmolLM2-135M-Instruct, a local folder or a hub name.

    Args:
        model: which one.
        batch_size: sequences that are decoded at once (``max_num_seqs``); vLLM's choice on a GPU, 32 on a CPU.
        tensor_parallel: GPUs that one copy of the model is spread over.
    """

    name = "vllm"
    structured = True
    chunk = CHUNK

    def __init__(self, model: str = EMBEDDED, batch_size: int | None = None, tensor_parallel: int = 1) -> None:
        self.folder, self.identity = find_model(model)
        self.batch_size, self.tensor_parallel = batch_size, tensor_parallel
        self._llm: Any = None
        self._numbers = itertools.count()
        self._banned: dict[str, list[list[int]]] = {}

    def load(self) -> Any:
        """The ``vllm.LLM``, loaded once."""
        if self._llm is None:
            _set_up()
            try:
                import vllm
                from vllm.platforms import current_platform
            except ImportError as error:
                if error.name != "vllm":
                    raise
                raise MissingExtraError("vllm", "vllm") from None
            try:
                before = multiprocessing.active_children()
                self._llm = vllm.LLM(**self._settings(current_platform.is_cpu()))
                _report_death(self._llm, [one for one in multiprocessing.active_children() if one not in before])
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:300]
                raise InputError(f"vLLM cannot run this model here ({reason})", where=str(self.folder.path)) from None
        return self._llm

    def _settings(self, cpu: bool) -> dict[str, Any]:
        import torch
        import transformers

        from semacdr.device import emulates_bf16

        config = transformers.AutoConfig.from_pretrained(str(self.folder.path), local_files_only=True)
        settings: dict[str, Any] = {
            "model": str(self.folder.path),
            "dtype": "auto",
            "max_model_len": min(int(getattr(config, "max_position_embeddings", LONGEST)), LONGEST),
            "enable_prefix_caching": True,
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            "seed": 0,
            "use_tqdm_on_load": False,
        }
        if self.tensor_parallel > 1:
            settings["tensor_parallel_size"] = self.tensor_parallel
        if self.batch_size or cpu:
            settings["max_num_seqs"] = self.batch_size or _CPU_BATCH
        if cpu:
            # Blocks of the default size are longer than what short prompts share, so that nothing would be cached.
            # A prompt that is read in parts rewinds its request's random numbers, which only a GPU's generator can do.
            settings |= {"block_size": 32, "enforce_eager": True, "enable_chunked_prefill": False}
            if emulates_bf16(torch.device("cpu")):
                settings["dtype"] = "float32"
            if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
                settings["kv_cache_memory_bytes"] = _CPU_CACHE_BYTES
        return settings

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        """Answers in groups of about 32, as they are finished; a prompt that vLLM does not take fails alone."""
        engine = self.load().llm_engine
        refusals = _refusals()
        done: dict[int, Answer] = {}
        places: dict[str, int] = {}
        try:
            for place, request in enumerate(requests):
                tokens = self.prompt_tokens(request)
                if len(tokens) + sampling.max_new_tokens > engine.model_config.max_model_len:
                    done[place] = Answer("", "refused", len(tokens))
                    continue
                number = str(next(self._numbers))
                try:
                    engine.add_request(number, {"prompt_token_ids": tokens}, self.parameters(request, sampling))
                except refusals as error:  # a schema that cannot be decoded by, say
                    done[place] = Answer(" ".join(str(error).split())[:300], "failed", len(tokens))
                else:
                    places[number] = place
            while places:
                for output in engine.step():
                    place = places.pop(output.request_id)
                    done[place] = _answer(output, rules_for(requests[place], sampling))
                if len(done) >= GROUP:
                    yield done
                    done = {}
            if done:
                yield done
        finally:
            if places:  # the reader has had enough
                engine.abort_request(list(places))

    def prompt_tokens(self, request: Request) -> list[int]:
        """The prompt as vLLM reads it."""
        tokenizer = self.load().get_tokenizer()
        return list(tokenizer(render(tokenizer, request), add_special_tokens=False)["input_ids"])

    def parameters(self, request: Request, sampling: Sampling) -> Any:
        """The sampling of one request in vLLM's own form; one that is sampled has a seed of its own."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        rules = rules_for(request, sampling)
        single, longer = self._split_banned(request.banned)
        seed = int(answer_key(request, self.identity, sampling)[:12], 16) if sampling.temperature > 0 else None
        return SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            stop=list(rules.stop),
            seed=seed,
            logit_bias=dict.fromkeys(single, _NEVER) or None,
            bad_words=longer or None,
            structured_outputs=StructuredOutputsParams(json=request.schema) if request.schema else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _split_banned(self, banned: Sequence[str]) -> tuple[list[int], list[str]]:
        """The tokens that are a banned word, and the spellings that take several."""
        tokenizer = self.load().get_tokenizer()
        single: set[int] = set()
        longer: list[str] = []
        for word in banned:
            for spelled in spellings(word):
                if spelled not in self._banned:
                    self._banned[spelled] = spelled_tokens(tokenizer, [spelled])
                tokens = self._banned[spelled]
                single.update(some[0] for some in tokens if len(some) == 1)
                if any(len(some) > 1 for some in tokens):
                    longer.append(spelled)
        return sorted(single), longer


def _answer(output: Any, rules: Sampling) -> Answer:
    made = output.outputs[0]
    cost = len(output.prompt_token_ids), len(made.token_ids)
    if made.finish_reason not in ("stop", "length"):
        return Answer(f"vLLM ended the request ({made.finish_reason})", "failed", *cost)
    return ended_answer(made.text, made.finish_reason == "stop", rules, *cost)


def _report_death(llm: Any, processes: list[BaseProcess]) -> None:
    """Sees to it that ``step`` raises when vLLM's own process is killed, for whose outputs vLLM waits for ever."""
    outputs = getattr(llm.llm_engine.engine_core, "outputs_queue", None)
    if outputs is None or not processes:  # vLLM runs in this very process
        return

    def watch() -> None:
        wait([process.sentinel for process in processes])
        outputs.put_nowait(RuntimeError("vLLM's process is gone"))

    threading.Thread(target=watch, name="vllm-watch", daemon=True).start()


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises about one request, by its version."""
    from vllm import exceptions

    return (ValueError, getattr(exceptions, "VLLMClientError", ValueError))


def _set_up() -> None:
    """Sets what vLLM reads when it is imported; what the user has set stays, but nothing is sent anywhere."""
    os.environ["VLLM_NO_USAGE_STATS"] = os.environ["DO_NOT_TRACK"] = "1"
    os.environ[OWNER] = str(os.getpid())
    for name, value in {
        "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",  # a fork would not load the plugin that ends it with us
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is ours
        "VLLM_MAX_NUM_BAD_WORDS": "4096",
        "VLLM_MAX_BAD_WORDS_TOTAL_TOKENS": "16384",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
