"""The engines that answer prompts, one file each, over one small protocol."""

from __future__ import annotations

from semacdr.errors import InputError, nearest
from semacdr.profiling.engines.base import Engine

ENGINES = ("transformers", "recorded")


def make_engine(name: str, model: str | None = None) -> Engine:
    """An engine by name.

    Args:
        name: one of ``ENGINES``.
        model: ``transformers``: a local folder or hub name, the embedded model by default; ``recorded``: a record.

    Raises:
        InputError: no such engine, or no record named.
    """
    if name == "transformers":
        from semacdr.local_models import EMBEDDED
        from semacdr.profiling.engines.transformers import TransformersEngine

        return TransformersEngine(model or EMBEDDED)
    if name == "recorded":
        from semacdr.profiling.engines.recorded import RecordedEngine

        if model is None:
            raise InputError("the recorded engine needs a record", fix="--model FILE, or --model ml-100k")
        return RecordedEngine(model)
    raise InputError(f"unknown engine {name!r}", fix=nearest(name, ENGINES))
