"""The engines that answer prompts, one file each, over one small protocol."""

from __future__ import annotations

from semacdr.errors import InputError, nearest
from semacdr.profiling.engines.base import Engine

ENGINES = ("transformers", "recorded")


def make_engine(name: str, model: str | None = None, batch_size: int | None = None) -> Engine:
    """An engine by name.

    Args:
        name: one of ``ENGINES``.
        model: ``transformers``: a local folder or hub name, the embedded model by default; ``recorded``: a record.
        batch_size: requests that are decoded together; the engine's own default where it is None.

    Raises:
        InputError: no such engine, or no record named.
    """
    if name == "transformers":
        from semacdr.local_models import EMBEDDED
        from semacdr.profiling.engines.transformers import BATCH_SIZE, TransformersEngine

        return TransformersEngine(model or EMBEDDED, batch_size=batch_size or BATCH_SIZE)
    if name == "recorded":
        from semacdr.profiling.engines.recorded import RecordedEngine

        if model is None:
            raise InputError("the recorded engine needs a record", fix="--model FILE, or --model ml-100k")
        return RecordedEngine(model)
    raise InputError(f"unknown engine {name!r}", fix=nearest(name, ENGINES))
