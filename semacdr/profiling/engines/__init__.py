"""The engines that answer prompts, one file each, over one small protocol."""

from __future__ import annotations

from dataclasses import dataclass

from semacdr.errors import InputError, nearest
from semacdr.profiling.engines.base import Engine
from semacdr.profiling.engines.guard import GuardedEngine

ENGINES = ("vllm", "openai", "transformers", "recorded")


@dataclass(frozen=True)
class EngineOptions:
    """What only some engines need to know; none of it changes an answer's key.

    Attributes:
        base_url: ``openai``: the server, ``http://host:port/v1``; ``$OPENAI_BASE_URL`` where it is None.
        concurrency: ``openai``: requests that are under way at once.
        tensor_parallel: ``vllm``: GPUs that one copy of the model is spread over.
        stall_s: the process ends when no answer has come for so many seconds.
    """

    base_url: str | None = None
    concurrency: int = 16
    tensor_parallel: int = 1
    stall_s: float = 600.0


def make_engine(
    name: str, model: str | None = None, batch_size: int | None = None, options: EngineOptions | None = None
) -> Engine:
    """An engine by name.

    Args:
        name: one of ``ENGINES``.
        model: ``transformers`` and ``vllm``: a local folder or hub name, the embedded model by default; ``openai``:
            what the server calls it, needed where it serves several; ``recorded``: a record.
        batch_size: requests that are decoded together; the engine's own default where it is None.
        options: what only some engines need to know.

    Raises:
        InputError: no such engine, no record or server named, or a model that is not there.
    """
    options = options or EngineOptions()
    if name == "recorded":
        from semacdr.profiling.engines.recorded import RecordedEngine

        if model is None:
            raise InputError("the recorded engine needs a record", fix="--model FILE, or --model ml-100k")
        return RecordedEngine(model)
    return GuardedEngine(_live_engine(name, model, batch_size, options), options.stall_s)


def _live_engine(name: str, model: str | None, batch_size: int | None, options: EngineOptions) -> Engine:
    from semacdr.local_models import EMBEDDED

    if name == "transformers":
        from semacdr.profiling.engines.transformers import BATCH_SIZE, TransformersEngine

        return TransformersEngine(model or EMBEDDED, batch_size=batch_size or BATCH_SIZE)
    if name == "vllm":
        from semacdr.profiling.engines.vllm import VllmEngine

        return VllmEngine(model or EMBEDDED, batch_size, options.tensor_parallel)
    if name == "openai":
        from semacdr.profiling.engines.openai import OpenAIEngine
        from semacdr.profiling.engines.server import Server

        # The guard ends the process at as much silence: each request must come to something before.
        return OpenAIEngine(model, Server(options.base_url, options.stall_s), options.concurrency)
    raise InputError(f"unknown engine {name!r}", fix=nearest(name, ENGINES))
