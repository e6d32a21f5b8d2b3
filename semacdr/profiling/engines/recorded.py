"""The ``recorded`` engine: replays the answers of another engine, found by the same keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from semacdr.profiling.engines.base import Answer, ModelIdentity, Request, Sampling, answer_key
from semacdr.profiling.recorded import Record, find_record, read_record


class RecordedEngine:
    """Answers from a record (a file, a profile store, or the name of one that ships with the package).

    It bears the name and revision of the model that made the record, so that keys agree. What the record does not hold
    (a changed template, another item) comes back as ``missing`` and is counted, never made up.
    """

    name = "recorded"
    structured = False

    def __init__(self, record: str | Record, chunk: int = 1024) -> None:
        self.chunk = chunk
        self.record = record if isinstance(record, Record) else read_record(find_record(record))
        self.identity = ModelIdentity(self.record.model, self.record.revision)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[dict[int, Answer]]:
        """The recorded answers, or ``missing``, in one group."""
        keys = [answer_key(request, self.identity, sampling) for request in requests]
        yield {place: self.record.answers.get(key, Answer("", "missing")) for place, key in enumerate(keys)}
